package state

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// loaded is one object, or one deletion, as it is in the file.
type loaded struct {
	index uint64
	event snapshot.Event
}

// load reads the World, the credentials and the head of the audit trail.
func (s *Store) load() error {
	return s.db.View(func(tx *bolt.Tx) error {
		index, err := getIndex(tx)
		if err != nil {
			return err
		}
		events, err := readEvents(tx)
		if err != nil {
			return err
		}
		world := worldOf(events)
		if world.Index > index {
			return fmt.Errorf("index %d: an object has %d", index, world.Index)
		}
		s.publisher = snapshot.NewPublisher(world.With(index, nil))
		s.reserved = index
		if s.audit, err = loadAudit(tx); err != nil {
			return err
		}
		return s.loadTokens(tx)
	})
}

// readEvents returns everything that made the World, in the order in which it happened.
func readEvents(tx *bolt.Tx) ([]loaded, error) {
	var events []loaded
	// Deletions first: at one index nothing is both deleted and there.
	err := tx.Bucket(goneBucket).ForEach(func(key, value []byte) error {
		table, path, _ := strings.Cut(string(key), "\x00")
		if len(value) != 8 {
			return fmt.Errorf("deletion %q: %d bytes: want 8", key, len(value))
		}
		event := snapshot.Event{Key: snapshot.Key{Table: snapshot.Table(table), Path: path}}
		events = append(events, loaded{binary.BigEndian.Uint64(value), event})
		return nil
	})
	if err != nil {
		return nil, err
	}
	for name, t := range tables {
		bucket := tx.Bucket(bucketOf(name))
		if bucket == nil {
			return nil, fmt.Errorf("table %s is not there", name)
		}
		err := bucket.ForEach(func(key, value []byte) error {
			key0 := snapshot.Key{Table: name, Path: pathOf(key)}
			object, index, err := t.read(value)
			if err != nil {
				return fmt.Errorf("%s: %w", key0, err)
			}
			event := snapshot.Event{Key: key0, Object: object}
			events = append(events, loaded{index, event})
			return checkEvent(event)
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(events, func(a, b loaded) int { return cmp.Compare(a.index, b.index) })
	return events, nil
}

// read returns a stored object with its indexes, and the index at which it last changed.
func (t table) read(value []byte) (any, uint64, error) {
	var stored record
	if err := json.Unmarshal(value, &stored); err != nil {
		return nil, 0, err
	}
	object := t.empty()
	if err := decode(stored.Object, object); err != nil {
		return nil, 0, err
	}
	return t.indexed(object, snapshot.Raft{CreateIndex: stored.Create, ModifyIndex: stored.Modify}), stored.Modify, nil
}

// worldOf replays events, so that World.Modified answers as it did before.
func worldOf(events []loaded) *snapshot.World {
	world := snapshot.NewWorld()
	for len(events) > 0 {
		index := events[0].index
		n := slices.IndexFunc(events, func(l loaded) bool { return l.index != index })
		if n < 0 {
			n = len(events)
		}
		batch := make([]snapshot.Event, n)
		for i, l := range events[:n] {
			batch[i] = l.event
		}
		world = world.With(index, batch)
		events = events[n:]
	}
	return world
}
