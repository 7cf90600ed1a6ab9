package state

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// revokedBucket remembers, by accessor, which tokens somebody revoked: a backup that is older still has them. It is made by the first revocation.
var revokedBucket = []byte("revoked")

type revocation struct{ At time.Time }

// readRevoked adds what a file remembers to known.
func readRevoked(tx *bolt.Tx, known map[string]revocation) error {
	bucket := tx.Bucket(revokedBucket)
	if bucket == nil {
		return nil
	}
	return bucket.ForEach(func(accessor, value []byte) error {
		var r revocation
		if err := json.Unmarshal(value, &r); err != nil {
			return fmt.Errorf("revoked token %s: %w", accessor, err)
		}
		known[string(accessor)] = r
		return nil
	})
}

func putRevoked(tx *bolt.Tx, all map[string]revocation) error {
	bucket, err := tx.CreateBucketIfNotExists(revokedBucket)
	if err != nil {
		return err
	}
	for accessor, r := range all {
		value, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if err := bucket.Put([]byte(accessor), value); err != nil {
			return err
		}
	}
	return nil
}

// replaceTokens stores the tokens of a backup that were revoked neither there nor here, and adds the one of this directory's operator.token to them.
func (s *Store) replaceTokens(tx *bolt.Tx, b contents) error {
	all, err := readTokens(tx)
	if err != nil {
		return err
	}
	if err := readRevoked(tx, b.revoked); err != nil {
		return err
	}
	for accessor := range b.revoked {
		delete(b.tokens, accessor)
	}
	own, err := s.OperatorToken()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	hash, orphaned := sha256.Sum256([]byte(own.Reveal())), !b.hasOperator()
	for _, c := range all {
		isOwn := err == nil && c.Hash == hash
		if isOwn || orphaned && c.Role == snapshot.RoleOperator {
			b.tokens[c.Accessor] = c
		}
		if err := tx.Bucket(tokenBucket).Delete([]byte(c.Accessor)); err != nil {
			return err
		}
	}
	for _, c := range b.tokens {
		if err := c.put(tx); err != nil {
			return err
		}
	}
	return putRevoked(tx, b.revoked)
}

func (b contents) hasOperator() bool {
	for _, c := range b.tokens {
		if c.Role == snapshot.RoleOperator {
			return true
		}
	}
	return false
}
