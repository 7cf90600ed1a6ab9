package snapshot

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/config"
)

// follower applies updates to Views and keeps what their deltas say, as the process does.
type follower struct {
	views *Views
	world *World
	kept  Delta
}

func newFollower() *follower {
	return &follower{views: NewViews(), world: NewWorld(), kept: newDelta()}
}

func (f *follower) apply(all bool, events ...Event) Delta {
	f.world = f.world.With(f.world.Index+1, events)
	update := Update{World: f.world, All: all}
	for _, event := range events {
		update.Changed = append(update.Changed, event.Key)
	}
	delta := f.views.Update(update)
	for id, view := range delta.Views {
		if view == nil {
			delete(f.kept.Views, id)
		} else {
			f.kept.Views[id] = view
		}
	}
	for name, set := range delta.Endpoints {
		f.kept.Endpoints[name] = set
	}
	return delta
}

// all returns the text of everything that is kept. A set that is gone is kept without endpoints, and left out here.
func (f *follower) all() string {
	wanted := map[string]bool{}
	for key := range f.views.sets.nodes {
		wanted[key.name()] = true
	}
	for name, set := range f.kept.Endpoints {
		if !wanted[name] && len(set.Endpoints)+len(set.Skipped) == 0 {
			delete(f.kept.Endpoints, name)
		}
	}
	return dump(f.kept)
}

func dump(value any) string {
	text, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		panic(err)
	}
	return string(text)
}

var (
	someServices = rapid.SampledFrom([]string{"db", "web", "api", "DB", "consul"})
	somePeers    = rapid.SampledFrom([]string{"east", "west", "local"})
	someScopes   = rapid.SampledFrom([]string{"", "east", "west"})
	someSources  = rapid.SampledFrom([]string{"web", "api", "job", config.Wildcard})
	someModes    = rapid.SampledFrom([]config.GatewayMode{"", config.ModeLocal, config.ModeRemote})
	someHosts    = rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2", "gw.example", "127.0.0.1", ""})
)

// someEvent draws one change of a small World, so that histories meet themselves often.
func someEvent(t *rapid.T) Event {
	draws := []func(*rapid.T) Event{
		drawCluster, drawInstance, drawInstance, drawProxy, drawProxy, drawGateway, drawCheck,
		drawExports, drawIntentions, drawIntentions, drawDefaults, drawPolicy, drawPeer, drawImport, drawImport, drawName,
	}
	event := draws[rapid.IntRange(0, len(draws)-1).Draw(t, "kind")](t)
	if rapid.IntRange(0, 4).Draw(t, "delete") == 0 {
		event.Object = nil
	}
	return event
}

func drawCluster(t *rapid.T) Event {
	if rapid.Bool().Draw(t, "roots") {
		roots := rapid.SampledFrom([][]string{nil, {"root-1"}, {"root-2", "root-1"}}).Draw(t, "pem")
		return Event{Key: NewKey(TableRoots), Object: &Bundle{TrustDomain: "us.consul", Roots: roots}}
	}
	return Event{Key: NewKey(TableCluster), Object: &Cluster{
		TrustDomain: "us.consul", Datacenter: "dc1", NodeName: rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "node"),
		DefaultAllow: rapid.Bool().Draw(t, "allow"), TLSMin13: rapid.Bool().Draw(t, "tls13"),
	}}
}

func register(service *config.Service) Event {
	return Event{
		Key:    NewKey(TableInstances, service.Name, "n1", service.ID),
		Object: &Instance{Node: "n1", NodeAddress: "10.1.0.1", Service: service},
	}
}

func drawInstance(t *rapid.T) Event {
	name := someServices.Draw(t, "service")
	return register(&config.Service{
		Name: name, ID: name + rapid.SampledFrom([]string{"-1", "-2"}).Draw(t, "id"), Port: rapid.IntRange(0, 2).Draw(t, "port"),
		ConnectNative: rapid.IntRange(0, 3).Draw(t, "native") == 0,
		Weights:       config.Weights{Passing: rapid.IntRange(0, 300).Draw(t, "weight")},
	})
}

