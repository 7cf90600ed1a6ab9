package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// watchers is how many clients watch the same at a time.
const watchers = 100

// A wake is one answer of a blocking query.
type wake struct {
	watcher   int
	index     uint64
	instances int
	err       error
}

// watch asks for the passing instances of a service again and again, as Consul's clients do, and tells of each answer.
func watch(ctx context.Context, c *api.Client, watcher int, service string, wakes chan<- wake) {
	var index uint64
	for ctx.Err() == nil {
		options := (&api.QueryOptions{WaitIndex: index, WaitTime: time.Minute}).WithContext(ctx)
		found, meta, err := c.Health().Service(service, "", true, options)
		w := wake{watcher: watcher, instances: len(found), err: err}
		if err == nil {
			w.index, index = meta.LastIndex, meta.LastIndex
		}
		select {
		case wakes <- w:
		case <-ctx.Done():
		}
		if err != nil {
			return
		}
	}
}

// TestConsulClientBlocking: 100 watchers wake once for each change of what they watch, and for no other; what they see
// as index never falls, also when what they watch goes.
func TestConsulClientBlocking(t *testing.T) {
	l := lab.New(t)
	c := clientOf(l.Cluster("alpha"))
	register := func(name string) {
		ok(t, c.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: name, Port: 80,
			Check: &api.AgentServiceCheck{CheckID: name, TTL: "1h", Status: api.HealthPassing}}))
	}
	register("web")
	register("other")

	ctx, cancel := context.WithCancel(t.Context())
	wakes := make(chan wake, watchers)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for i := range watchers {
		running.Go(func() { watch(ctx, c, i, "web", wakes) })
	}
	seen := make([]uint64, watchers)
	all := func(what string, instances int) { // each watcher wakes exactly once
		t.Helper()
		woken := make([]bool, watchers)
		timeout := time.After(lab.Patience)
		for n := range watchers {
			select {
			case w := <-wakes:
				switch {
				case w.err != nil:
					t.Fatalf("%s: watcher %d: %v", what, w.watcher, w.err)
				case woken[w.watcher]:
					t.Fatalf("%s: watcher %d woke twice", what, w.watcher)
				case w.index <= seen[w.watcher]:
					t.Fatalf("%s: watcher %d: index went from %d to %d", what, w.watcher, seen[w.watcher], w.index)
				case w.instances != instances:
					t.Fatalf("%s: watcher %d sees %d instances, want %d", what, w.watcher, w.instances, instances)
				}
				woken[w.watcher], seen[w.watcher] = true, w.index
			case <-timeout:
				t.Fatalf("%s: %d watchers of %d woke", what, n, watchers)
			}
		}
	}
	all("first answer", 1)
	for i := range 5 {
		// Changes of others come before each of web's: had they woken anybody, web's would find watchers awake twice.
		ok(t, c.Agent().UpdateTTL("other", fmt.Sprint(i), api.HealthWarning))
		_, _, err := c.ConfigEntries().Set(&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "other", Meta: map[string]string{"i": fmt.Sprint(i)}}, nil)
		ok(t, err)
		ok(t, c.Agent().UpdateTTL("web", "failed", api.HealthCritical))
		all("web fails", 0)
		ok(t, c.Agent().UpdateTTL("web", "fine", api.HealthPassing))
		all("web passes", 1)
	}
	ok(t, c.Agent().ServiceDeregister("web"))
	all("web is gone", 0)
	register("web")
	all("web is back", 1)
}

// TestConsulClientRestore: a restore brings back what was there, and whoever watches hears of it.
func TestConsulClientRestore(t *testing.T) {
	l := lab.New(t)
	cluster := l.Cluster("alpha")
	c := clientOf(cluster)
	ok(t, c.Agent().ServiceRegister(&api.AgentServiceRegistration{Name: "web", Port: 80}))
	backup, _, err := c.Snapshot().Save(nil)
	ok(t, err)
	saved, err := io.ReadAll(backup)
	ok(t, errors.Join(err, backup.Close()))
	ok(t, c.Agent().ServiceDeregister("web"))
	before := must[map[string][]string](t)(c.Catalog().Services(nil))
	if _, there := before["web"]; there {
		t.Fatalf("services: %v", before)
	}
	if err := clientOf(l.Cluster("gamma")).Snapshot().Restore(nil, bytes.NewReader(saved)); err == nil || !strings.Contains(err.Error(), "want a server with --node-name alpha") {
		t.Errorf("restored on another node: %v", err)
	}
	if err := c.Snapshot().Restore(nil, strings.NewReader("nonsense")); err == nil || !strings.Contains(err.Error(), "is not a snapshot of ours") {
		t.Errorf("restored nonsense: %v", err)
	}
	ok(t, c.Snapshot().Restore(nil, bytes.NewReader(saved)))
	if after := must[map[string][]string](t)(c.Catalog().Services(nil)); after["web"] == nil { // who asks now waits, and is not refused
		t.Errorf("services after the restore: %v", after)
	}

	// Elsewhere it makes another cluster of a server: with the keys, the trust domain and the tokens of the backup.
	other := l.Cluster("beta", "--node-name", "alpha")
	elsewhere := clientOf(other)
	want, had := must[*api.CARootList](t)(c.Connect().CARoots(nil)), must[*api.CARootList](t)(elsewhere.Connect().CARoots(nil))
	ok(t, elsewhere.Snapshot().Restore(nil, bytes.NewReader(saved)))
	roots, leaf := must[*api.CARootList](t)(elsewhere.Connect().CARoots(nil)), must[*api.LeafCert](t)(elsewhere.Agent().ConnectCALeaf("web", nil))
	if roots.ActiveRootID != want.ActiveRootID || !strings.Contains(leaf.ServiceURI, want.TrustDomain) {
		t.Errorf("root %s (was %s, want %s), leaf of %s", roots.ActiveRootID, had.ActiveRootID, want.ActiveRootID, leaf.ServiceURI)
	}
	if !other.Server.Running() || !strings.Contains(other.Server.Output(), "state restored: the server starts anew") {
		t.Error("the server did not start anew")
	}
}
