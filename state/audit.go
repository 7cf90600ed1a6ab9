package state

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// maxAuditRecords bounds the trail, at some 300 bytes a record.
const maxAuditRecords = 100_000

// An AuditRecord says who did what to which object. Records are never changed, and the oldest go when there are too many; each
// carries the hash of the one before it, and the newest and the last that went are named apart, so that a record that was changed,
// left out or cut off at an end is found.
// They hold no secrets. The number, time, actor and hashes are the store's to fill in.
type AuditRecord struct {
	Number uint64    `json:"number"` // from 1
	Time   time.Time `json:"time"`
	Actor  string    `json:"actor,omitempty"` // Config.Actor of the writer's context
	Action string    `json:"action"`          // "config.write", "token.revoke", …
	Object string    `json:"object"`          // table/parts of the object's key, or an accessor
	Detail string    `json:"detail,omitempty"`
	Before string    `json:"before,omitempty"` // hex SHA-256 of the stored record before this one
}

// auditHead is the newest record, or the newest of those that went.
type auditHead struct {
	Number uint64 `json:"number"`
	Hash   string `json:"hash"` // hex SHA-256 of the record as stored
}

// audited names the actions of tables whose every change is recorded. Private records are secrets, and their keys say
// what they are for: a peering token that was made, used or revoked is one that was written or deleted.
var audited = map[snapshot.Table]string{
	snapshot.TableEntries: "config",
	snapshot.TablePeers:   "peering",
	privateTable:          "private",
	// A check is recorded when it comes and goes, not each time that it passes or fails.
	snapshot.TableInstances: "service",
	snapshot.TableNodes:     "node",
	snapshot.TableChecks:    "check",
}

// Audit records what happened beside the store's own writes. It returns once the record is on the disk.
func (s *Store) Audit(ctx context.Context, action, object, detail string) error {
	_, err := s.submit(ctx, &request{audit: []AuditRecord{{Action: action, Object: object, Detail: detail}}})
	return err
}

// AuditRecords returns the newest records, at most limit, the newest first. A before other than 0 is the number of a record: then those that are older.
func (s *Store) AuditRecords(limit int, before uint64) ([]AuditRecord, error) {
	var records []AuditRecord
	err := s.db.View(func(tx *bolt.Tx) error {
		cursor := tx.Bucket(auditBucket).Cursor()
		key, value := cursor.Last()
		if before > 0 {
			if found, _ := cursor.Seek(auditNumber(before)); found != nil {
				key, value = cursor.Prev()
			}
		}
		for ; key != nil && len(records) < limit; key, value = cursor.Prev() {
			var r AuditRecord
			if err := json.Unmarshal(value, &r); err != nil {
				return fmt.Errorf("audit record %x: %w", key, err)
			}
			records = append(records, r)
		}
		return nil
	})
	return records, err
}

// An AuditExtent is what the trail holds. Whoever notes Newest and Hash elsewhere can tell later that nobody wrote the whole trail anew.
type AuditExtent struct {
	First  uint64 `json:"first"` // the oldest record that is kept
	Newest uint64 `json:"newest"`
	Hash   string `json:"hash"` // hex SHA-256 of the newest record as stored
}

// VerifyAudit checks the whole trail and returns what it holds. The error names the first record that is not what was written.
func (s *Store) VerifyAudit() (AuditExtent, error) {
	var extent AuditExtent
	err := s.db.View(func(tx *bolt.Tx) (err error) {
		extent, err = verifyAudit(tx)
		return err
	})
	return extent, err
}

func verifyAudit(tx *bolt.Tx) (AuditExtent, error) {
	newest, err := loadAudit(tx, auditKey)
	if err != nil {
		return AuditExtent{}, err
	}
	head, err := loadAudit(tx, auditFloorKey)
	if err != nil {
		return AuditExtent{}, err
	}
	first := head.Number + 1
	err = tx.Bucket(auditBucket).ForEach(func(key, value []byte) error {
		var r AuditRecord
		number := head.Number + 1
		switch err := json.Unmarshal(value, &r); {
		case !bytes.Equal(key, auditNumber(number)):
			return fmt.Errorf("audit record %d is missing", number)
		case err != nil:
			return fmt.Errorf("audit record %d: %w", number, err)
		case r.Number != number:
			return fmt.Errorf("audit record %d says it is %d", number, r.Number)
		case r.Before != head.Hash:
			return fmt.Errorf("audit record %d does not follow the one before it: one of them was changed", number)
		}
		head = auditHead{Number: number, Hash: hashOf(value)}
		return nil
	})
	if err == nil && head != newest {
		err = fmt.Errorf("audit record %d is not the newest that was written, number %d: it was changed, or records were cut off", head.Number, newest.Number)
	}
	return AuditExtent{first, newest.Number, newest.Hash}, err
}

func loadAudit(tx *bolt.Tx, name []byte) (auditHead, error) {
	var head auditHead
	if value := tx.Bucket(metaBucket).Get(name); value != nil {
		if err := json.Unmarshal(value, &head); err != nil {
			return head, fmt.Errorf("audit: %w", err)
		}
	}
	return head, nil
}

func auditNumber(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func hashOf(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

// recordChange records a change of an audited table.
func (w *write) recordChange(actor string, c change) error {
	action, ok := audited[c.key.Table]
	if !ok {
		return nil
	}
	if c.key.Table == snapshot.TableChecks && !c.gone && c.created != 0 {
		return nil
	}
	// When a peer was seen last is stored each minute, by nobody.
	if parts := c.key.Parts(); c.key.Table == privateTable && len(parts) > 2 && parts[0] == "peering" && parts[1] == "seen" {
		return nil
	}
	verb := ".write"
	if c.gone {
		verb = ".delete"
	}
	return w.record(actor, AuditRecord{Action: action + verb, Object: c.key.String()})
}

// record appends to the trail within the transaction of what it records.
func (w *write) record(actor string, r AuditRecord) error {
	if err := w.begin(); err != nil {
		return err
	}
	r.Number, r.Time, r.Actor, r.Before = w.audit.Number+1, w.store.cfg.Now().UTC(), actor, w.audit.Hash
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	w.audit = auditHead{Number: r.Number, Hash: hashOf(value)}
	if err := w.tx.Bucket(auditBucket).Put(auditNumber(r.Number), value); err != nil {
		return err
	}
	return w.cutAudit()
}

// cutAudit removes the oldest records once there are a tenth too many, and remembers the last of them.
func (w *write) cutAudit() error {
	most := uint64(w.store.cfg.AuditRecords)
	if w.audit.Number <= most {
		return nil
	}
	floor, err := loadAudit(w.tx, auditFloorKey)
	if err != nil || w.audit.Number-floor.Number <= most+most/10 {
		return err
	}
	bucket := w.tx.Bucket(auditBucket)
	for w.audit.Number-floor.Number > most {
		number := auditNumber(floor.Number + 1)
		value := bucket.Get(number)
		if value == nil {
			return nil // it was tampered with: what is left is evidence, and VerifyAudit says so
		}
		floor = auditHead{floor.Number + 1, hashOf(value)}
		if err := bucket.Delete(number); err != nil {
			return err
		}
	}
	return floor.put(w.tx, auditFloorKey)
}

func (h auditHead) put(tx *bolt.Tx, name []byte) error {
	value, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return tx.Bucket(metaBucket).Put(name, value)
}
