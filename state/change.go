package state

import (
	"bytes"
	"encoding/json"

	bolt "go.etcd.io/bbolt"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

const privateTable = snapshot.TablePrivate

// A record is an object as it is stored, in the bucket of its table.
type record struct {
	Create uint64          `json:"create"`
	Modify uint64          `json:"modify"`
	Object json.RawMessage `json:"object"` // see encode
}

func bucketOf(t snapshot.Table) []byte { return []byte("table:" + t) }

// storedKey is the key of an object in its table's bucket. It is never empty, as bbolt wants it.
func storedKey(key snapshot.Key) []byte { return []byte(":" + key.Path) }

func pathOf(storedKey []byte) string { return string(storedKey[1:]) }

// A change is an event that differs from what is stored.
type change struct {
	key     snapshot.Key
	object  any    // as the event has it
	encoded []byte // of object
	created uint64 // CreateIndex of what is stored; 0: new
	gone    bool
}

// visible tells whether the World changes with it.
func (c change) visible() bool { return c.key.Table != privateTable }

// newChange compares an event with what is stored. The second value is false when it changes nothing.
func newChange(tx *bolt.Tx, event snapshot.Event) (change, bool, error) {
	c := change{key: event.Key, object: event.Object, gone: event.Object == nil}
	before := tx.Bucket(bucketOf(c.key.Table)).Get(storedKey(c.key))
	if c.gone {
		return c, before != nil, nil
	}
	if c.key.Table == privateTable {
		c.encoded = event.Object.([]byte)
		return c, before == nil || !bytes.Equal(before, c.encoded), nil
	}
	var err error
	// Indexes are ours to give, so those that the object came with are not compared and not stored inside it.
	if c.encoded, err = encode(tables[c.key.Table].indexed(event.Object, snapshot.Raft{})); err != nil || before == nil {
		return c, true, err
	}
	var stored record
	if err := json.Unmarshal(before, &stored); err != nil {
		return c, false, err
	}
	c.created = stored.Create
	return c, !bytes.Equal(stored.Object, c.encoded), nil
}

// put writes a change into the transaction and returns its event, with the object as the World shall hold it.
func (w *write) put(c change, index uint64, r *request) (snapshot.Event, error) {
	if c.key.Table == snapshot.TableNames {
		return snapshot.Event{Key: c.key, Object: c.object}, nil
	}
	bucket := w.tx.Bucket(bucketOf(c.key.Table))
	if err := w.recordChange(r.actor, c); err != nil {
		return snapshot.Event{}, err
	}
	if c.key.Table == privateTable {
		if c.gone {
			return snapshot.Event{}, bucket.Delete(storedKey(c.key))
		}
		return snapshot.Event{}, bucket.Put(storedKey(c.key), c.encoded)
	}
	if c.gone {
		return snapshot.Event{Key: c.key}, bucket.Delete(storedKey(c.key))
	}
	raft := snapshot.Raft{CreateIndex: c.created, ModifyIndex: index}
	if c.created == 0 {
		raft.CreateIndex = index
	}
	value, err := json.Marshal(record{Create: raft.CreateIndex, Modify: raft.ModifyIndex, Object: c.encoded})
	if err != nil {
		return snapshot.Event{}, err
	}
	event := snapshot.Event{Key: c.key, Object: tables[c.key.Table].indexed(c.object, raft)}
	return event, bucket.Put(storedKey(c.key), value)
}
