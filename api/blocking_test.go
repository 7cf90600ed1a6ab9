package api

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

func serviceNamed(name string) *config.Service {
	return &config.Service{ID: name, Name: name, Port: 80}
}

func service(l *lab, name, node string) {
	i := &snapshot.Instance{Node: node, NodeAddress: "10.0.0.1", Service: serviceNamed(name)}
	l.commit(snapshot.Event{Key: instanceKey(i), Object: i})
}

func sidecarOf(l *lab, name string) snapshot.Event {
	i := &snapshot.Instance{Node: "node1", Service: &config.Service{
		ID: name + "-proxy", Name: name + "-proxy", Kind: config.KindSidecar, Proxy: &config.Proxy{DestinationServiceName: name},
	}}
	return snapshot.Event{Key: instanceKey(i), Object: i}
}

func checkOf(name, node, id, status string) snapshot.Event {
	c := &snapshot.Check{Node: node, ServiceID: name, ServiceName: name, CheckID: id, Status: status}
	return snapshot.Event{Key: checkKey(c), Object: c}
}

func put(table snapshot.Table, object any, parts ...string) snapshot.Event {
	return snapshot.Event{Key: snapshot.NewKey(table, parts...), Object: object}
}

// Each question wakes for each change of what was asked, deletions included, and not for its neighbours'.
func TestWakesForWhatWasAsked(t *testing.T) {
	gone := func(e snapshot.Event) snapshot.Event { e.Object = nil; return e }
	web := checkOf("web", "node1", "c", "passing")
	webInstance := put(snapshot.TableInstances, &snapshot.Instance{Node: "node1", Service: &config.Service{ID: "web2", Name: "web"}}, "web", "node1", "web2")
	entry := func(name string) snapshot.Event {
		return entryEvent(&config.ServiceDefaults{Name: name})
	}
	db := put(snapshot.TableImports, &snapshot.Import{Peer: "east", Service: "db"}, "east", "db")
	for path, events := range map[string]struct{ wakes, sleeps []snapshot.Event }{
		"/v1/health/service/web": {
			[]snapshot.Event{web, gone(web), webInstance, gone(webInstance), checkOf("", "node1", "n", "critical"), put(snapshot.TableNodes, &snapshot.Node{Name: "node1"}, "node1")},
			[]snapshot.Event{checkOf("api", "node1", "c", "critical"), put(snapshot.TableNodes, &snapshot.Node{Name: "other"}, "other"), entry("web")},
		},
		"/v1/health/connect/web": {
			[]snapshot.Event{sidecarOf(nil, "web"), checkOf("web-proxy", "node1", "c", "critical"), gone(sidecarOf(nil, "web"))},
			[]snapshot.Event{sidecarOf(nil, "api"), web},
		},
		"/v1/catalog/service/web": {[]snapshot.Event{webInstance, gone(webInstance)}, []snapshot.Event{web, sidecarOf(nil, "web")}},
		"/v1/health/checks/web":   {[]snapshot.Event{web, gone(web)}, []snapshot.Event{checkOf("api", "node1", "c", "critical")}},
		"/v1/catalog/node/node1": {
			[]snapshot.Event{webInstance, gone(webInstance)},
			[]snapshot.Event{put(snapshot.TableInstances, &snapshot.Instance{Node: "n2", Service: &config.Service{ID: "x", Name: "x"}}, "x", "n2", "x")},
		},
		"/v1/config/service-defaults/web": {[]snapshot.Event{entry("web"), gone(entry("web"))}, []snapshot.Event{entry("db")}},
		"/v1/config/service-defaults":     {[]snapshot.Event{entry("a"), entry("b")}, []snapshot.Event{entryEvent(&config.Mesh{})}},
		"/v1/health/service/db?peer=east": {[]snapshot.Event{db, gone(db)}, []snapshot.Event{put(snapshot.TableImports, &snapshot.Import{Peer: "east", Service: "x"}, "east", "x")}},
		"/v1/catalog/services?peer=east":  {[]snapshot.Event{db, gone(db)}, []snapshot.Event{put(snapshot.TableImports, &snapshot.Import{Peer: "west", Service: "x"}, "west", "x")}},
		"/v1/peerings":                    {[]snapshot.Event{put(snapshot.TablePeers, &snapshot.Peer{Name: "east"}, "east")}, []snapshot.Event{db}},
		"/v1/connect/ca/roots":            {[]snapshot.Event{put(snapshot.TableRoots, &snapshot.Bundle{}, "")}, []snapshot.Event{db}},
		"/v1/connect/intentions/match?by=destination&name=db": {
			[]snapshot.Event{entryEvent(&config.ServiceIntentions{Name: "db"}), entryEvent(&config.ServiceIntentions{Name: "*"})},
			[]snapshot.Event{entryEvent(&config.ServiceIntentions{Name: "api"})},
		},
	} {
		l := newLab(t)
		service(l, "web", "node1")
		service(l, "api", "node1")
		for _, event := range events.sleeps {
			before := l.index(path)
			l.commit(event)
			if after := l.index(path); after != before {
				t.Errorf("%s: index %d became %d for %s: want no change", path, before, after, event.Key)
			}
		}
		for _, event := range events.wakes {
			before := l.index(path)
			at := l.commit(event)
			if after := l.index(path); after != at || after <= before {
				t.Errorf("%s: index %d became %d for %s: want %d", path, before, after, event.Key, at)
			}
		}
	}
}

