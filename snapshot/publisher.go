package snapshot

import (
	"context"
	"sync"
)

// A Publisher holds the newest World and tells its subscribers of changes. One goroutine publishes.
type Publisher struct {
	mu          sync.Mutex
	world       *World
	subscribers map[*Subscription]struct{}
}

// NewPublisher returns a Publisher that holds world.
func NewPublisher(world *World) *Publisher {
	return &Publisher{world: world, subscribers: map[*Subscription]struct{}{}}
}

// World returns the newest World.
func (p *Publisher) World() *World {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.world
}

// Publish makes world the newest one. changed names every object in which it differs from the one before.
func (p *Publisher) Publish(world *World, changed []Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.world = world
	for s := range p.subscribers {
		s.put(changed)
	}
}

// Subscribe returns a subscription whose first Next answers at once, with All set.
func (p *Publisher) Subscribe() *Subscription {
	s := &Subscription{publisher: p, changed: map[Key]struct{}{}, all: true, ready: make(chan struct{}, 1)}
	s.ready <- struct{}{}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subscribers[s] = struct{}{}
	return s
}

// A Subscription is a mailbox of one: whoever is slow finds only the newest World, with all keys that changed since
// it last looked. Its methods are for one goroutine.
type Subscription struct {
	publisher *Publisher
	ready     chan struct{}
	changed   map[Key]struct{} // guarded by publisher.mu
	all       bool             // guarded by publisher.mu
}

// Update is the newest World and what changed since the update before.
type Update struct {
	World   *World
	Changed []Key
	All     bool // Changed is unknown: look at everything
}

// Next waits for the next change, and returns ctx's error when it ends first.
func (s *Subscription) Next(ctx context.Context) (Update, error) {
	select {
	case <-ctx.Done():
		return Update{}, ctx.Err()
	case <-s.ready:
		return s.Take(), nil
	}
}

// Ready is sent to once for every change that Take has not seen: whoever selects on several things receives from it and
// then calls Take.
func (s *Subscription) Ready() <-chan struct{} { return s.ready }

// Take returns the newest World and all that changed since the call before.
func (s *Subscription) Take() Update {
	s.publisher.mu.Lock()
	defer s.publisher.mu.Unlock()
	update := Update{World: s.publisher.world, All: s.all, Changed: make([]Key, 0, len(s.changed))}
	for key := range s.changed {
		update.Changed = append(update.Changed, key)
	}
	s.changed, s.all = map[Key]struct{}{}, false
	return update
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.publisher.mu.Lock()
	defer s.publisher.mu.Unlock()
	delete(s.publisher.subscribers, s)
}

// put runs with publisher.mu held.
func (s *Subscription) put(changed []Key) {
	for _, key := range changed {
		s.changed[key] = struct{}{}
	}
	select {
	case s.ready <- struct{}{}:
	default:
	}
}
