package snapshot

import (
	"fmt"
	"maps"
	"math/rand"
	"runtime"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/config"
)

func sidecarOf(service, id string, upstreams ...config.Upstream) Event {
	return register(&config.Service{
		Kind: config.KindSidecar, Name: service + "-sidecar-proxy", ID: id, Address: "10.1.0." + id[len(id)-1:], Port: 21000,
		Proxy: &config.Proxy{DestinationServiceName: service, LocalServicePort: 80, Upstreams: upstreams},
	})
}

func gatewayNamed(id string) Event {
	return register(&config.Service{
		Kind: config.KindMeshGateway, Name: "gateway", ID: id, Address: "10.1.1." + id[len(id)-1:], Port: 8443, Proxy: &config.Proxy{},
		TaggedAddresses: map[string]config.Address{"egress": {Port: 8444}},
	})
}

func roots(pem ...string) Event {
	return Event{Key: NewKey(TableRoots), Object: &Bundle{TrustDomain: "us.consul", Roots: pem}}
}

func imported(peer, service string, addresses ...string) Event {
	i := &Import{Peer: peer, Service: service, Protocol: "tcp",
		ServerName: service + ".default.default.us.external." + peer + ".consul",
		SpiffeIDs:  []string{"spiffe://" + peer + ".consul/ns/default/dc/dc2/svc/" + service}}
	for _, address := range addresses {
		i.Gateways = append(i.Gateways, ImportedInstance{Service: &config.Service{Address: address, Port: 443}})
	}
	return Event{Key: NewKey(TableImports, peer, service), Object: i}
}

func check(id, status string) Event {
	return Event{Key: NewKey(TableChecks, "n1", id, "c"), Object: &Check{Node: "n1", ServiceID: id, CheckID: "c", Status: status}}
}

// mesh is two services with two sidecars each, two gateways, two peers and something imported.
func mesh() *follower {
	f := newFollower()
	dial := config.Upstream{DestinationName: "billing", DestinationPeer: "east", LocalBindPort: 9000}
	f.apply(true, us(false), roots("root"), established("east"), established("west"),
		service("db"), service("web"), sidecarOf("db", "db-1"), sidecarOf("db", "db-2"),
		sidecarOf("web", "web-1", dial), sidecarOf("web", "web-2", dial), gatewayNamed("gw-1"), gatewayNamed("gw-2"),
		exports(map[string][]string{"db": {"east", "west"}, "web": {"east"}}),
		entry(intentions("db", allow("web", ""), allow("job", "east"), allow("job", "west"))),
		imported("east", "billing", "10.2.0.1"))
	return f
}

func (f *follower) sidecar(id ProxyID) *Sidecar     { return f.kept.Views[id].(*Sidecar) }
func (f *follower) gateway(id ProxyID) *MeshGateway { return f.kept.Views[id].(*MeshGateway) }

func TestPartsAreShared(t *testing.T) {
	f := mesh()
	one, two := f.sidecar("db-1"), f.sidecar("db-2")
	if len(one.Chains) != 3 || !slices.Equal(one.Chains, two.Chains) || !slices.Equal(one.Authz, two.Authz) {
		t.Errorf("chains of two sidecars of one service: %v and %v", one.Chains, two.Chains)
	}
	one, two = f.sidecar("web-1"), f.sidecar("web-2")
	if len(one.Upstreams) != 1 || one.Upstreams[0] != two.Upstreams[0] || one.Bundles[0] != two.Bundles[0] {
		t.Errorf("equal upstreams of two sidecars: %v and %v", one.Upstreams, two.Upstreams)
	}
	if a, b := f.gateway("gw-1"), f.gateway("gw-2"); len(a.Exports) != 3 || !slices.Equal(a.Exports, b.Exports) || !slices.Equal(a.Imports, b.Imports) {
		t.Errorf("parts of two gateways: %v and %v", a.Exports, b.Exports)
	}
}

