package state

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

const (
	// maxBootstrapTokens bounds the tokens that bootstraps made for one proxy: enough for a proxy that is bootstrapped anew
	// at each start of its machine, and for somebody who tries a few times.
	maxBootstrapTokens = 16
	// orphanTime is how long a proxy's tokens outlive its registration. It is the life of a leaf: a proxy that was away for
	// longer must come back to the operator anyway, and one that is registered again before goes on as if nothing was.
	orphanTime = 72 * time.Hour
	// tokenSweep is how often tokens are looked after. The first look comes that long after the start, when every proxy that
	// is there has connected again; uses are written down then, so that a token's use costs no flush of the disk.
	tokenSweep = time.Hour
	// afterStart is how long after a start a token that was used shortly before counts as one in use.
	afterStart = 5 * time.Minute
	// recently is how far back a use counts as shortly before: a stream's greatest age, and two sweeps.
	recently = 3 * time.Hour
)

// usage is how a token is used in this process.
type usage struct {
	last atomic.Int64 // Unix seconds of the last time that it was shown; 0: never
	held atomic.Int64 // how many streams live by it
}

// Hold is Authenticate for a connection: until ctx ends, the token is not taken away to make room.
func (s *Store) Hold(ctx context.Context, secret redact.String) (snapshot.Credential, bool) {
	hash := sha256.Sum256([]byte(secret.Reveal()))
	c, ok := s.authenticate(hash)
	if !ok {
		return snapshot.Credential{}, false
	}
	c.usage.held.Add(1)
	context.AfterFunc(ctx, func() {
		c.usage.last.Store(s.cfg.Now().Unix())
		c.usage.held.Add(-1)
	})
	// Whoever takes it away first makes it unknown and then looks for holders: one of us two sees the other.
	_, ok = s.authenticate(hash)
	return c.Credential, ok
}

// shown returns a credential with what is known of its use.
func (c *credential) shown() snapshot.Credential {
	shown := c.Credential
	if last := c.usage.last.Load(); last > 0 && last > shown.LastUsed.Unix() {
		shown.LastUsed = time.Unix(last, 0).UTC()
	}
	shown.Connected = c.usage.held.Load() > 0
	return shown
}

// needed tells whether somebody lives by a token, or may come back with it after our own restart.
func (s *Store) needed(c *credential) bool {
	return c.usage.held.Load() > 0 ||
		s.cfg.Now().Sub(s.opened) < afterStart && c.LastUsed.After(s.opened.Add(-recently))
}

// makeRoom takes away what is too much for another token of a proxy's bootstrap: the ones that were not used for the
// longest time. The caller holds s.minting.
func (s *Store) makeRoom(ctx context.Context, proxy snapshot.ProxyID) error {
	var known []*credential
	s.tokens.Range(func(_, value any) bool {
		if c := value.(*credential); c.Bootstrap && c.Proxy == proxy {
			known = append(known, c)
		}
		return true
	})
	used := func(c *credential) time.Time {
		if last := c.shown().LastUsed; last.After(c.Created) {
			return last
		}
		return c.Created
	}
	slices.SortFunc(known, func(a, b *credential) int { return used(a).Compare(used(b)) })
	over := len(known) - maxBootstrapTokens + 1
	known = slices.DeleteFunc(known, s.needed)
	return s.drop(ctx, known[:max(0, min(over, len(known)))], "newer ones were made")
}

// drop takes tokens away, but for those that somebody lives by.
func (s *Store) drop(ctx context.Context, tokens []*credential, reason string) error {
	var gone []*credential
	for _, c := range tokens {
		s.tokens.Delete(c.Hash)
		if s.needed(c) {
			s.tokens.Store(c.Hash, c)
			continue
		}
		gone = append(gone, c)
	}
	if len(gone) == 0 {
		return nil
	}
	r := &request{extra: func(tx *bolt.Tx) error {
		for _, c := range gone {
			if err := tx.Bucket(tokenBucket).Delete([]byte(c.Accessor)); err != nil {
				return err
			}
		}
		return nil
	}}
	for _, c := range gone {
		r.audit = append(r.audit, AuditRecord{Action: "token.expire", Object: c.Accessor, Detail: fmt.Sprintf("proxy %s: %s", c.Proxy, reason)})
	}
	if _, err := s.submit(ctx, r); err != nil {
		for _, c := range gone {
			s.tokens.Store(c.Hash, c)
		}
		return fmt.Errorf("old tokens: %w", err)
	}
	return nil
}

// Run looks after the tokens from time to time, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	again := time.NewTicker(tokenSweep)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
		if err := s.SweepTokens(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.WithError(err).Warn("tokens not looked after")
		}
	}
}

// SweepTokens writes down when tokens were used, and since when their proxies are not registered, and takes away those
// whose proxy was not for 72 hours.
func (s *Store) SweepTokens(ctx context.Context) error {
	now := s.cfg.Now().UTC().Truncate(time.Second)
	registered := s.registered()
	changed := map[*credential]*credential{}
	var over []*credential
	s.tokens.Range(func(_, value any) bool {
		c := value.(*credential)
		next := *c
		next.LastUsed = c.shown().LastUsed
		switch {
		case c.Role != snapshot.RoleProxy || registered[c.Proxy]:
			next.Orphaned = time.Time{}
		case c.Orphaned.IsZero():
			next.Orphaned = now
		case now.Sub(c.Orphaned) >= orphanTime:
			over = append(over, c)
			return true
		}
		if !next.Orphaned.Equal(c.Orphaned) || next.LastUsed.Sub(c.LastUsed) >= tokenSweep {
			changed[c] = &next
		}
		return true
	})
	if err := s.rewrite(ctx, changed); err != nil {
		return err
	}
	slices.SortFunc(over, func(a, b *credential) int { return strings.Compare(a.Accessor, b.Accessor) })
	return s.drop(ctx, over, "not registered for "+orphanTime.String())
}

// registered is every proxy that there is.
func (s *Store) registered() map[snapshot.ProxyID]bool {
	w, all := s.World(), map[snapshot.ProxyID]bool{}
	own := ""
	if cluster := w.Cluster(); cluster != nil {
		own = cluster.NodeName
	}
	for _, kind := range []config.ServiceKind{config.KindSidecar, config.KindMeshGateway} {
		for _, i := range w.OfKind(kind) {
			all[i.ProxyID(own)] = true
		}
	}
	return all
}

// rewrite stores tokens as they are now, but for those that are gone meanwhile.
func (s *Store) rewrite(ctx context.Context, changed map[*credential]*credential) error {
	if len(changed) == 0 {
		return nil
	}
	_, err := s.submit(ctx, &request{
		extra: func(tx *bolt.Tx) error {
			for _, next := range changed {
				if tx.Bucket(tokenBucket).Get([]byte(next.Accessor)) == nil {
					continue
				}
				if err := next.put(tx); err != nil {
					return err
				}
			}
			return nil
		},
		after: func() {
			for c, next := range changed {
				s.tokens.CompareAndSwap(c.Hash, c, next)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("use of tokens: %w", err)
	}
	return nil
}
