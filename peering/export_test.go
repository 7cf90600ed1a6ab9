package peering

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// importerOf is a raw peer that takes what east exports to west, and the first list of it.
func importerOf(t testing.TB, east *cluster) (*rawPeer, []string) {
	t.Helper()
	p, _ := dialRaw(t, east, "west")
	p.subscribe()
	var names wire.ExportedServiceList
	for wanted := map[string]bool{wire.TrustBundleID: true, wire.AddressesID: true, wire.ServiceListID: true}; len(wanted) > 0; {
		r := p.next("what comes first", func(m *wire.ReplicationMessage) bool { return m.GetResponse() != nil }).GetResponse()
		require.True(t, wanted[r.ResourceID], "%s before the list of services", r.ResourceID)
		delete(wanted, r.ResourceID)
		if r.ResourceID == wire.ServiceListID {
			require.NoError(t, r.Resource.UnmarshalTo(&names))
			if len(names.Services) > 0 {
				p.send(answer(r, 0, ""))
				break
			}
		}
		p.send(answer(r, 0, ""))
	}
	return p, names.Services
}

// none wants no resource before the answer to something that is sent now.
func (p *rawPeer) none() {
	p.t.Helper()
	nonce := p.offer("type.googleapis.com/odd", "x", &wire.RemoteInfo{})
	p.next("the answer", func(m *wire.ReplicationMessage) bool {
		require.Nil(p.t, m.GetResponse(), "a resource that was not expected")
		return m.GetRequest().GetResponseNonce() == nonce
	})
}

func TestMeshFormIsOneInstanceForEachGateway(t *testing.T) {
	east := newCluster(t, "east")
	east.commit(append(reachable("db"), exports("west", "db"), meshGateway("node-2", "gateway-2", "198.51.100.2", 444), check("node-2", "gateway-2", "critical"), check("node-1", "db-1", "critical"))...)
	p, names := importerOf(t, east)
	require.Equal(t, []string{"db"}, names)
	var forms [2][]*wire.CheckServiceNode
	for range forms {
		r := p.next("a form", func(m *wire.ReplicationMessage) bool { return m.GetResponse().GetResourceURL() == wire.TypeService }).GetResponse()
		forms[len(r.ResourceID)/3%2] = p.instances(r)
		p.send(answer(r, 0, ""))
	}
	normal, mesh := forms[0], forms[1]
	if len(normal) == 2 {
		normal, mesh = mesh, normal
	}
	require.Len(t, normal, 1)
	require.Equal(t, "critical", normal[0].Checks[0].Status)
	require.Nil(t, normal[0].Service.Proxy)
	require.Len(t, mesh, 2)
	for i, instance := range mesh {
		s := instance.Service
		require.Equal(t, fmt.Sprintf("db-sidecar-proxy-instance-%d", i), s.ID)
		require.Equal(t, "connect-proxy", s.Kind)
		require.Equal(t, "db-sidecar-proxy", s.Service)
		require.Equal(t, "db", s.Proxy.DestinationServiceName)
		require.Equal(t, fmt.Sprintf("198.51.100.%d", i+1), s.TaggedAddresses["wan"].Address)
		require.NotContains(t, s.TaggedAddresses, "egress", "nobody else's business")
		require.Equal(t, []string{"db.default.default.west.external." + east.trustDomain}, s.Connect.PeerMeta.SNI)
		require.Equal(t, []string{"spiffe://" + east.trustDomain + "/ns/default/dc/dc1/svc/db", "spiffe://" + east.trustDomain + "/gateway/mesh/dc/dc1"}, s.Connect.PeerMeta.SpiffeID)
		require.Equal(t, "tcp", s.Connect.PeerMeta.Protocol)
	}
	require.Empty(t, mesh[0].Checks, "the service's health is not the gateway's")
	require.Equal(t, "critical", mesh[1].Checks[0].Status)
	require.Equal(t, "db-sidecar-proxy-instance-1:overall-check", mesh[1].Checks[0].CheckID)
}

