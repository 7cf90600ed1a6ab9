package state

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	fileName = "isthmus.db"
	// schema is the version of what the file holds. A file with a higher one is refused; one with a lower one is
	// brought up to date when it is opened.
	schema = 1
	// maxKey bounds the identifying parts of an object together. bbolt's own bound is 32,768.
	maxKey = 4096
)

// The buckets of the file besides one for each table.
var (
	metaBucket  = []byte("meta")        // schema, index, audit: see the keys below
	tokenBucket = []byte("credentials") // accessor → credential
	auditBucket = []byte("audit")       // number, big endian → AuditRecord

	schemaKey = []byte("schema") // JSON number
	indexKey  = []byte("index")  // big endian; no World of this store ever had a higher one
	auditKey  = []byte("audit")  // JSON of auditHead

	auditFloorKey = []byte("audit-floor") // likewise, of the newest record that was removed
)

// prepareDir makes the data directory, for its owner only.
func (c Config) prepareDir() error {
	if c.Dir == "" {
		return errors.New("data directory: want a path")
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	info, err := os.Stat(c.Dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	// A volume may belong to somebody else. What is in the directory is closed to others all the same.
	if err := os.Chmod(c.Dir, 0o700); err != nil {
		c.Log.WithError(err).Warn("data directory is open to other users")
	}
	return nil
}

func (c Config) options(readOnly bool) *bolt.Options {
	return &bolt.Options{Timeout: c.LockTimeout, ReadOnly: readOnly, FreelistType: bolt.FreelistMapType}
}

// openFile returns the opened file, made if there was none, after everything in it was found readable.
func (c Config) openFile() (*bolt.DB, error) {
	path := filepath.Join(c.Dir, fileName)
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		if err := c.createFile(path); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case info.Size() == 0:
		return nil, fmt.Errorf("%s is empty, which no version of ours leaves behind: restore a backup, or remove it to start anew", fileName)
	case info.Mode().Perm()&0o077 != 0:
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, err
		}
	}
	// Opening for writing changes a file, so a first look decides whether it is ours and whole.
	if err := guarded(func() error { return c.inspectFile(path) }); err != nil {
		return nil, c.openError(err)
	}
	var db *bolt.DB
	err := guarded(func() (err error) {
		db, err = bolt.Open(path, 0o600, c.options(false))
		return err
	})
	if err != nil {
		return nil, c.openError(err)
	}
	c.removeLeftovers()
	return db, nil
}

// removeLeftovers removes copies that a process was killed over: they hold keys.
func (c Config) removeLeftovers() {
	for _, pattern := range []string{snapshotTemp, restoreTemp} {
		found, _ := filepath.Glob(filepath.Join(c.Dir, pattern)) // answers only bad patterns
		for _, path := range found {
			if err := os.Remove(path); err != nil {
				c.Log.WithError(err).Warn("leftover copy could not be removed")
			}
		}
	}
}

func (c Config) openError(err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("another process uses it: waited %s for the lock of %s", c.LockTimeout, fileName)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return fmt.Errorf("%s is damaged or not a store (%w): restore a backup", fileName, err)
	}
	return err
}

// inspectFile reads every page of a file without changing it.
func (c Config) inspectFile(path string) error {
	db, err := bolt.Open(path, 0o600, c.options(true))
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bolt.Tx) error {
		if err := checkSchema(tx); err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return fmt.Errorf("%s is cut off: has %d bytes, want %d: restore a backup", fileName, info.Size(), tx.Size())
		}
		return tx.ForEach(func(_ []byte, bucket *bolt.Bucket) error {
			return bucket.ForEach(func(_, _ []byte) error { return nil })
		})
	})
}

func checkSchema(tx *bolt.Tx) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		return fmt.Errorf("%s is not a store of ours: bucket %q is not there", fileName, metaBucket)
	}
	var version int
	if err := json.Unmarshal(meta.Get(schemaKey), &version); err != nil {
		return fmt.Errorf("%s: schema: %w", fileName, err)
	}
	if version > schema {
		return fmt.Errorf("%s was written by a newer version: schema %d, want at most %d", fileName, version, schema)
	}
	if version < 1 {
		return fmt.Errorf("%s: schema %d: want 1 to %d", fileName, version, schema)
	}
	return nil
}

// createFile makes a whole store under another name and then gives it its own, so that a crash leaves all or nothing,
// and of two processes that start at once one wins.
func (c Config) createFile(path string) error {
	file, err := os.CreateTemp(c.Dir, fileName+".new-*")
	if err != nil {
		return err
	}
	temp := file.Name()
	defer os.Remove(temp)
	if err := file.Close(); err != nil {
		return err
	}
	db, err := bolt.Open(temp, 0o600, c.options(false))
	if err != nil {
		return err
	}
	if err := db.Update(c.initialise); err != nil {
		db.Close()
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		if err := os.Rename(temp, path); err != nil { // a file system without hard links
			return err
		}
	}
	return syncDir(c.Dir)
}

func (c Config) initialise(tx *bolt.Tx) error {
	buckets := [][]byte{metaBucket, tokenBucket, auditBucket, bucketOf(privateTable)}
	for name := range tables {
		buckets = append(buckets, bucketOf(name))
	}
	for _, name := range buckets {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	if err := tx.Bucket(metaBucket).Put(schemaKey, fmt.Append(nil, schema)); err != nil {
		return err
	}
	if err := putIndex(tx, 0); err != nil {
		return err
	}
	return c.firstToken(tx)
}

func putIndex(tx *bolt.Tx, index uint64) error {
	return tx.Bucket(metaBucket).Put(indexKey, binary.BigEndian.AppendUint64(nil, index))
}

func getIndex(tx *bolt.Tx) (uint64, error) {
	value := tx.Bucket(metaBucket).Get(indexKey)
	if len(value) != 8 {
		return 0, fmt.Errorf("index: %d bytes: want 8", len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// guarded runs read, which looks into a file that may be damaged: bbolt answers that with a panic, or by touching memory
// behind the end of the file.
func guarded(read func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("is damaged: %v: restore a backup", r)
		}
	}()
	return read()
}
