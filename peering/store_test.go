package peering

import (
	"bytes"
	"context"
	"maps"
	"strings"
	"sync"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// memory is a Store that keeps everything in memory, with the same rules: all or nothing, and read your writes.
type memory struct {
	publisher *snapshot.Publisher

	mu      sync.Mutex
	private map[string][]byte
	commits [][]snapshot.Event
	// refuse, when set, is asked before each commit.
	refuse func([]snapshot.Event) error
}

func newMemory(events ...snapshot.Event) *memory {
	world := snapshot.NewWorld().With(1, indexed(snapshot.NewWorld(), 1, events))
	return &memory{publisher: snapshot.NewPublisher(world), private: map[string][]byte{}}
}

func (m *memory) World() *snapshot.World { return m.publisher.World() }

func (m *memory) Private(prefix ...string) (map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := maps.Clone(m.private)
	maps.DeleteFunc(found, func(path string, _ []byte) bool { return !strings.HasPrefix(path, strings.Join(prefix, "\x00")) })
	return found, nil
}

func (m *memory) Commit(ctx context.Context, events ...snapshot.Event) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != nil {
		if err := m.refuse(events); err != nil {
			return 0, err
		}
	}
	before := m.World()
	for _, event := range events {
		if event.Check != nil {
			if err := event.Check(before); err != nil {
				return 0, err
			}
		}
	}
	index := before.Index + 1
	var changed []snapshot.Key
	for _, event := range events {
		if event.Key.Table != snapshot.TablePrivate {
			changed = append(changed, event.Key)
		} else if value, ok := event.Object.([]byte); ok {
			m.private[event.Key.Path] = bytes.Clone(value)
		} else {
			delete(m.private, event.Key.Path)
		}
	}
	m.commits = append(m.commits, events)
	m.publisher.Publish(before.With(index, indexed(before, index, events)), changed)
	return index, nil
}

// secrets returns everything private as one text.
func (m *memory) secrets() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all strings.Builder
	for path, value := range m.private {
		all.WriteString(path + "=" + string(value) + "\n")
	}
	return all.String()
}

func (m *memory) setRefuse(refuse func([]snapshot.Event) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refuse = refuse
}

// since returns the commits after the first n.
func (m *memory) since(n int) [][]snapshot.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.commits[n:len(m.commits):len(m.commits)]
}

// indexed gives the objects of events their indexes, on copies, as a store does.
func indexed(before *snapshot.World, index uint64, events []snapshot.Event) []snapshot.Event {
	stamped := make([]snapshot.Event, len(events))
	for i, event := range events {
		switch object := event.Object.(type) {
		case *snapshot.Peer:
			c := *object
			c.Raft = raft(index, before.Peer(c.Name) != nil, c.CreateIndex)
			event.Object = &c
		case *snapshot.Import:
			c := *object
			c.Raft = raft(index, before.Import(c.Peer, c.Service) != nil, c.CreateIndex)
			event.Object = &c
		}
		stamped[i] = event
	}
	return stamped
}

func raft(index uint64, existed bool, created uint64) snapshot.Raft {
	if !existed {
		created = index
	}
	return snapshot.Raft{CreateIndex: created, ModifyIndex: index}
}
