package state

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// A backup is one line with magic and a SnapshotInfo in JSON, then a copy of the file, then the SHA-256 of all that in
// hex and a line end; all that in an archive.
const (
	magic         = "isthmus-snapshot "
	backupFormat  = 1
	maxHeader     = 64 << 10
	trailerLength = 2*sha256.Size + 1

	snapshotTemp, restoreTemp = "snapshot-*.tmp", "restore-*.tmp"
)

// SnapshotInfo describes a backup. It is written beside the copy, so that it can be read without opening it.
type SnapshotInfo struct {
	Format      int            `json:"format"`
	Schema      int            `json:"schema"`
	Created     time.Time      `json:"created"`
	Index       uint64         `json:"index"` // of the World
	Size        int64          `json:"size"`  // of the copy, in bytes
	TrustDomain string         `json:"trust_domain,omitempty"`
	Datacenter  string         `json:"datacenter,omitempty"`
	Objects     map[string]int `json:"objects"` // by table
	Checksum    string         `json:"-"`       // SHA-256 of the whole, in hex, once it was verified
}

// Snapshot writes a consistent backup of everything, keys and the hashes of tokens included, while writes go on.
func (s *Store) Snapshot(w io.Writer) error {
	// A slow reader must not hold a transaction, for that would hold up writers: copy first, then send.
	file, err := os.CreateTemp(s.cfg.Dir, snapshotTemp)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	info := SnapshotInfo{Format: backupFormat, Schema: schema, Created: s.cfg.Now().UTC(), Objects: map[string]int{}}
	err = s.db.View(func(tx *bolt.Tx) error {
		if err := info.describe(tx); err != nil {
			return err
		}
		info.Size, err = tx.WriteTo(file)
		return err
	})
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = info.write(w, file)
	}
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

func (info *SnapshotInfo) describe(tx *bolt.Tx) error {
	for name := range tables {
		if n := tx.Bucket(bucketOf(name)).Stats().KeyN; n > 0 {
			info.Objects[string(name)] = n
		}
	}
	if value := tx.Bucket(bucketOf(snapshot.TableCluster)).Get(storedKey(snapshot.NewKey(snapshot.TableCluster))); value != nil {
		object, err := tables[snapshot.TableCluster].read(value)
		if err != nil {
			return err
		}
		cluster := object.(*snapshot.Cluster)
		info.TrustDomain, info.Datacenter = cluster.TrustDomain, cluster.Datacenter
	}
	var err error
	info.Index, err = getIndex(tx)
	return err
}

func (info *SnapshotInfo) write(w io.Writer, body io.Reader) error {
	text, err := json.Marshal(info)
	if err != nil {
		return err
	}
	header := fmt.Appendf(nil, "%s%s\n", magic, text)
	return writeArchive(w, *info, int64(len(header))+info.Size+trailerLength, func(w io.Writer) error {
		sum := sha256.New()
		both := io.MultiWriter(w, sum)
		if _, err := both.Write(header); err != nil {
			return err
		}
		if _, err := io.Copy(both, body); err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%x\n", sum.Sum(nil))
		return err
	})
}

// InspectSnapshot reads a whole backup and returns what it is. It refuses a damaged one, one of a newer version, and with
// ErrConsulSnapshot a Consul's.
func InspectSnapshot(r io.Reader) (SnapshotInfo, error) {
	info, err := readBackup(r, io.Discard)
	if err != nil {
		err = fmt.Errorf("snapshot: %w", err)
	}
	return info, err
}

// readBackup copies the file in a backup to body and verifies the whole.
func readBackup(r io.Reader, body io.Writer) (SnapshotInfo, error) {
	r, err := openArchive(r)
	if err != nil {
		return SnapshotInfo{}, err
	}
	buffered := bufio.NewReaderSize(r, maxHeader)
	sum := sha256.New()
	info, err := readHeader(buffered, sum)
	if err != nil {
		return SnapshotInfo{}, err
	}
	if n, err := io.CopyN(io.MultiWriter(body, sum), buffered, info.Size); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("is cut off: has %d bytes of %d", n, info.Size)
		}
		return SnapshotInfo{}, err
	}
	trailer, err := io.ReadAll(io.LimitReader(buffered, trailerLength+1))
	if err != nil {
		return SnapshotInfo{}, err
	}
	info.Checksum = hex.EncodeToString(sum.Sum(nil))
	if string(trailer) != info.Checksum+"\n" {
		return SnapshotInfo{}, errors.New("is damaged: its checksum is another")
	}
	return info, nil
}

func readHeader(r *bufio.Reader, sum hash.Hash) (SnapshotInfo, error) {
	line, err := r.ReadSlice('\n')
	header, ok := strings.CutPrefix(string(line), magic)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return SnapshotInfo{}, err
	}
	if err != nil || !ok {
		return SnapshotInfo{}, fmt.Errorf("is not a snapshot of ours: want it to start with %q", magic)
	}
	sum.Write(line)
	var info SnapshotInfo
	switch err := json.Unmarshal([]byte(header), &info); {
	case err != nil:
		return SnapshotInfo{}, fmt.Errorf("is damaged: header: %w", err)
	case info.Format > backupFormat || info.Schema > schema:
		return SnapshotInfo{}, fmt.Errorf("was written by a newer version: format %d, schema %d, want at most %d and %d", info.Format, info.Schema, backupFormat, schema)
	case info.Format < 1 || info.Schema < 1 || info.Size < 1:
		return SnapshotInfo{}, errors.New("is damaged: header is incomplete")
	}
	return info, nil
}

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
// is damaged, of a newer version or refused by Config.Restorable, nothing: such an error has HTTPStatus() int, 400. Objects that differ get new indexes. The token
// in this directory's operator.token stays good. The caller then ends the process: who we are, and our keys, may be others now.
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
		build: b.events,
		extra: func(tx *bolt.Tx) error { return s.replaceTokens(tx, b.tokens) },
		audit: []AuditRecord{{Action: "snapshot.restore", Object: info.Checksum, Detail: info.TrustDomain}},
		after: func() { s.keepTokens(b.tokens) },
	})
	return info, err
}

// contents is what a backup holds, without indexes and audit trail.
type contents struct {
	objects map[snapshot.Key]any
	tokens  map[string]*credential // by accessor
}

func (s *Store) readContents(path string) (contents, error) {
	b := contents{objects: map[snapshot.Key]any{}, tokens: map[string]*credential{}}
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
