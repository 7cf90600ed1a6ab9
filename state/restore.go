package state

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	bolt "go.etcd.io/bbolt"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// unfit says why a backup is not restored: it is the sender's to mend, and none of our disk's doing.
type unfit struct{ cause error }

func (u unfit) Error() string { return "snapshot: " + u.cause.Error() }
func (u unfit) Unwrap() error { return u.cause }

// HTTPStatus is what an HTTP API answers with.
func (unfit) HTTPStatus() int { return 400 }

// ownDisk remembers when it could not be written to.
type ownDisk struct {
	io.Writer
	err error
}

func (d *ownDisk) Write(p []byte) (int, error) {
	n, err := d.Writer.Write(p)
	if err != nil {
		d.err = err
	}
	return n, err
}

// Restore replaces everything but the audit trail by what a backup holds, in one write: all of it or, when the backup
// is damaged, of a newer version or refused by Config.Restorable, nothing: such an error has HTTPStatus() int, 400. Objects that differ get new indexes.
// Credentials that were revoked here stay revoked, and Config.Retire has its word on private records. The token in this directory's operator.token stays
// good; the other operators' too when the backup leaves none. The caller then ends the process: who we are, and our keys, may be others now.
func (s *Store) Restore(ctx context.Context, r io.Reader) (SnapshotInfo, error) {
	file, err := os.CreateTemp(s.cfg.Dir, restoreTemp)
	if err != nil {
		return SnapshotInfo{}, fmt.Errorf("snapshot: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	body := &ownDisk{Writer: file}
	info, err := readBackup(r, body)
	switch {
	case body.err != nil:
		return SnapshotInfo{}, fmt.Errorf("snapshot: %w", body.err)
	case err != nil:
		return SnapshotInfo{}, unfit{err}
	}
	var b contents
	if err := guarded(func() (err error) { b, err = s.readContents(file.Name()); return err }); err != nil {
		return SnapshotInfo{}, unfit{err}
	}
	if cluster, ok := b.objects[snapshot.NewKey(snapshot.TableCluster)].(*snapshot.Cluster); ok && s.cfg.Restorable != nil {
		if err := s.cfg.Restorable(*cluster); err != nil {
			return SnapshotInfo{}, unfit{err}
		}
	}
	_, err = s.submit(ctx, &request{
		build: func(tx *bolt.Tx) ([]snapshot.Event, error) {
			if err := s.retire(tx, b); err != nil {
				return nil, err
			}
			return b.events(tx)
		},
		extra: func(tx *bolt.Tx) error { return s.replaceTokens(tx, b) },
		audit: []AuditRecord{{Action: "snapshot.restore", Object: info.Checksum, Detail: info.TrustDomain}},
		after: func() { s.keepTokens(b.tokens) },
	})
	return info, err
}

// contents is what a backup holds, without indexes and audit trail.
type contents struct {
	objects map[snapshot.Key]any
	tokens  map[string]*credential // by accessor
	revoked map[string]revocation  // likewise
}

func (s *Store) readContents(path string) (contents, error) {
	b := contents{objects: map[snapshot.Key]any{}, tokens: map[string]*credential{}, revoked: map[string]revocation{}}
	if err := s.cfg.inspectFile(path); err != nil {
		return b, err
	}
	db, err := bolt.Open(path, 0o600, s.cfg.options(true))
	if err != nil {
		return b, err
	}
	defer db.Close()
	return b, db.View(func(tx *bolt.Tx) error {
		events, err := readEvents(tx)
		if err != nil {
			return err
		}
		for _, event := range events {
			b.objects[event.Key] = event.Object
		}
		tokens, err := readTokens(tx)
		for _, c := range tokens {
			b.tokens[c.Accessor] = c
		}
		if err != nil {
			return err
		}
		if err := readRevoked(tx, b.revoked); err != nil {
			return err
		}
		return tx.Bucket(bucketOf(privateTable)).ForEach(func(key, value []byte) error {
			b.objects[snapshot.Key{Table: privateTable, Path: pathOf(key)}] = append([]byte{}, value...)
			return nil
		})
	})
}

// events returns what turns what is stored into b.
func (b contents) events(tx *bolt.Tx) ([]snapshot.Event, error) {
	events := make([]snapshot.Event, 0, len(b.objects))
	for key, object := range b.objects {
		events = append(events, snapshot.Event{Key: key, Object: object})
	}
	names := []snapshot.Table{privateTable}
	for name := range tables {
		names = append(names, name)
	}
	for _, name := range names {
		err := tx.Bucket(bucketOf(name)).ForEach(func(stored, _ []byte) error {
			key := snapshot.Key{Table: name, Path: pathOf(stored)}
			if _, stays := b.objects[key]; !stays {
				events = append(events, snapshot.Event{Key: key})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return events, nil
}

// retire lets Config.Retire replace private records of a backup.
func (s *Store) retire(tx *bolt.Tx, b contents) error {
	if s.cfg.Retire == nil {
		return nil
	}
	for key, object := range b.objects {
		if key.Table != privateTable {
			continue
		}
		running := bytes.Clone(tx.Bucket(bucketOf(privateTable)).Get(storedKey(key)))
		restored, err := s.cfg.Retire(key, object.([]byte), running)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		b.objects[key] = restored
	}
	return nil
}
