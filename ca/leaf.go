package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/internal/redact"
)

// Leaf is a certificate for one identity, with its key.
type Leaf struct {
	CertPEM             []byte       // the leaf, and what stands between it and its root
	KeyPEM              redact.Bytes // PKCS #8
	NotBefore, NotAfter time.Time
	RootID              string
	RenewAt             time.Time // when the CA will sign the next one, between 1/2 and 2/3 of the leaf's life
	Version             string    // <root ID>.<NotAfter in Unix seconds>
}

// A slot holds the newest leaf of one identity. Its lock is held while the next one is made: all who ask meanwhile wait
// for that one.
type slot struct {
	mu   sync.Mutex
	leaf Leaf
}

// Leaf returns the leaf of an identity, a new one when the last one's RenewAt has come or its root no longer signs. The
// identity must be a service or mesh gateway of this trust domain and datacenter; the error says what was wanted.
func (c *CA) Leaf(ctx context.Context, identity *url.URL) (Leaf, error) {
	if err := ctx.Err(); err != nil {
		return Leaf{}, err
	}
	uri, err := c.cfg.checkIdentity(identity)
	if err != nil {
		return Leaf{}, err
	}
	s := c.slotOf(uri.String())
	s.mu.Lock()
	defer s.mu.Unlock()
	now, active := c.cfg.Now(), c.active()
	if s.leaf.RootID == active.id && now.Before(s.leaf.RenewAt) {
		return s.leaf, nil
	}
	leaf, err := c.sign(active, &x509.Certificate{URIs: []*url.URL{uri}})
	if err != nil {
		return Leaf{}, fmt.Errorf("leaf of %s: %w", uri, err)
	}
	s.leaf = leaf
	return leaf, nil
}

// checkIdentity returns the identity in its one spelling.
func (c Config) checkIdentity(identity *url.URL) (*url.URL, error) {
	if identity == nil {
		return nil, errors.New("leaf: want an identity")
	}
	// go-spiffe refuses escapes, dots, empty segments and whatever is not of the SPIFFE alphabet.
	id, err := spiffeid.FromURI(identity)
	if err != nil {
		return nil, fmt.Errorf("leaf of %q: %w", identity, err)
	}
	if id.TrustDomain().Name() != c.TrustDomain {
		return nil, fmt.Errorf("leaf of %s: want trust domain %s", id, c.TrustDomain)
	}
	service, isService := strings.CutPrefix(id.Path(), "/ns/default/dc/"+c.Datacenter+"/svc/")
	isService = isService && service != "" && !strings.Contains(service, "/")
	if !isService && id.Path() != "/gateway/mesh/dc/"+c.Datacenter {
		return nil, fmt.Errorf("leaf of %s: want /ns/default/dc/%s/svc/<service> or /gateway/mesh/dc/%[2]s", id, c.Datacenter)
	}
	return id.URL(), nil
}

func (c *CA) slotOf(identity string) *slot {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweep()
	s, ok := c.leaves[identity]
	if !ok {
		s = &slot{}
		c.leaves[identity] = s
	}
	return s
}

// sweep forgets, once in a leaf's life, the leaves that nobody renewed.
func (c *CA) sweep() {
	now := c.cfg.Now()
	if now.Sub(c.swept) < c.cfg.LeafTTL {
		return
	}
	c.swept = now
	for identity, s := range c.leaves {
		if !s.mu.TryLock() {
			continue // somebody has it renewed right now
		}
		if s.leaf.NotAfter.Before(now) {
			delete(c.leaves, identity)
		}
		s.mu.Unlock()
	}
}

// sign completes template, which says for whom the certificate is, and has r sign it.
func (c *CA) sign(r *root, template *x509.Certificate) (Leaf, error) {
	now := c.cfg.Now()
	if !now.Before(r.cert.NotAfter) {
		return Leaf{}, fmt.Errorf("root %s ended on %s", r.id, r.cert.NotAfter.Format(time.DateOnly))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Leaf{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return Leaf{}, err
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	template.NotBefore = now.Add(-backdate)
	template.NotAfter = now.Add(c.cfg.LeafTTL)
	if template.NotAfter.After(r.cert.NotAfter) {
		template.NotAfter = r.cert.NotAfter
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, template, r.cert, key.Public(), r.key)
	if err != nil {
		return Leaf{}, err
	}
	keyPEM, err := keyToPEM(key)
	if err != nil {
		return Leaf{}, err
	}
	notBefore, notAfter := template.NotBefore.UTC().Truncate(time.Second), template.NotAfter.UTC().Truncate(time.Second)
	return Leaf{
		CertPEM:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		KeyPEM:    redact.NewBytes(keyPEM),
		NotBefore: notBefore,
		NotAfter:  notAfter,
		RootID:    r.id,
		RenewAt:   renewAt(now, notAfter),
		Version:   r.id + "." + strconv.FormatInt(notAfter.Unix(), 10),
	}, nil
}

// renewAt returns a random point between 1/2 and 2/3 of a life, so that leaves made at once are not renewed at once.
func renewAt(made, notAfter time.Time) time.Time {
	life := notAfter.Sub(made)
	return made.Add(life/2 + mathrand.N(life/6+1))
}

// RenewAt returns when a leaf of this version, which some proxy holds from an earlier process or another replica, is to
// be replaced. The second value is false when that is now: its root no longer signs, it has ended, or the version is
// not one of ours.
func (c *CA) RenewAt(version string) (time.Time, bool) {
	rootID, _, _ := strings.Cut(version, ".")
	notAfter, ok := NotAfter(version)
	if !ok || rootID != c.active().id {
		return time.Time{}, false
	}
	now := c.cfg.Now()
	// One that ends later than any that we would make now is of a clock that was set back since.
	if !now.Before(notAfter) || notAfter.After(now.Add(c.cfg.LeafTTL+time.Minute)) {
		return time.Time{}, false
	}
	return renewAt(notAfter.Add(-c.cfg.LeafTTL), notAfter), true
}

// NotAfter returns when a leaf of this version ends; false: the version is not one of ours.
func NotAfter(version string) (time.Time, bool) {
	_, unix, ok := strings.Cut(version, ".")
	seconds, err := strconv.ParseInt(unix, 10, 64)
	if !ok || err != nil {
		return time.Time{}, false
	}
	return time.Unix(seconds, 0).UTC(), true
}