// Each change, and what the peer is sent for it: the list of names if that changed, and then the forms that differ.
func TestExportsFollowChanges(t *testing.T) {
	east := newCluster(t, "east")
	east.commit(reachable("db")...)
	east.commit(instance("node-1", "web", 80, true)...)
	p, names := importerOf(t, east)
	require.Empty(t, names)
	const list = wire.ServiceListID
	steps := []struct {
		name   string
		events []snapshot.Event
		sent   []string // IDs, sorted
		listed []string // nil: no list
	}{
		{"exported", []snapshot.Event{exports("west", "db")}, []string{"db", "db-sidecar-proxy", list}, []string{"db"}},
		{"exported to another too", []snapshot.Event{entry(&config.ExportedServices{Name: "default", Services: []config.ExportedService{
			{Name: "db", Consumers: []config.Consumer{{Peer: "west"}, {Peer: "south"}}},
		}})}, nil, nil},
		{"same again", []snapshot.Event{exports("west", "db")}, nil, nil},
		{"a check fails", []snapshot.Event{check("node-1", "db-1", "critical")}, []string{"db"}, nil},
		{"its output changes", []snapshot.Event{check("node-1", "db-1", "critical")}, nil, nil},
		{"the node is in maintenance", []snapshot.Event{{Key: snapshot.NewKey(snapshot.TableChecks, "node-1", "", "_node_maintenance"),
			Object: &snapshot.Check{Node: "node-1", CheckID: "_node_maintenance", Status: "critical"}}}, []string{"db", "db-sidecar-proxy"}, nil},
		{"the sidecar goes", []snapshot.Event{deregistration("node-1", "db-sidecar-proxy", "db-1-sidecar-proxy")}, []string{"db-sidecar-proxy"}, nil},
		{"the sidecar comes", instance("node-1", "db", 5432, true)[1:], []string{"db-sidecar-proxy"}, nil},
		{"the gateway moves", []snapshot.Event{meshGateway("node-1", "gateway-1", "198.51.100.9", 443)}, []string{"db-sidecar-proxy"}, nil},
		{"scaled to none", []snapshot.Event{deregistration("node-1", "db", "db-1")}, []string{"db"}, nil},
		{"scaled to one", instance("node-1", "db", 5432, false), []string{"db"}, nil},
		{"protocol http", []snapshot.Event{entry(&config.ServiceDefaults{Name: "db", Protocol: "http"})}, []string{list}, []string{}},
		{"protocol tcp", []snapshot.Event{entry(&config.ServiceDefaults{Name: "db", Protocol: "tcp"})}, []string{"db", "db-sidecar-proxy", list}, []string{"db"}},
		{"all are http", []snapshot.Event{entry(&config.ProxyDefaults{Name: "global", Config: map[string]any{"protocol": "http"}})}, nil, nil},
		{"all are tcp", []snapshot.Event{entry(&config.ProxyDefaults{Name: "global"})}, nil, nil},
		{"everything exported", []snapshot.Event{exports("west", "*")}, []string{list, "web", "web-sidecar-proxy"}, []string{"db", "web"}},
		{"a new service", instance("node-1", "new", 1, false), []string{list, "new", "new-sidecar-proxy"}, []string{"db", "new", "web"}},
		{"consul is never exported", instance("node-1", "consul", 8300, false), nil, nil},
		{"a service goes", []snapshot.Event{deregistration("node-1", "new", "new-1")}, []string{list}, []string{"db", "web"}},
		{"nothing exported", []snapshot.Event{{Key: exports("west").Key}}, []string{list}, []string{}},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			east.commit(step.events...)
			var sent []string
			for len(sent) < len(step.sent) {
				r := p.next(step.name, func(m *wire.ReplicationMessage) bool { return m.GetResponse() != nil }).GetResponse()
				p.send(answer(r, 0, ""))
				if r.ResourceID == list {
					require.Empty(t, sent, "the list comes first")
					var names wire.ExportedServiceList
					require.NoError(t, r.Resource.UnmarshalTo(&names))
					require.ElementsMatch(t, step.listed, names.Services)
				}
				sent = append(sent, r.ResourceID)
			}
			slices.Sort(sent)
			require.Equal(t, step.sent, sent)
			east.settled()
			p.none()
		})
	}
}

// settled waits until the exporter has seen the newest World.
func (c *cluster) settled() {
	c.t.Helper()
	newest := c.store.World().Index
	deadline := time.After(patience)
	for {
		c.exporter.mu.Lock()
		seen := c.exporter.world.Index
		c.exporter.mu.Unlock()
		if seen >= newest {
			return
		}
		select {
		case <-deadline:
			require.FailNow(c.t, "the exporter does not follow")
		case <-c.changed:
		case <-time.After(time.Millisecond):
		}
	}
}