func drawProxy(t *rapid.T) Event {
	name := someServices.Draw(t, "service")
	proxy := &config.Proxy{DestinationServiceName: name, DestinationServiceID: name + "-1"}
	for range rapid.IntRange(0, 3).Draw(t, "upstreams") {
		proxy.Upstreams = append(proxy.Upstreams, config.Upstream{
			DestinationName: someServices.Draw(t, "upstream"), DestinationPeer: someScopes.Draw(t, "peer"),
			LocalBindPort: rapid.IntRange(0, 3).Draw(t, "port"), MeshGateway: config.MeshGateway{Mode: someModes.Draw(t, "mode")},
		})
	}
	return register(&config.Service{
		Kind: config.KindSidecar, Name: name + "-sidecar-proxy", ID: name + rapid.SampledFrom([]string{"-p1", "-p2"}).Draw(t, "id"),
		Address: someHosts.Draw(t, "address"), Port: 21000, Proxy: proxy,
	})
}

func drawGateway(t *rapid.T) Event {
	service := &config.Service{
		Kind: config.KindMeshGateway, Name: "gateway", ID: rapid.SampledFrom([]string{"gw-1", "gw-2"}).Draw(t, "id"),
		Address: someHosts.Draw(t, "address"), Port: 8443, Proxy: &config.Proxy{},
	}
	if rapid.Bool().Draw(t, "egress") {
		service.TaggedAddresses = map[string]config.Address{"egress": {Address: someHosts.Draw(t, "egress"), Port: 8444}}
	}
	return register(service)
}

func drawCheck(t *rapid.T) Event {
	id := rapid.SampledFrom([]string{"", "db-1", "db-p1", "web-p1", "gw-1"}).Draw(t, "instance")
	status := rapid.SampledFrom([]string{"passing", "warning", "critical", "maintenance"}).Draw(t, "status")
	return Event{Key: NewKey(TableChecks, "n1", id, "check"), Object: &Check{Node: "n1", ServiceID: id, CheckID: "check", Status: status}}
}

func entry(e config.Entry) Event {
	return Event{Key: NewKey(TableEntries, e.EntryKind(), e.EntryName()), Object: &Entry{Value: e}}
}

func drawExports(t *rapid.T) Event {
	exports := &config.ExportedServices{Name: "default"}
	for range rapid.IntRange(0, 3).Draw(t, "services") {
		exports.Services = append(exports.Services, config.ExportedService{
			Name:      rapid.OneOf(someServices, rapid.Just(config.Wildcard)).Draw(t, "name"),
			Consumers: []config.Consumer{{Peer: somePeers.Draw(t, "peer")}},
		})
	}
	if rapid.IntRange(0, 5).Draw(t, "bulk") == 0 {
		for i := range rapid.IntRange(few, few+4).Draw(t, "more") {
			exports.Services = append(exports.Services, config.ExportedService{
				Name: fmt.Sprintf("bulk-%d", i), Consumers: []config.Consumer{{Peer: "east"}},
			})
		}
	}
	return entry(exports)
}

func drawIntentions(t *rapid.T) Event {
	intentions := &config.ServiceIntentions{Name: rapid.OneOf(someServices, rapid.Just(config.Wildcard)).Draw(t, "dest")}
	for range rapid.IntRange(0, 4).Draw(t, "sources") {
		intentions.Sources = append(intentions.Sources, config.SourceIntention{
			Name: someSources.Draw(t, "source"), Peer: someScopes.Draw(t, "peer"),
			Action: rapid.SampledFrom([]config.Action{config.Allow, config.Deny}).Draw(t, "action"),
		})
	}
	return entry(intentions)
}

func drawDefaults(t *rapid.T) Event {
	if rapid.Bool().Draw(t, "all") {
		config := &config.ProxyDefaults{Name: "global", MeshGateway: config.MeshGateway{Mode: someModes.Draw(t, "mode")}}
		config.Config = map[string]any{"protocol": rapid.SampledFrom([]string{"", "tcp", "http"}).Draw(t, "protocol")}
		return entry(config)
	}
	return entry(&config.ServiceDefaults{
		Name: someServices.Draw(t, "service"), Protocol: rapid.SampledFrom([]string{"", "tcp", "http"}).Draw(t, "protocol"),
		MaxInboundConnections: rapid.IntRange(0, 1).Draw(t, "connections"),
		UpstreamConfig: &config.UpstreamConfig{Overrides: []config.UpstreamOverride{{
			Name: someServices.Draw(t, "upstream"), Peer: someScopes.Draw(t, "peer"),
			MeshGateway: config.MeshGateway{Mode: someModes.Draw(t, "mode")},
		}}},
	})
}

