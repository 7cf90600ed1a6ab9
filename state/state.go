// Package state is the embedded durable store: it turns writes into events of one World. A write is checked, written to
// one file and flushed to the disk, and only then seen by anybody; several are one or none. It also keeps what no World
// holds: private records, credentials and the audit trail. It asks nobody, and decides nothing about what it stores.
package state

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	bolt "go.etcd.io/bbolt"

	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// Config is what a Store needs.
type Config struct {
	// Dir is the data directory. It is made, readable for its owner only, when it is not there.
	Dir string
	// Log gets what an operator should know of the file itself. Nil: nothing is logged.
	Log logrus.FieldLogger
	// Now is the clock of audit records and credentials. Nil: time.Now.
	Now func() time.Time
	// Actor names who is behind a context, for the audit trail: a credential's accessor, a peer. Nil: nobody is named.
	Actor func(context.Context) string
	// Restorable refuses a backup of a cluster that this process cannot be. Nil: any is restored.
	Restorable func(snapshot.Cluster) error
	// Retire returns what is restored of a private record: the backup's, or one that says that its secret is spent. running is the record that the store has
	// under that key; nil: none. Nil: all are restored as they are.
	Retire func(key snapshot.Key, backup, running []byte) ([]byte, error)
	// AuditRecords is how many records of the audit trail are kept. 0: 100,000.
	AuditRecords int
	// LockTimeout is how long Open waits for another process to leave the directory. 0: two seconds.
	LockTimeout time.Duration
}

// A Store is the one writer of a data directory. Its methods may be called by any number of goroutines.
type Store struct {
	cfg       Config
	db        *bolt.DB
	publisher *snapshot.Publisher

	queueMu sync.Mutex
	queue   []*request
	turn    chan struct{} // holds one token while somebody writes

	// Written only by who holds turn.
	reserved uint64    // no index above it was ever given out, whatever happens to this process
	audit    auditHead // the newest audit record
	broken   error     // why nothing can be written until the next start
	tokens   sync.Map  // SHA-256 of the secret ([32]byte) → *credential
	closed   atomic.Bool

	opened  time.Time
	minting sync.Mutex // held while bootstraps' tokens of a proxy are counted and one more is made
}

// Open opens or makes the store in cfg.Dir and reads its World. It refuses a directory that another process uses, a
// damaged file and one that a newer version wrote, and changes nothing in any of these cases. The first Open writes an
// operator's token to the file operator.token.
func Open(cfg Config) (*Store, error) {
	if cfg.Log == nil {
		log := logrus.New()
		log.SetOutput(discard{})
		cfg.Log = log
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Actor == nil {
		cfg.Actor = func(context.Context) string { return "" }
	}
	if cfg.AuditRecords == 0 {
		cfg.AuditRecords = maxAuditRecords
	}
	if cfg.LockTimeout == 0 {
		cfg.LockTimeout = 2 * time.Second
	}
	if err := cfg.prepareDir(); err != nil {
		return nil, err
	}
	db, err := cfg.openFile()
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", cfg.Dir, err)
	}
	s := &Store{cfg: cfg, db: db, turn: make(chan struct{}, 1), opened: cfg.Now()}
	if err := guarded(s.load); err != nil {
		db.Close()
		return nil, fmt.Errorf("data directory %s: %s: %w", cfg.Dir, fileName, err)
	}
	return s, nil
}

// Close waits for the write that is under way, refuses all later ones and releases the directory. The World stays
// readable.
func (s *Store) Close() error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.closed.Swap(true) {
		return nil
	}
	s.broken = fmt.Errorf("data directory %s: the store is closed", s.cfg.Dir)
	// After an orderly end the next start goes on where this one stopped.
	index := s.publisher.World().Index
	err := s.db.Update(func(tx *bolt.Tx) error { return putIndex(tx, index) })
	if closeErr := s.db.Close(); closeErr != nil {
		err = closeErr
	}
	return err
}

// Publisher tells subscribers of every change that was stored or announced.
func (s *Store) Publisher() *snapshot.Publisher { return s.publisher }

// World returns the newest World. Whoever waited for a Commit finds it in there.
func (s *Store) World() *snapshot.World { return s.publisher.World() }

// OperatorToken returns the secret that the first Open wrote into the data directory, for who may read it there.
func (s *Store) OperatorToken() (redact.String, error) {
	return readOperatorToken(filepath.Join(s.cfg.Dir, operatorFile))
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
