package state

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// operatorFile holds the secret of the first operator's token, in the data directory.
const operatorFile = "operator.token"

// prefixes start a secret, so that whoever finds one knows what it is and where it belongs.
var prefixes = map[snapshot.Role]string{
	snapshot.RoleOperator: "isthmus-op-",
	snapshot.RoleRead:     "isthmus-read-",
	snapshot.RoleProxy:    "isthmus-proxy-",
	snapshot.RoleMetrics:  "isthmus-metrics-",
}

// ErrNoToken is returned by RevokeToken when no token has that accessor.
var ErrNoToken = errors.New("no such token")

// ErrLastOperator is returned by RevokeToken for the only operator's token: without one nobody could make another.
var ErrLastOperator = errors.New("is the last operator's token: create another one first")

// A credential is a token as stored. The secret itself is nowhere: it has 32 random bytes, so its hash needs no salt.
type credential struct {
	snapshot.Credential
	Hash     [sha256.Size]byte
	Orphaned time.Time `json:",omitzero"` // since when its proxy is known not to be registered
	usage    *usage
}

// CreateToken makes a token of wanted's role, proxy, description and purpose. A proxy is for RoleProxy, which needs one,
// and none for all others. The secret is returned this once. Of the tokens that bootstraps made for one proxy the least
// recently used go when there are too many.
func (s *Store) CreateToken(ctx context.Context, wanted snapshot.Credential) (redact.String, snapshot.Credential, error) {
	role := wanted.Role
	switch {
	case prefixes[role] == "":
		return redact.String{}, snapshot.Credential{}, fmt.Errorf("token role %q: want operator, read, proxy or metrics", role)
	case (role == snapshot.RoleProxy) != (wanted.Proxy != ""):
		return redact.String{}, snapshot.Credential{}, fmt.Errorf("token role %s: a proxy ID is for role proxy, which needs one", role)
	case wanted.Bootstrap && role != snapshot.RoleProxy:
		return redact.String{}, snapshot.Credential{}, fmt.Errorf("token role %s: a bootstrap needs one of role proxy", role)
	}
	if wanted.Bootstrap {
		s.minting.Lock()
		defer s.minting.Unlock()
		if err := s.makeRoom(ctx, wanted.Proxy); err != nil {
			return redact.String{}, snapshot.Credential{}, err
		}
	}
	secret := newSecret(role)
	c := s.cfg.newCredential(secret, role)
	c.Proxy, c.Description, c.Bootstrap = wanted.Proxy, wanted.Description, wanted.Bootstrap
	_, err := s.submit(ctx, &request{
		extra: func(tx *bolt.Tx) error { return c.put(tx) },
		audit: []AuditRecord{{Action: "token.create", Object: c.Accessor, Detail: strings.TrimSpace(string(role) + " " + string(c.Proxy))}},
		after: func() { s.tokens.Store(c.Hash, c) },
	})
	if err != nil {
		return redact.String{}, snapshot.Credential{}, err
	}
	return secret, c.Credential, nil
}

// Authenticate returns who has secret, and false when nobody does. It takes no lock, and the time it takes says nothing
// about other tokens: they are found by a hash that nobody can aim at.
func (s *Store) Authenticate(secret redact.String) (snapshot.Credential, bool) {
	c, ok := s.authenticate(sha256.Sum256([]byte(secret.Reveal())))
	if !ok {
		return snapshot.Credential{}, false
	}
	return c.Credential, true
}

// authenticate returns the token with a hash, and notes that it was used.
func (s *Store) authenticate(hash [sha256.Size]byte) (*credential, bool) {
	found, ok := s.tokens.Load(hash)
	if !ok {
		return nil, false
	}
	c := found.(*credential)
	if subtle.ConstantTimeCompare(c.Hash[:], hash[:]) != 1 {
		return nil, false
	}
	c.usage.last.Store(s.cfg.Now().Unix())
	return c, true
}

// Tokens returns all tokens with what is known of their use, the oldest first.
func (s *Store) Tokens() []snapshot.Credential {
	var list []snapshot.Credential
	s.tokens.Range(func(_, c any) bool {
		list = append(list, c.(*credential).shown())
		return true
	})
	slices.SortFunc(list, func(a, b snapshot.Credential) int {
		if order := a.Created.Compare(b.Created); order != 0 {
			return order
		}
		return strings.Compare(a.Accessor, b.Accessor)
	})
	return list
}