// What an update may name: nothing but what the change is about.
func TestWorkFollowsTheChange(t *testing.T) {
	for _, test := range []struct {
		change string
		event  Event
		views  []ProxyID
		sets   []string
	}{
		{"an instance fails", check("db-1", config.HealthCritical), nil, []string{"svc~db~default"}},
		{"a gateway of ours fails", check("gw-1", config.HealthCritical), nil, []string{"gw~local"}},
		{"an intention", entry(intentions("db", allow("web", ""))), []ProxyID{"db-1", "db-2"}, nil},
		{"an intention without effect", entry(intentions("db", allow("job", "west"), allow("job", "east"), allow("web", ""))), nil, nil},
		{"intentions of a service without sidecars", entry(intentions("api", allow("web", ""))), nil, nil},
		{"a gateway of a peer", imported("east", "billing", "10.2.0.1", "10.2.0.2"), nil, []string{"gw~east"}},
		{"an import nobody dials", imported("east", "mail", "10.2.0.1"), nil, nil},
		{"an import is withdrawn", Event{Key: NewKey(TableImports, "east", "billing")}, []ProxyID{"web-1", "web-2"}, []string{"gw~east"}},
		{"a wildcard export of what is exported", exports(map[string][]string{"*": {"east"}, "db": {"west"}}), nil, nil},
		{"a peer is renamed by its side", Event{Key: NewKey(TablePeers, "west"), Object: &Peer{
			Name: "west", State: Establishing, TrustDomain: "west.consul", Roots: []string{"west root"}, OurName: "we",
		}}, []ProxyID{"gw-1", "gw-2"}, nil},
		{"new roots of a peer", Event{Key: NewKey(TablePeers, "west"), Object: &Peer{
			Name: "west", State: Establishing, TrustDomain: "west.consul", Roots: []string{"new"}, OurName: "us",
		}}, []ProxyID{"db-1", "db-2"}, nil},
		{"a peer's addresses", Event{Key: NewKey(TablePeers, "east"), Object: &Peer{
			Name: "east", State: Establishing, TrustDomain: "east.consul", Roots: []string{"east root"}, OurName: "us",
			ServerAddresses: []string{"10.2.0.7:8503"},
		}}, nil, nil},
	} {
		f := mesh()
		delta := f.apply(false, test.event)
		if got := slices.Sorted(maps.Keys(delta.Views)); !slices.Equal(got, test.views) {
			t.Errorf("%s: views %v, want %v", test.change, got, test.views)
		}
		if got := slices.Sorted(maps.Keys(delta.Endpoints)); !slices.Equal(got, test.sets) {
			t.Errorf("%s: endpoint sets %v, want %v", test.change, got, test.sets)
		}
	}
}

// Of a service's chains the ones of other scopes stay, and of the changed scope the chain itself: who may come in by it is
// in Authz.
func TestUnchangedPartsStay(t *testing.T) {
	f := mesh()
	before := f.sidecar("db-1")
	f.apply(false, entry(intentions("db", allow("web", ""), allow("job", "east"), allow("cron", "east"), allow("job", "west"))))
	after := f.sidecar("db-1")
	if !slices.Equal(before.Chains, after.Chains) {
		t.Error("a chain changed although only its admission did")
	}
	for i, changed := range []bool{false, true, false} {
		if (before.Authz[i] != after.Authz[i]) != changed {
			t.Errorf("authz of %q: changed is not %v", after.Authz[i].Peer, changed)
		}
	}
	if before.Inbound != after.Inbound {
		t.Error("inbound changed")
	}
	gateway := f.gateway("gw-1")
	f.apply(false, exports(map[string][]string{"db": {"east", "west"}, "web": {"east"}, "api": {"east"}}))
	grown := f.gateway("gw-1")
	if len(grown.Exports) != 4 || !slices.Equal(slices.DeleteFunc(slices.Clone(grown.Exports), func(e *GatewayExport) bool {
		return e.Service == "api"
	}), gateway.Exports) {
		t.Errorf("one more export: %v, before %v", grown.Exports, gateway.Exports)
	}
}

