package state

import (
	"encoding/json"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

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
		s.publisher = snapshot.NewPublisher(snapshot.Loaded(index, events))
		s.reserved = index
		if s.audit, err = loadAudit(tx, auditKey); err != nil {
			return err
		}
		return s.loadTokens(tx)
	})
}

// readEvents returns every object of a World.
func readEvents(tx *bolt.Tx) ([]snapshot.Event, error) {
	var events []snapshot.Event
	for name, t := range tables {
		bucket := tx.Bucket(bucketOf(name))
		if bucket == nil {
			return nil, fmt.Errorf("table %s is not there", name)
		}
		err := bucket.ForEach(func(stored, value []byte) error {
			event := snapshot.Event{Key: snapshot.Key{Table: name, Path: pathOf(stored)}}
			var err error
			if event.Object, err = t.read(value); err != nil {
				return fmt.Errorf("%s: %w", event.Key, err)
			}
			events = append(events, event)
			return checkEvent(event)
		})
		if err != nil {
			return nil, err
		}
	}
	return events, nil
}

// read returns a stored object with its indexes.
func (t table) read(value []byte) (any, error) {
	var stored record
	if err := json.Unmarshal(value, &stored); err != nil {
		return nil, err
	}
	object := t.empty()
	if err := decode(stored.Object, object); err != nil {
		return nil, err
	}
	return t.indexed(object, snapshot.Raft{CreateIndex: stored.Create, ModifyIndex: stored.Modify}), nil
}
