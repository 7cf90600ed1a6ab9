package health

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

const (
	lookupTimeout = 5 * time.Second
	syncTimeout   = 10 * time.Second
)

// A resolver looks up the names that the newest World needs, again and again, and announces what changed. One goroutine
// owns all its state; look-ups run beside it and answer over a channel.
type resolver struct {
	*Health
	wanted  wanted
	names   map[string]*name
	agenda  agenda[string]
	running int
	answers chan answer
	lookups sync.WaitGroup
	waiting map[string]bool // names of the first World that were not looked up yet; nil before it
	once    sync.Once       // closes synced
}

// A name is one host name that is looked up.
type name struct {
	known   []netip.Addr // as announced; nil: not yet
	failing bool
}

type answer struct {
	host      string
	name      *name // to tell a name that came back from the one that went
	addresses []netip.Addr
	err       error
}

func newResolver(h *Health) *resolver {
	return &resolver{
		Health:  h,
		wanted:  wanted{bySource: map[snapshot.Key][]string{}, sources: map[string]int{}},
		names:   map[string]*name{},
		answers: make(chan answer),
	}
}

// run ends with ctx, after its look-ups. It waits for one of: the next World, an answer, the next name that is due, and
// at the start the time after which a missing answer holds up nobody any longer.
func (r *resolver) run(ctx context.Context) {
	defer r.lookups.Wait()
	sub := r.cfg.Publisher.Subscribe()
	defer sub.Close()
	patience := time.NewTimer(syncTimeout)
	defer patience.Stop()
	for {
		due, stop := r.start(ctx)
		select {
		case <-ctx.Done():
			stop()
			return
		case <-sub.Ready():
			r.follow(ctx, sub.Take())
		case a := <-r.answers:
			r.running--
			r.handle(ctx, a)
		case <-due:
		case <-patience.C:
			r.once.Do(func() { close(r.synced) })
		}
		stop()
	}
}

// start begins what is due, as far as the bound allows, and returns when to look again.
func (r *resolver) start(ctx context.Context) (<-chan time.Time, func() bool) {
	now := time.Now()
	for r.running < r.cfg.Concurrency {
		host, ok := r.agenda.take(now)
		if !ok {
			return r.agenda.wait(now)
		}
		r.running++
		n := r.names[host]
		r.lookups.Go(func() { r.lookup(ctx, host, n) })
	}
	return nil, func() bool { return false } // an answer comes first
}

func (r *resolver) lookup(ctx context.Context, host string, n *name) {
	limited, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addresses, err := r.cfg.Resolve(limited, host)
	if err == nil && len(addresses) == 0 {
		err = errors.New("no addresses")
	}
	select {
	case r.answers <- answer{host, n, addresses, err}:
	case <-ctx.Done():
	}
}

// follow takes up the names that a World needs and lets go of those that it does not.
func (r *resolver) follow(ctx context.Context, u snapshot.Update) {
	added, dropped := r.wanted.update(u)
	now := time.Now()
	for _, host := range added {
		r.names[host] = &name{}
		r.agenda.set(host, now)
	}
	for _, host := range dropped {
		known := r.names[host].known
		delete(r.names, host)
		r.agenda.set(host, time.Time{})
		if known != nil {
			r.announce(ctx, host, nil)
		}
	}
	if r.waiting == nil {
		r.waiting = map[string]bool{}
		for _, host := range added {
			r.waiting[host] = true
		}
	}
	r.settle(dropped...)
}

// settle takes names that were answered or dropped off what Synced waits for.
func (r *resolver) settle(hosts ...string) {
	for _, host := range hosts {
		delete(r.waiting, host)
	}
	if len(r.waiting) == 0 {
		r.once.Do(func() { close(r.synced) })
	}
}

func (r *resolver) handle(ctx context.Context, a answer) {
	n := r.names[a.host]
	if n != a.name {
		return
	}
	r.agenda.set(a.host, around(time.Now(), r.cfg.ResolveEvery))
	defer r.settle(a.host)
	log := r.cfg.Log.WithField(logkey.Address, a.host)
	if a.err != nil {
		// The last answer stays: a resolver that is down must not take gateways away.
		if !n.failing {
			log.WithError(a.err).Warn("name did not resolve")
		}
		n.failing = true
		return
	}
	if n.failing {
		log.Info("name resolves again")
	}
	n.failing = false
	for i, address := range a.addresses {
		a.addresses[i] = address.Unmap().WithZone("")
	}
	slices.SortFunc(a.addresses, netip.Addr.Compare)
	a.addresses = slices.Compact(a.addresses)
	if !slices.Equal(n.known, a.addresses) && r.announce(ctx, a.host, &snapshot.ResolvedName{Addresses: a.addresses}) {
		n.known = a.addresses
	}
}

// announce tells whether the World has it now. What it has not is announced again with the next answer.
func (r *resolver) announce(ctx context.Context, host string, resolved *snapshot.ResolvedName) bool {
	event := snapshot.Event{Key: snapshot.NewKey(snapshot.TableNames, host)}
	if resolved != nil {
		event.Object = resolved
	}
	err := r.cfg.Store.Announce(ctx, event)
	if err != nil && ctx.Err() == nil {
		r.cfg.Log.WithError(err).WithField(logkey.Address, host).Warn("name was not announced")
	}
	return err == nil
}
