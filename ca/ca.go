// Package ca is the certificate authority of one trust domain: it turns an identity into a short-lived leaf that our
// own roots vouch for. It signs the forms of identity that it knows, in its own trust domain and datacenter, and
// nothing else; it keeps keys only through the Save it was given and never prints one.
package ca

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Config is what a CA needs.
type Config struct {
	// TrustDomain is <cluster id>.consul, and Datacenter a segment of every identity.
	TrustDomain, Datacenter string
	// Load returns what Save was last given, or nothing when it never was.
	Load func() ([]byte, error)
	// Save keeps the material durably, private keys included. It returns once a restart would find it.
	Save func(context.Context, []byte) error
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
	// LeafTTL is the life of a leaf from now. 0: 72 hours.
	LeafTTL time.Duration
}

// backdate is how much older a certificate looks than it is, for clocks that are behind ours: those of peers are set by others. No renewal is computed from it.
const backdate = 15 * time.Minute

// A CA signs leaves. Its methods may be called by any number of goroutines.
type CA struct {
	cfg Config

	mu     sync.Mutex // roots, leaves and swept; never held while a key is made
	roots  []*root
	leaves map[string]*slot
	swept  time.Time // when leaves was last freed of what nobody asks for any more
}

// New returns the CA whose material cfg.Load returns. When there is none it makes a root and saves it first. Material of
// another trust domain is refused.
func New(ctx context.Context, cfg Config) (*CA, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.LeafTTL == 0 {
		cfg.LeafTTL = 72 * time.Hour
	}
	if cfg.Load == nil || cfg.Save == nil {
		return nil, errors.New("ca: want Load and Save")
	}
	if err := cfg.checkNames(); err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	stored, err := cfg.Load()
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	c := &CA{cfg: cfg, leaves: map[string]*slot{}, swept: cfg.Now()}
	if len(stored) > 0 {
		if c.roots, err = parseMaterial(stored, cfg.TrustDomain); err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		return c, nil
	}
	first, err := newRoot(cfg.TrustDomain, cfg.Now())
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	c.roots = []*root{first}
	fresh, err := formatMaterial(c.roots, cfg.TrustDomain)
	if err == nil {
		err = cfg.Save(ctx, fresh)
	}
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	return c, nil
}

func (c Config) checkNames() error {
	// The parser also takes a whole SPIFFE ID and answers its trust domain.
	if td, err := spiffeid.TrustDomainFromString(c.TrustDomain); err != nil || td.Name() != c.TrustDomain {
		return fmt.Errorf("trust domain %q: want a lower-case domain name", c.TrustDomain)
	}
	if err := spiffeid.ValidatePathSegment(c.Datacenter); err != nil {
		return fmt.Errorf("datacenter %q: %w", c.Datacenter, err)
	}
	return nil
}

// Bundle returns all roots that vouch for leaves in use, in PEM with a newline at the end, and the ID of the one that
// signs.
func (c *CA) Bundle() (rootsPEM []string, activeRootID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.roots {
		rootsPEM = append(rootsPEM, r.certPEM)
		if r.active {
			activeRootID = r.id
		}
	}
	return rootsPEM, activeRootID
}

func (c *CA) active() *root {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.roots {
		if r.active {
			return r
		}
	}
	panic("ca: no active root") // parseMaterial and New see to it that there is one
}

// String keeps keys out of logs.
func (c *CA) String() string { return "ca of " + c.cfg.TrustDomain }

// GoString keeps keys out of logs.
func (c *CA) GoString() string { return c.String() }