// RevokeToken ends a token, or returns ErrNoToken or ErrLastOperator. When it returns, Authenticate no longer knows it.
func (s *Store) RevokeToken(ctx context.Context, accessor string) error {
	var c credential
	_, err := s.submit(ctx, &request{
		extra: func(tx *bolt.Tx) (err error) {
			if c, err = revoke(tx, accessor); err != nil {
				return err
			}
			return putRevoked(tx, map[string]revocation{accessor: {s.cfg.Now().UTC()}})
		},
		audit: []AuditRecord{{Action: "token.revoke", Object: accessor}},
		after: func() { s.tokens.Delete(c.Hash) },
	})
	if err != nil {
		return fmt.Errorf("token %s: %w", accessor, err)
	}
	return nil
}

func revoke(tx *bolt.Tx, accessor string) (credential, error) {
	all, err := readTokens(tx)
	if err != nil {
		return credential{}, err
	}
	operators := 0
	var found *credential
	for _, c := range all {
		if c.Role == snapshot.RoleOperator {
			operators++
		}
		if c.Accessor == accessor {
			found = c
		}
	}
	switch {
	case found == nil:
		return credential{}, ErrNoToken
	case found.Role == snapshot.RoleOperator && operators == 1:
		return credential{}, ErrLastOperator
	}
	return *found, tx.Bucket(tokenBucket).Delete([]byte(accessor))
}

func readTokens(tx *bolt.Tx) ([]*credential, error) {
	var all []*credential
	err := tx.Bucket(tokenBucket).ForEach(func(key, value []byte) error {
		c := &credential{usage: &usage{}}
		if err := json.Unmarshal(value, c); err != nil {
			return fmt.Errorf("token %s: %w", key, err)
		}
		all = append(all, c)
		return nil
	})
	return all, err
}

func (s *Store) loadTokens(tx *bolt.Tx) error {
	all, err := readTokens(tx)
	for _, c := range all {
		s.tokens.Store(c.Hash, c)
	}
	return err
}

// keepTokens makes Authenticate know exactly these tokens.
func (s *Store) keepTokens(tokens map[string]*credential) {
	for _, c := range tokens {
		s.tokens.Store(c.Hash, c)
	}
	s.tokens.Range(func(hash, c any) bool {
		if _, stays := tokens[c.(*credential).Accessor]; !stays {
			s.tokens.Delete(hash)
		}
		return true
	})
}

func (c *credential) put(tx *bolt.Tx) error {
	value, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return tx.Bucket(tokenBucket).Put([]byte(c.Accessor), value)
}

func newSecret(role snapshot.Role) redact.String {
	random := make([]byte, 32)
	rand.Read(random) // never fails: crypto/rand ends the program instead
	return redact.NewString(prefixes[role] + base64.RawURLEncoding.EncodeToString(random))
}

func (c Config) newCredential(secret redact.String, role snapshot.Role) *credential {
	return &credential{
		Credential: snapshot.Credential{Accessor: uuid.NewString(), Role: role, Created: c.Now().UTC()},
		Hash:       sha256.Sum256([]byte(secret.Reveal())),
		usage:      &usage{},
	}
}

// firstToken makes the operator's token of a new store. One that already lies in the directory, from a start that was
// cut short, is taken over.
func (c Config) firstToken(tx *bolt.Tx) error {
	path := filepath.Join(c.Dir, operatorFile)
	secret, err := readOperatorToken(path)
	if errors.Is(err, fs.ErrNotExist) {
		secret = newSecret(snapshot.RoleOperator)
		err = renameio.WriteFile(path, []byte(secret.Reveal()+"\n"), 0o600, renameio.IgnoreUmask())
	}
	if err != nil {
		return err
	}
	first := c.newCredential(secret, snapshot.RoleOperator)
	first.Description = "written to " + operatorFile + " by the first start"
	return first.put(tx)
}

func readOperatorToken(path string) (redact.String, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return redact.String{}, err
	}
	secret := string(bytes.TrimSpace(text))
	random, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(secret, prefixes[snapshot.RoleOperator]))
	if err != nil || len(random) != 32 || !strings.HasPrefix(secret, prefixes[snapshot.RoleOperator]) {
		return redact.String{}, fmt.Errorf("%s: want %s and 32 bytes in base64url", path, prefixes[snapshot.RoleOperator])
	}
	return redact.NewString(secret), nil
}
