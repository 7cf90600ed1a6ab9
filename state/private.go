package state

import (
	"bytes"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// Private returns the records of TablePrivate whose parts start with prefix, by their Key.Path. They are copies. What it
// returns is what was last committed, whether or not a World followed.
func (s *Store) Private(prefix ...string) (map[string][]byte, error) {
	found := map[string][]byte{}
	path := strings.Join(prefix, "\x00")
	start := storedKey(snapshot.NewKey(privateTable, path))
	err := s.db.View(func(tx *bolt.Tx) error {
		cursor := tx.Bucket(bucketOf(privateTable)).Cursor()
		for key, value := cursor.Seek(start); key != nil && bytes.HasPrefix(key, start); key, value = cursor.Next() {
			// "peering" is above "peering/east", and not above "peerings".
			if rest := key[len(start):]; len(prefix) == 0 || len(rest) == 0 || rest[0] == 0 {
				found[pathOf(key)] = bytes.Clone(value)
			}
		}
		return nil
	})
	return found, err
}