func TestReasonsOfWhatIsNotExported(t *testing.T) {
	east := newCluster(t, "east")
	value := &config.ExportedServices{Name: "default"}
	for _, service := range []string{"db", "plain", "web", "none"} {
		value.Services = append(value.Services, config.ExportedService{Name: service, Consumers: []config.Consumer{{Peer: "west"}, {Peer: "est"}}})
	}
	events := append(instance("node-1", "db", 1, true), instance("node-1", "plain", 1, false)...)
	events = append(events, instance("node-1", "web", 1, true)...)
	east.commit(append(events, entry(value), entry(&config.ServiceDefaults{Name: "web", Protocol: "HTTP"}))...)
	p, names := importerOf(t, east)
	require.Equal(t, []string{"db", "none", "plain"}, names)
	require.Equal(t, map[string]string{
		"db": "no mesh gateway", "plain": "no sidecar: only shown to the peer, not reachable", "web": "protocol http: only tcp is exported", "none": "no instance",
	}, east.Status("west").NotExported)
	require.Equal(t, []string{"db", "none", "plain"}, east.Status("west").Exported, "what the peer is told of, as Consul counts it")
	for _, reason := range east.Status("est").NotExported {
		require.Equal(t, "no such peer", reason)
	}
	require.Len(t, east.Status("est").NotExported, 4)

	east.commit(meshGateway("node-1", "gateway-1", "198.51.100.1", 443))
	refused := p.next("the mesh form", func(m *wire.ReplicationMessage) bool {
		return m.GetResponse().GetResourceID() == "db-sidecar-proxy" && len(m.GetResponse().Resource.Value) > 0
	}).GetResponse()
	p.send(answer(refused, 13, "no room"))
	east.awaitStatus("west", "the peer's refusal", func(s snapshot.PeerStatus) bool {
		return s.NotExported["db"] == "refused by the peer: no room"
	})
}

// An instance that a partner's server could not take is left out, and named; the others are sent.
func TestUnsendableInstancesAreLeftOut(t *testing.T) {
	east := newCluster(t, "east")
	broken := registration("node-1", &config.Service{ID: "db-2", Name: "db", Port: 70000})
	east.commit(append(append(reachable("db"), exports("west", "db")), broken)...)
	p, _ := importerOf(t, east)
	require.Len(t, p.instances(p.resource(wire.TypeService, "db")), 1)
	east.awaitStatus("west", "the reason", func(s snapshot.PeerStatus) bool {
		return s.NotExported["db"] == "instance db-2: port 70000: want 0 to 65535"
	})
}

// What a peer exported to us is never exported on.
func TestImportsAreNotExported(t *testing.T) {
	east, west, south := newCluster(t, "east"), newCluster(t, "west"), newCluster(t, "south")
	east.commit(append(reachable("db"), exports("west", "*"))...)
	west.commit(append(reachable("web"), exports("south", "*", "db"))...)
	west.peerWith(east)
	west.awaitImport("east", "db", "routable", routable)
	south.peerWith(west)
	south.awaitImport("west", "web", "routable", routable)
	require.Nil(t, south.store.World().Import("west", "db"))
}

func manyExports(count int) []snapshot.Event {
	var names []string
	events := []snapshot.Event{meshGateway("node-1", "gateway-1", "198.51.100.1", 443)}
	for i := range count {
		names = append(names, fmt.Sprintf("service-%d", i))
		events = append(events, instance("node-1", names[i], 1000, true)...)
	}
	return append(events, exports("west", names...))
}

// Promise: one more export among a thousand is at the importer within 10 ms, and costs three messages.
func TestOneMoreExportAmongAThousand(t *testing.T) {
	east, west := newCluster(t, "east"), newCluster(t, "west")
	const count, promise = 1000, 10 * time.Millisecond
	events := manyExports(count + 1)
	entryOf := func(n int) snapshot.Event {
		all := events[len(events)-1].Object.(*snapshot.Entry).Value.(*config.ExportedServices)
		return entry(&config.ExportedServices{Name: "default", Services: all.Services[:n]})
	}
	east.commit(append(events[:len(events)-1], entryOf(count))...)
	start := time.Now()
	west.peerWith(east)
	west.await("all of them", func(w *snapshot.World) bool { return len(w.Imports("east")) == count && allRoutable(w) })
	t.Logf("first sync of %d services: %s", count, time.Since(start))

	last := fmt.Sprintf("service-%d", count)
	var took []time.Duration
	for range 20 {
		east.commit(entryOf(count))
		west.await("gone", func(w *snapshot.World) bool { return w.Import("east", last) == nil })
		session := east.session("west")
		before := session.sentCount()
		start := time.Now()
		east.commit(entryOf(count + 1))
		west.awaitImport("east", last, "routable", func(i *snapshot.Import) bool { return routable(i) && len(i.Instances) == 1 })
		took = append(took, time.Since(start))
		require.Equal(t, uint64(3), session.sentCount()-before, "the list and both forms")
	}
	slices.Sort(took)
	over := ""
	if took[len(took)/2] > promise {
		over = " OVER"
	}
	t.Logf("one more export among %d: p50 %s, p95 %s, promised %s%s", count, took[len(took)/2], took[len(took)*19/20], promise, over)
	require.Less(t, took[len(took)/2], 5*promise)
}

func allRoutable(w *snapshot.World) bool {
	return !slices.ContainsFunc(w.Imports("east"), func(i *snapshot.Import) bool { return !routable(i) })
}

// session is the stream that counts.
func (c *cluster) session(peer string) *session { return c.link(c.store.World().Peer(peer)).current() }

// sentCount is how many resources a session sent.
func (s *session) sentCount() uint64 { return uint64(s.nonce.Load()) }