func drawPolicy(t *rapid.T) Event {
	policy := &config.PeerPolicy{Name: rapid.OneOf(somePeers, rapid.Just(config.Wildcard)).Draw(t, "peer")}
	if rapid.Bool().Draw(t, "addresses") {
		policy.AllowAddresses = []config.AddressRule{{Prefix: netip.MustParsePrefix("10.0.0.0/31")}}
	}
	if rapid.Bool().Draw(t, "accept") {
		policy.Accept = []string{someServices.Draw(t, "service")}
	}
	return entry(policy)
}

func drawPeer(t *rapid.T) Event {
	name := somePeers.Draw(t, "peer")
	return Event{Key: NewKey(TablePeers, name), Object: &Peer{
		Name: name, State: rapid.SampledFrom([]PeerState{Pending, Establishing, Establishing, Terminated}).Draw(t, "state"),
		TrustDomain: rapid.SampledFrom([]string{"", "us.consul", name + ".consul", "same.consul"}).Draw(t, "domain"),
		Roots:       rapid.SampledFrom([][]string{nil, {"a"}, {"b", "a"}, {"b", "a"}}).Draw(t, "roots"),
		OurName:     rapid.SampledFrom([]string{"", "we", "we"}).Draw(t, "ourname"),
	}}
}

func drawImport(t *rapid.T) Event {
	peer, service := somePeers.Draw(t, "peer"), someServices.Draw(t, "service")
	imported := &Import{
		Peer: peer, Service: service, ServerName: fmt.Sprintf("%s.default.default.we.external.%s.consul", service, peer),
		SpiffeIDs: []string{"spiffe://" + peer + ".consul/ns/default/dc/dc2/svc/" + service},
	}
	if rapid.IntRange(0, 3).Draw(t, "routable") == 0 {
		imported.NotRoutable = "protocol http"
	}
	for range rapid.IntRange(0, 2).Draw(t, "gateways") {
		imported.Gateways = append(imported.Gateways, ImportedInstance{
			Service: &config.Service{Address: someHosts.Draw(t, "address"), Port: 8443},
			Health:  rapid.SampledFrom([]string{"", "critical"}).Draw(t, "health"),
		})
	}
	return Event{Key: NewKey(TableImports, peer, service), Object: imported}
}

func drawName(t *rapid.T) Event {
	resolved := &ResolvedName{Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.1")}}
	return Event{Key: NewKey(TableNames, "gw.example"), Object: resolved}
}

// Whatever happened, and in whatever batches, what is kept is what a fresh start derives, the graph holds no node
// more, and an update names nothing that stayed the same.
func TestIncrementalEqualsFromScratch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFollower()
		for range rapid.IntRange(1, 30).Draw(t, "updates") {
			before := map[ProxyID]string{}
			for id, view := range f.kept.Views {
				before[id] = dump(view)
			}
			events := rapid.SliceOfN(rapid.Custom(someEvent), 1, 4).Draw(t, "events")
			delta := f.apply(rapid.IntRange(0, 9).Draw(t, "all") == 0, events...)
			for id, view := range delta.Views {
				if view != nil && before[id] == dump(view) {
					t.Fatalf("view %s is in the delta and did not change", id)
				}
			}
			scratch := newFollower()
			scratch.world = f.world
			scratch.apply(true)
			if got, want := f.all(), scratch.all(); got != want {
				t.Fatalf("incremental:\n%s\nfrom scratch:\n%s", got, want)
			}
			if f.views.graph.count != scratch.views.graph.count || len(f.views.graph.readers) != len(scratch.views.graph.readers) {
				t.Fatalf("%d nodes, want %d", f.views.graph.count, scratch.views.graph.count)
			}
		}
	})
}
