package state_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/state"
)

// clocked opens a store whose clock the test moves.
func clocked(t *testing.T, dir string, now *time.Time) *state.Store {
	t.Helper()
	s, err := state.Open(state.Config{Dir: dir, LockTimeout: 50 * time.Millisecond, Now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func bootstrapToken(t *testing.T, s *state.Store, proxy snapshot.ProxyID) (redact.String, string) {
	t.Helper()
	secret, made, err := s.CreateToken(t.Context(), snapshot.Credential{Role: snapshot.RoleProxy, Proxy: proxy, Bootstrap: true})
	if err != nil {
		t.Fatal(err)
	}
	return secret, made.Accessor
}

// sidecarOf registers a sidecar, or with gone takes it away.
func sidecarOf(id string, gone bool) snapshot.Event {
	key := snapshot.NewKey(snapshot.TableInstances, id, "node1", id)
	if gone {
		return snapshot.Event{Key: key}
	}
	return snapshot.Event{Key: key, Object: &snapshot.Instance{Node: "node1", Service: &config.Service{
		Kind: config.KindSidecar, ID: id, Name: id, Proxy: &config.Proxy{DestinationServiceName: "web"},
	}}}
}

func cluster(t *testing.T, s *state.Store) {
	t.Helper()
	commit(t, s, snapshot.Event{Key: snapshot.NewKey(snapshot.TableCluster), Object: &snapshot.Cluster{ID: "c", NodeName: "node1", TrustDomain: "c.consul"}})
}

func knownTokens(s *state.Store) map[string]snapshot.Credential {
	known := map[string]snapshot.Credential{}
	for _, c := range s.Tokens() {
		known[c.Accessor] = c
	}
	return known
}

// Of a proxy's tokens that bootstraps made sixteen stay: the one that was used least recently goes, and never one that a
// stream lives by, nor one that an operator made, nor another proxy's.
func TestBootstrapTokensAreBounded(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	s := clocked(t, dir, &now)
	now = now.Add(time.Hour)
	held, heldID := bootstrapToken(t, s, "web-sidecar-proxy")
	stream, end := context.WithCancel(t.Context())
	if c, ok := s.Hold(stream, held); !ok || c.Accessor != heldID {
		t.Fatalf("held: %+v, %v", c, ok)
	}
	used, usedID := bootstrapToken(t, s, "web-sidecar-proxy")
	_, otherID := bootstrapToken(t, s, "db-sidecar-proxy")
	_, byHand, err := s.CreateToken(t.Context(), snapshot.Credential{Role: snapshot.RoleProxy, Proxy: "web-sidecar-proxy"})
	if err != nil {
		t.Fatal(err)
	}
	var newest string
	for range 30 {
		now = now.Add(time.Minute)
		if _, ok := s.Authenticate(used); !ok {
			t.Fatal("the token that is used all the time is gone")
		}
		_, newest = bootstrapToken(t, s, "web-sidecar-proxy")
	}
	known, made := knownTokens(s), 0
	for _, c := range known {
		if c.Bootstrap && c.Proxy == "web-sidecar-proxy" {
			made++
		}
	}
	for what, id := range map[string]string{"held": heldID, "used": usedID, "newest": newest, "another proxy's": otherID, "by hand": byHand.Accessor} {
		if _, stays := known[id]; !stays {
			t.Errorf("the %s token is gone", what)
		}
	}
	if c := known[heldID]; made != 16 || !c.Connected {
		t.Errorf("%d tokens, held one %+v: want 16, and that it is connected", made, c)
	}
	if c := known[usedID]; !c.LastUsed.Equal(now) || c.Connected {
		t.Errorf("used one %+v: want used at %s", c, now)
	}
	end()
	until(t, func() bool { return !knownTokens(s)[heldID].Connected })
	s.Close()
	if reopened := knownTokens(clocked(t, dir, &now)); len(reopened) != len(known) {
		t.Errorf("%d tokens after a restart, want %d", len(reopened), len(known))
	}
}

// until waits until a goroutine that nothing else tells of has run.
func until(t *testing.T, done func() bool) {
	t.Helper()
	give, again := time.NewTimer(10*time.Second), time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-give.C:
			t.Fatal("waited 10s for a stream's end to be noticed")
		case <-again.C:
		}
	}
}

// After a start nobody has connected yet: a token that was used shortly before counts as in use.
func TestTokensAfterARestart(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	s := clocked(t, dir, &now)
	secret, id := bootstrapToken(t, s, "web-sidecar-proxy")
	now = now.Add(2 * time.Hour)
	s.Authenticate(secret)
	if err := s.SweepTokens(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	now = now.Add(time.Minute)
	s = clocked(t, dir, &now)
	if got := knownTokens(s)[id].LastUsed; !got.Equal(now.Add(-time.Minute)) {
		t.Errorf("last used %s after a restart: want what the sweep wrote", got)
	}
	mint := func() bool {
		for range 16 {
			now = now.Add(time.Second)
			bootstrapToken(t, s, "web-sidecar-proxy")
		}
		_, stays := knownTokens(s)[id]
		return stays
	}
	if !mint() {
		t.Error("a token whose proxy is about to come back is gone")
	}
	now = now.Add(10 * time.Minute)
	if mint() {
		t.Error("a token that nobody came back with stays before newer ones")
	}
}

// A proxy's tokens go 72 hours after its registration, by whatever made them, and never while it is connected.
func TestTokensOfProxiesThatAreGone(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	s := clocked(t, dir, &now)
	cluster(t, s)
	ids := map[string]string{}
	for _, proxy := range []string{"gone", "back", "connected", "stays"} {
		commit(t, s, sidecarOf(proxy, false))
		var secret redact.String
		if secret, ids[proxy] = bootstrapToken(t, s, snapshot.ProxyID(proxy)); proxy == "connected" {
			s.Hold(t.Context(), secret)
		}
	}
	sweep := func(after time.Duration) {
		t.Helper()
		now = now.Add(after)
		if err := s.SweepTokens(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(when string, want ...string) {
		t.Helper()
		known := knownTokens(s)
		for proxy, id := range ids {
			if _, stays := known[id]; stays != strings.Contains(strings.Join(want, " "), proxy) {
				t.Errorf("%s: token of %s stays: %v; want %v to stay", when, proxy, stays, want)
			}
		}
	}
	sweep(time.Hour)
	commit(t, s, sidecarOf("gone", true), sidecarOf("back", true), sidecarOf("connected", true))
	sweep(time.Hour)
	sweep(71 * time.Hour)
	expect("before", "gone", "back", "connected", "stays")
	commit(t, s, sidecarOf("back", false))
	sweep(30 * time.Minute)
	commit(t, s, sidecarOf("back", true))
	sweep(time.Hour)
	expect("after 72 hours", "back", "connected", "stays")
	records, err := s.AuditRecords(1, 0)
	if err != nil || records[0].Action != "token.expire" || records[0].Object != ids["gone"] || records[0].Detail != "proxy gone: not registered for 72h0m0s" {
		t.Errorf("audit %+v, %v", records, err)
	}
	s.Close()
	s = clocked(t, dir, &now)
	sweep(70 * time.Hour)
	expect("after a restart, which connects nobody", "back", "stays")
	sweep(time.Hour)
	sweep(2 * time.Hour)
	expect("back for a while only", "stays")
}

// Who comes with a token while it is taken away either keeps it or is refused, and is never left with one that is gone.
func TestTokenIsHeldOrGone(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "d"))
	for round := range 20 {
		proxy := snapshot.ProxyID(fmt.Sprintf("web-%d", round))
		secret, id := bootstrapToken(t, s, proxy)
		for range 15 {
			bootstrapToken(t, s, proxy)
		}
		var group sync.WaitGroup
		held := false
		group.Go(func() { _, held = s.Hold(t.Context(), secret) })
		group.Go(func() { bootstrapToken(t, s, proxy) })
		group.Wait()
		if _, stays := knownTokens(s)[id]; held && !stays {
			t.Fatal("a held token is gone")
		}
	}
}

// Run looks once an hour, and ends with its context.
func TestRunSweeps(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now
		s, err := state.Open(state.Config{Dir: dir, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		secret, id := bootstrapToken(t, s, "nobody")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		wait := time.NewTimer(74*time.Hour + time.Minute)
		<-wait.C
		synctest.Wait()
		if _, stays := knownTokens(s)[id]; stays {
			t.Error("the token of a proxy that is not registered is still there")
		}
		if _, ok := s.Authenticate(secret); ok {
			t.Error("it is still good")
		}
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("ended with %v", err)
		}
	})
}