// The same events in any order, and in any batches, give the same views.
func TestOrderDoesNotMatter(t *testing.T) {
	events := []Event{
		us(false), roots("b", "a"), established("east"), established("west"), service("db"), service("web"),
		sidecarOf("db", "db-1"), sidecarOf("web", "web-1", config.Upstream{DestinationName: "billing", DestinationPeer: "east", LocalBindPort: 9000}),
		gatewayNamed("gw-1"), gatewayNamed("gw-2"), exports(map[string][]string{"*": {"east"}, "db": {"west"}}),
		entry(intentions("db", allow("*", "east"), allow("web", ""))), entry(intentions("*", deny("job", "east"), allow("job", "west"))),
		imported("east", "billing", "10.2.0.1", "10.2.0.2"), imported("east", "mail", "10.2.0.2"), check("db-1", config.HealthCritical),
		entry(&config.PeerPolicy{Name: "*", Accept: []string{"billing"}}),
	}
	want := newFollower()
	want.apply(true, events...)
	random := rand.New(rand.NewSource(1))
	for range 50 {
		random.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		got := newFollower()
		for rest := events; len(rest) > 0; {
			n := 1 + random.Intn(len(rest))
			got.apply(false, rest[:n]...)
			rest = rest[n:]
		}
		if got.all() != want.all() {
			t.Fatalf("order %v:\n%s\nwant\n%s", events, got.all(), want.all())
		}
	}
}

// Nothing stays of what came and went: neither of services, which the wildcard exports, nor of peers.
func TestNothingLeaks(t *testing.T) {
	f := mesh()
	f.apply(false, exports(map[string][]string{"*": {"east"}, "web": {"west"}}))
	// Each cycle starts at the same World: it keeps the index of the last change of each name, which is not the matter here.
	world := f.world
	cycle := func(events ...Event) {
		f.world = world
		f.apply(false, events...)
		gone := make([]Event, len(events))
		for i := range events {
			gone[i] = Event{Key: events[i].Key}
		}
		f.apply(false, gone...)
	}
	cycles := func(from, to int) {
		for i := from; i < to; i++ {
			name, peer := fmt.Sprintf("s%d", i), fmt.Sprintf("p%d", i)
			cycle(service(name))
			if i%100 == 0 {
				cycle(established(peer), imported(peer, name, "10.2.0.1"), entry(intentions(name, allow("x", "east"))), sidecarOf(name, name+"-1",
					config.Upstream{DestinationName: name, DestinationPeer: peer, LocalBindPort: 9000}))
			}
		}
	}
	size := func() (nodes, keys int, heap uint64) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return f.views.graph.count, len(f.views.graph.readers), m.HeapAlloc
	}
	cycles(0, 200)
	nodes, keys, heap := size()
	cycles(200, 10_200)
	afterNodes, afterKeys, afterHeap := size()
	if afterNodes != nodes || afterKeys != keys {
		t.Errorf("%d nodes and %d keys after 10,000 cycles, %d and %d before", afterNodes, afterKeys, nodes, keys)
	}
	if afterHeap > heap+2<<20 {
		t.Errorf("heap grew from %d to %d bytes", heap, afterHeap)
	}
}

// What was handed out may be read, and translated once, while the next update is derived: the race detector watches.
func TestReadWhileUpdating(t *testing.T) {
	f := mesh()
	stop, ended := make(chan struct{}), make(chan struct{})
	view, gateway := f.sidecar("db-1"), f.gateway("gw-1")
	go func() {
		defer close(ended)
		for {
			for i, chain := range view.Chains {
				chain.Do(func() any { return chain.ServerName })
				view.Authz[i].Do(func() any { return len(view.Authz[i].Roots) })
			}
			for _, export := range gateway.Exports {
				export.Do(func() any { return export.Peer })
			}
			dump(view)
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	for i := range 20 {
		f.apply(i%5 == 0, entry(intentions("db", allow("web", ""), allow(fmt.Sprint("job", i), "east"))), service(fmt.Sprint("s", i)))
	}
	close(stop)
	<-ended
}
