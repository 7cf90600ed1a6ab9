package state

import (
	"bufio"
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