// index asks without waiting. Whatever the status, the index is there.
func (l *lab) index(path string) uint64 {
	l.t.Helper()
	index, err := strconv.ParseUint(l.ask("GET", path, "").index(l.t), 10, 64)
	if err != nil {
		l.t.Fatal(err)
	}
	return index
}

// A hundred clients wait for one service and follow it by its index: each sees each change once, however many others
// there are beside it, and no index falls.
func TestHundredWatchers(t *testing.T) {
	const watchers, changes = 100, 5
	l := newLab(t)
	service(l, "web", "node1")
	start := l.index("/v1/health/service/web")
	waiting, seen := make(chan struct{}, watchers), make(chan struct{}, watchers)
	var group sync.WaitGroup
	for range watchers {
		group.Go(func() {
			last := start
			for range changes {
				waiting <- struct{}{}
				a := l.ask("GET", fmt.Sprintf("/v1/health/service/web?wait=60s&index=%d", last), "")
				index, err := strconv.ParseUint(a.header.Get("X-Consul-Index"), 10, 64)
				if err != nil || index <= last || a.status != http.StatusOK {
					t.Errorf("index %d after %d, status %d", index, last, a.status)
				}
				last = index
				seen <- struct{}{}
			}
			if current := l.index("/v1/health/service/web"); last != current {
				t.Errorf("last index %d: want %d", last, current)
			}
		})
	}
	for change := range changes {
		for range watchers {
			<-waiting
		}
		l.commit(checkOf("api", "node1", fmt.Sprint(change), "passing")) // nobody's
		l.commit(checkOf("web", "node1", "c", fmt.Sprint("passing", change)))
		for range watchers {
			<-seen
		}
	}
	group.Wait()
}

// The wait ends without a change: the answer is the same, and so is its index.
func TestWaitEnds(t *testing.T) {
	l := newLab(t)
	before := l.index("/v1/catalog/nodes")
	a := l.must("GET", fmt.Sprintf("/v1/catalog/nodes?wait=10ms&index=%d", before), "")
	if got := a.index(t); got != fmt.Sprint(before) {
		t.Errorf("index %s: want %d", got, before)
	}
}

// A client that has seen more than there is asks a server that was restored: it does not wait for its past to come back.
func TestIndexOfTheFutureDoesNotWait(t *testing.T) {
	l := newLab(t)
	if got := l.index("/v1/catalog/nodes?wait=10m&index=999999"); got >= 999999 {
		t.Errorf("index %d: want ours", got)
	}
}

// After a restart the World has forgotten what was deleted: the index is still not below what was answered before.
func TestIndexSurvivesARestart(t *testing.T) {
	l := newLab(t)
	l.must("PUT", "/v1/config", exportDB)
	l.must("DELETE", "/v1/config/exported-services/default", "")
	before := l.index("/v1/config/exported-services/default")
	world := l.store.publisher.World()
	again := newLab(t, func(c *Config) {
		fresh := snapshot.Loaded(world.Index, []snapshot.Event{put(snapshot.TableCluster, world.Cluster(), "")})
		c.Publisher = snapshot.NewPublisher(fresh)
	})
	if after := again.index("/v1/config/exported-services/default"); after < before {
		t.Errorf("index %d fell from %d", after, before)
	}
}

// The agent's own endpoint waits for a hash, not for an index.
func TestHashBlocking(t *testing.T) {
	l := newLab(t)
	l.must("PUT", "/v1/agent/service/register", webRegistration)
	first := l.must("GET", "/v1/agent/service/web1", "").header.Get("X-Consul-Contenthash")
	done := make(chan answer, 1)
	go func() { done <- l.ask("GET", "/v1/agent/service/web1?wait=60s&hash="+first, "") }()
	l.must("PUT", "/v1/agent/check/warn/service:web1", "") // no part of the registration
	l.must("PUT", "/v1/agent/service/register", `{"ID":"web1","Name":"web","Port":9090}`)
	a := <-done
	if second := a.header.Get("X-Consul-Contenthash"); second == first || second == "" {
		t.Errorf("hash %q after %q: want another", second, first)
	}
	check(t, a, "second", 200, []string{`"Port":9090`})
}
