package peering

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// foreign is a cluster of which only the CA and the names are used: its streams are raw.
func foreign(t testing.TB) *cluster { return newCluster(t, "foreign") }

// connectRaw is a raw peer that dialled east as west, was pinned, and takes everything.
func connectRaw(t testing.TB, east, west *cluster) *rawPeer {
	t.Helper()
	return connectRawAs(t, "west", east, west)
}

// connectRawAs is connectRaw for a peer that east calls by another name.
func connectRawAs(t testing.TB, name string, east, west *cluster) *rawPeer {
	t.Helper()
	p, _ := dialRaw(t, east, name)
	p.subscribe()
	p.resource(wire.TypeTrustBundle, wire.TrustBundleID)
	p.accepted(p.offer(wire.TypeTrustBundle, wire.TrustBundleID, bundle(west)))
	return p
}

// responseCase is a response and the answer that it must get.
type responseCase struct {
	name     string
	response *wire.Response
	code     int32 // 0: it is taken
	text     string
}

func responseCases(t testing.TB, trustDomain string) []responseCase {
	good, err := anypb.New(serviceSet(plainInstance("db")))
	require.NoError(t, err)
	base := func(change func(*wire.Response)) *wire.Response {
		r := &wire.Response{Nonce: "n", ResourceURL: wire.TypeService, ResourceID: "db", Operation: wire.Operation_OPERATION_UPSERT, Resource: good}
		change(r)
		return r
	}
	value := func(set *wire.ExportedService) *anypb.Any {
		packed, err := anypb.New(set)
		require.NoError(t, err)
		return packed
	}
	return []responseCase{
		{"good", base(func(*wire.Response) {}), 0, ""},
		{"empty set", base(func(r *wire.Response) { r.Resource = &anypb.Any{TypeUrl: wire.TypeService} }), 0, ""},
		{"no nonce", base(func(r *wire.Response) { r.Nonce = "" }), 3, "without a nonce"},
		{"unknown type", base(func(r *wire.Response) { r.ResourceURL = "type.googleapis.com/odd" }), 3, "unknown resource type URL"},
		{"not for an acceptor", base(func(r *wire.Response) { r.ResourceURL = wire.TypeAddresses }), 3, "unknown resource type URL"},
		{"delete", base(func(r *wire.Response) { r.Operation = wire.Operation_OPERATION_DELETE }), 3, "unsupported operation: 2"},
		{"no operation", base(func(r *wire.Response) { r.Operation = 0 }), 3, "unsupported operation: 0"},
		{"no resource", base(func(r *wire.Response) { r.Resource = nil }), 3, "no content"},
		{"other type inside", base(func(r *wire.Response) { r.Resource = &anypb.Any{TypeUrl: wire.TypeServiceList} }), 13, "want"},
		{"garbage inside", base(func(r *wire.Response) { r.Resource = &anypb.Any{TypeUrl: wire.TypeService, Value: []byte{0xff, 0xff}} }), 13, "service db"},
		{"empty name", base(func(r *wire.Response) { r.ResourceID = "" }), 3, "service name is empty"},
		{"only a suffix", base(func(r *wire.Response) { r.ResourceID = "-sidecar-proxy" }), 3, "service name is empty"},
		{"dotted name", base(func(r *wire.Response) { r.ResourceID = "a.b" }), 3, "letters, digits, - and _"},
		{"zero byte", base(func(r *wire.Response) { r.ResourceID = "a\x00b" }), 3, "letters, digits, - and _"},
		{"long name", base(func(r *wire.Response) { r.ResourceID = strings.Repeat("a", 64) }), 3, "want at most 63"},
		{"slash name", base(func(r *wire.Response) { r.ResourceID = "ns/db" }), 3, "letters, digits, - and _"},
		{"node without name", base(func(r *wire.Response) {
			r.Resource = value(serviceSet(plainInstance("db", func(n *wire.CheckServiceNode) { n.Node.Node = "" })))
		}), 3, "the node has no name"},
		{"no node", base(func(r *wire.Response) { r.Resource = value(serviceSet(&wire.CheckServiceNode{})) }), 3, "the node has no name"},
		{"no service ID", base(func(r *wire.Response) {
			r.Resource = value(serviceSet(plainInstance("db", func(n *wire.CheckServiceNode) { n.Service.ID = "" })))
		}), 3, "the service has no ID"},
		{"another service", base(func(r *wire.Response) { r.Resource = value(serviceSet(plainInstance("web"))) }), 3, `is of service "web": want "db"`},
		{"mesh form under the plain name", base(func(r *wire.Response) { r.Resource = value(serviceSet(meshInstance("db", "east", trustDomain))) }), 3, "want"},
		{"bad port", base(func(r *wire.Response) {
			r.Resource = value(serviceSet(plainInstance("db", func(n *wire.CheckServiceNode) { n.Service.Port = 65536 })))
		}), 3, "port 65536"},
		{"twice", base(func(r *wire.Response) { r.Resource = value(serviceSet(plainInstance("db"), plainInstance("db"))) }), 3, "comes twice"},
		{"endless text", base(func(r *wire.Response) {
			r.Resource = value(serviceSet(plainInstance("db", func(n *wire.CheckServiceNode) { n.Service.Tags = []string{strings.Repeat("x", 70<<10)} })))
		}), 3, "want at most 65536"},
		{"over 4 MiB", base(func(r *wire.Response) {
			r.Resource = &anypb.Any{TypeUrl: wire.TypeService, Value: make([]byte, 4<<20+1)}
		}), 8, "want at most 4194304"},
		{"bundle without roots", base(func(r *wire.Response) {
			r.ResourceURL, r.Resource = wire.TypeTrustBundle, &anypb.Any{TypeUrl: wire.TypeTrustBundle}
		}), 3, "trust domain"},
	}
}

func TestEveryResponseIsAnsweredOnceAndInOrder(t *testing.T) {
	east, west := newCluster(t, "east"), foreign(t)
	p := connectRaw(t, east, west)
	cases := responseCases(t, west.trustDomain)
	for i, tc := range cases {
		if tc.response.Nonce != "" {
			tc.response.Nonce = fmt.Sprintf("case-%d", i)
		}
		p.send(responseMessage(tc.response))
	}
	for i, tc := range cases {
		reply := p.next(tc.name, func(m *wire.ReplicationMessage) bool { return m.GetRequest() != nil }).GetRequest()
		require.Equal(t, tc.response.Nonce, reply.ResponseNonce, "%d %s", i, tc.name)
		require.Equal(t, tc.response.ResourceURL, reply.ResourceURL)
		require.Equal(t, tc.code, reply.GetError().GetCode(), "%s: %s", tc.name, reply.GetError().GetMessage())
		require.Contains(t, reply.GetError().GetMessage(), tc.text, tc.name)
	}
	status := east.Status("west")
	require.Equal(t, snapshot.Active, status.State)
	require.Contains(t, status.Reason, "resources of the peer refused, the last good ones are kept")
}

// What is taken from service metadata, and the reason for everything else.
func TestServiceMetadataIsHeldAgainstThePin(t *testing.T) {
	east, west := newCluster(t, "east"), foreign(t)
	p := connectRaw(t, east, west)
	td := west.trustDomain
	meta := func(change func(*wire.PeeringServiceMeta)) func(*wire.CheckServiceNode) {
		return func(n *wire.CheckServiceNode) { change(n.Service.Connect.PeerMeta) }
	}
	server := func(name string) func(*wire.CheckServiceNode) {
		return meta(func(m *wire.PeeringServiceMeta) { m.SNI = []string{name} })
	}
	ids := func(list ...string) func(*wire.CheckServiceNode) {
		return meta(func(m *wire.PeeringServiceMeta) { m.SpiffeID = list })
	}
	many := make([]string, 17)
	for i := range many {
		many[i] = fmt.Sprintf("spiffe://%s/ns/default/dc/dc1/svc/db%d", td, i)
	}
	cases := []struct {
		name   string
		change func(*wire.CheckServiceNode)
		reason string // empty: routable
	}{
		{"as it should be", func(*wire.CheckServiceNode) {}, ""},
		{"other namespace and partition", server("db.ns1.ap1.east.external." + td), ""},
		{"second name ignored", meta(func(m *wire.PeeringServiceMeta) { m.SNI = append(m.SNI, "evil.example.com") }), ""},
		{"no server name", meta(func(m *wire.PeeringServiceMeta) { m.SNI = nil }), "no server name, wanted db.default.default.<name>.external." + td},
		{"other trust domain", server("db.default.default.east.external.evil.consul"), "server name in trust domain evil.consul, wanted " + td},
		{"our trust domain", server("db.default.default.east.external." + east.trustDomain), "wanted " + td},
		{"other service", server("web.default.default.east.external." + td), "server name of service web, wanted db"},
		{"other name for us", server("db.default.default.south.external." + td), "server name calls us south, wanted east as for the other services"},
		{"internal form", server("db.default.dc1.internal." + td), "wanted db.default.default.<name>.external." + td},
		{"upper case", server("DB.default.default.east.external." + td), ""},
		{"trailing dot", server("db.default.default.east.external." + td + "."), "is empty"},
		{"wildcard", server("*.default.default.east.external." + td), `holds "*"`},
		{"too long", server(strings.Repeat("a", 250) + ".default.default.east.external." + td), "want at most 253"},
		{"protocol http", meta(func(m *wire.PeeringServiceMeta) { m.Protocol = "http" }), "protocol http, wanted tcp"},
		{"no protocol", meta(func(m *wire.PeeringServiceMeta) { m.Protocol = "" }), "protocol none, wanted tcp"},
		{"no identity", ids(), "no SPIFFE ID of a service, wanted spiffe://" + td},
		{"gateway only", ids("spiffe://" + td + "/gateway/mesh/dc/dc1"), "no SPIFFE ID of a service"},
		{"foreign identity", ids("spiffe://"+td+"/ns/default/dc/dc1/svc/db", "spiffe://evil.consul/ns/default/dc/dc1/svc/db"), "SPIFFE ID in trust domain evil.consul, wanted " + td},
		{"our identity", ids("spiffe://" + east.trustDomain + "/ns/default/dc/dc1/svc/db"), "wanted " + td},
		{"no identity at all", ids("https://" + td + "/ns/default/dc/dc1/svc/db"), "is none, wanted spiffe://"},
		{"escaped identity", ids("spiffe://" + td + "/ns/default/dc/dc1/svc/d%62"), "is none, wanted spiffe://"},
		{"too many", ids(many...), "more than 16 SPIFFE IDs, wanted at most 16"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			p.accepted(p.offer(wire.TypeService, "db-sidecar-proxy", serviceSet(meshInstance("db", "east", td, tc.change))))
			imported := east.store.World().Import("west", "db")
			require.NotNil(t, imported)
			require.Len(t, imported.Gateways, 1, "what was sent is shown, routable or not")
			if tc.reason == "" {
				require.Empty(t, imported.NotRoutable)
				require.Regexp(t, `^db\.[^A-Z]+$`, imported.ServerName)
				require.Equal(t, []string{"spiffe://" + td + "/ns/default/dc/dc1/svc/db"}, imported.SpiffeIDs)
				return
			}
			require.Contains(t, imported.NotRoutable, tc.reason)
			require.Empty(t, imported.ServerName)
			require.Empty(t, imported.SpiffeIDs)
		})
	}
	require.Equal(t, "east", east.store.World().Peer("west").OurName)
}

func TestBothFormsMakeOneImport(t *testing.T) {
	east, west := newCluster(t, "east"), foreign(t)
	p := connectRaw(t, east, west)
	p.accepted(p.offer(wire.TypeServiceList, wire.ServiceListID, inventory("db", "cache")))
	p.accepted(p.offer(wire.TypeService, "db", serviceSet(plainInstance("db", func(n *wire.CheckServiceNode) {
		n.Checks = []*wire.HealthCheck{{CheckID: "a", Status: "passing"}, {CheckID: "b", Status: "maintenance", Output: "later"}, {CheckID: "c", Status: "odd"}}
	}))))
	imported := east.store.World().Import("west", "db")
	require.Contains(t, imported.NotRoutable, "no mesh gateway")
	require.Equal(t, config.HealthMaintenance, imported.Instances[0].Health)
	require.Equal(t, "later", imported.Instances[0].CheckOutput)

	p.accepted(p.offer(wire.TypeService, "db-sidecar-proxy", serviceSet(meshInstance("db", "east", west.trustDomain))))
	imported = east.store.World().Import("west", "db")
	require.Empty(t, imported.NotRoutable)
	require.Len(t, imported.Gateways, 1)
	require.Len(t, imported.Instances, 1)
	require.Equal(t, config.HealthPassing, imported.Gateways[0].Health)

	commits := len(east.store.since(0))
	p.accepted(p.offer(wire.TypeService, "db-sidecar-proxy", serviceSet(meshInstance("db", "east", west.trustDomain))))
	require.Empty(t, east.store.since(commits), "what did not change is not written")

	p.accepted(p.offer(wire.TypeService, "db", serviceSet()))
	require.Empty(t, east.store.World().Import("west", "db").Instances)
	p.accepted(p.offer(wire.TypeService, "db-sidecar-proxy", serviceSet()))
	require.Nil(t, east.store.World().Import("west", "db"), "without instances it is gone")

	p.accepted(p.offer(wire.TypeService, "cache", serviceSet(plainInstance("cache"))))
	p.accepted(p.offer(wire.TypeServiceList, wire.ServiceListID, inventory("db")))
	require.Nil(t, east.store.World().Import("west", "cache"), "what is not in the list is gone")
}

func TestServicesWaitForTheTrustBundle(t *testing.T) {
	east, west := newCluster(t, "east"), foreign(t)
	p, _ := dialRaw(t, east, "west")
	p.subscribe()
	list := p.offer(wire.TypeServiceList, wire.ServiceListID, inventory("db"))
	service := p.offer(wire.TypeService, "db-sidecar-proxy", serviceSet(meshInstance("db", "east", west.trustDomain)))
	east.awaitState("west", snapshot.Establishing)
	require.Empty(t, east.store.World().Imports("west"))
	trust := p.offer(wire.TypeTrustBundle, wire.TrustBundleID, bundle(west))
	p.accepted(trust)
	p.accepted(list)
	p.accepted(service)
	require.Empty(t, east.store.World().Import("west", "db").NotRoutable)
}

func TestNamesThatDifferInCaseOnly(t *testing.T) {
	east, west := newCluster(t, "east"), foreign(t)
	p := connectRaw(t, east, west)
	form := func(name string) string {
		return p.offer(wire.TypeService, name+"-sidecar-proxy", serviceSet(meshInstance(name, "east", west.trustDomain)))
	}
	p.accepted(form("Db"))
	p.accepted(form("db"))
	require.Empty(t, east.store.World().Import("west", "Db").NotRoutable)
	require.Contains(t, east.store.World().Import("west", "db").NotRoutable, "name differs from Db only in upper and lower case")
	p.accepted(p.offer(wire.TypeService, "Db-sidecar-proxy", serviceSet()))
	require.Empty(t, east.store.World().Import("west", "db").NotRoutable, "the elder is gone")
}

func TestClaimsOfOriginAreIgnoredAndCounted(t *testing.T) {
	east, west := newCluster(t, "east"), foreign(t)
	p, _ := dialRaw(t, east, "west")
	p.subscribe()
	trust := bundle(west)
	trust.PeerName, trust.Partition = "south", "other"
	p.accepted(p.offer(wire.TypeTrustBundle, wire.TrustBundleID, trust))
	p.accepted(p.offer(wire.TypeService, "db", serviceSet(plainInstance("db", func(n *wire.CheckServiceNode) {
		n.Node.PeerName, n.Node.Partition, n.Service.PeerName = "south", "other", "south"
	}))))
	require.NotNil(t, east.store.World().Import("west", "db"))
	require.Empty(t, east.store.World().Imports("south"))
	require.Equal(t, uint64(4), east.Ignored("west"))
}

func TestQuotasKeepTheLastGoodState(t *testing.T) {
	east, west := newCluster(t, "east"), foreign(t)
	east.commit(entry(&config.PeerPolicy{Name: "west", Quotas: config.Quotas{Services: 2, Instances: 2}}))
	p := connectRaw(t, east, west)
	three := serviceSet()
	for i := range 3 {
		three.Nodes = append(three.Nodes, plainInstance("a", func(n *wire.CheckServiceNode) { n.Service.ID = fmt.Sprint(i) }))
	}
	p.accepted(p.offer(wire.TypeService, "a", serviceSet(plainInstance("a"))))
	p.refused(p.offer(wire.TypeService, "a", three), 8, "3 instances: want at most 2")
	require.Len(t, east.store.World().Import("west", "a").Instances, 1)
	p.accepted(p.offer(wire.TypeService, "b", serviceSet(plainInstance("b"))))
	p.refused(p.offer(wire.TypeService, "c", serviceSet(plainInstance("c"))), 8, "2 services are imported already: want at most 2")
	require.Contains(t, east.Status("west").Reason, "want at most 2")
	require.Equal(t, snapshot.Active, east.Status("west").State)
	p.accepted(p.offer(wire.TypeService, "a", serviceSet()))
	p.accepted(p.offer(wire.TypeService, "c", serviceSet(plainInstance("c"))))

	// A larger quota takes effect at once: the peer is asked for everything again, which only a new stream brings.
	east.commit(entry(&config.PeerPolicy{Name: "west", Quotas: config.Quotas{Services: 3}}))
	require.Contains(t, p.ended().Message(), "sent everything again")
}

// A quota that is lowered takes nothing away, and says that it is passed.
func TestLoweredQuotaIsShown(t *testing.T) {
	east, west := newCluster(t, "east"), foreign(t)
	client, decoded := rawClient(t, east, east.token("west"))
	secret := exchange(t, client, decoded)
	offerAll := func(names ...string) (*rawPeer, string) {
		p := openRaw(t, client, decoded.PeerID, secret)
		p.subscribe()
		p.resource(wire.TypeTrustBundle, wire.TrustBundleID)
		p.accepted(p.offer(wire.TypeTrustBundle, wire.TrustBundleID, bundle(west)))
		nonce := ""
		for _, name := range names {
			nonce = p.offer(wire.TypeService, name, serviceSet(plainInstance(name)))
		}
		return p, nonce
	}
	p, last := offerAll("a", "b")
	p.accepted(last)
	require.Empty(t, east.Status("west").Reason)
	east.commit(entry(&config.PeerPolicy{Name: "west", Quotas: config.Quotas{Services: 1}}))
	require.Contains(t, p.ended().Message(), "sent everything again")
	const said = "2 services imported, quota 1: nothing new is taken"
	p, last = offerAll("a", "b")
	p.accepted(last)
	east.awaitStatus("west", "active", func(s snapshot.PeerStatus) bool { return s.State == snapshot.Active && s.Reason == said })
	require.Len(t, east.store.World().Imports("west"), 2, "the last good state is kept")
	p.refused(p.offer(wire.TypeService, "c", serviceSet(plainInstance("c"))), 8, "2 services are imported already: want at most 1")
	p.accepted(p.offer(wire.TypeService, "b", serviceSet()))
	require.NotContains(t, east.Status("west").Reason, "nothing new is taken")
}

func TestAcceptNamesWhatMayBeImported(t *testing.T) {
	east, west := newCluster(t, "east"), foreign(t)
	east.commit(entry(&config.PeerPolicy{Name: config.Wildcard, Accept: []string{"db"}}))
	p := connectRaw(t, east, west)
	for _, name := range []string{"db", "web"} {
		p.accepted(p.offer(wire.TypeService, name+"-sidecar-proxy", serviceSet(meshInstance(name, "east", west.trustDomain))))
	}
	require.Empty(t, east.store.World().Import("west", "db").NotRoutable)
	require.Contains(t, east.store.World().Import("west", "web").NotRoutable, "not accepted, wanted one of those in Accept of peer-policy *")
	require.Empty(t, east.store.World().Import("west", "web").Gateways)
}

// A burst is stored in few commits, each of which all readers see whole.
func TestBurstIsStoredTogether(t *testing.T) {
	east, west := newCluster(t, "east"), foreign(t)
	p := connectRaw(t, east, west)
	const count = 500
	before := len(east.store.since(0))
	release := make(chan struct{})
	first := true
	east.store.setRefuse(func([]snapshot.Event) error {
		if first {
			first = false
			<-release
		}
		return nil
	})
	var nonces []string
	for i := range count {
		name := fmt.Sprintf("s%d", i)
		nonces = append(nonces, p.offer(wire.TypeService, name, serviceSet(plainInstance(name))))
	}
	close(release)
	for _, nonce := range nonces {
		p.accepted(nonce)
	}
	require.Len(t, east.store.World().Imports("west"), count)
	require.Less(t, len(east.store.since(before)), count/2)
}

func TestStoreThatRefusesEndsTheSession(t *testing.T) {
	east, west := newCluster(t, "east"), foreign(t)
	p := connectRaw(t, east, west)
	east.store.setRefuse(func([]snapshot.Event) error { return fmt.Errorf("disk full") })
	p.offer(wire.TypeService, "db", serviceSet(plainInstance("db")))
	require.Contains(t, p.ended().Message(), "disk full", "unanswered: the peer sends it again on the next stream")
	require.Contains(t, east.awaitState("west", snapshot.Failing).Reason, "disk full")
}

func TestSweepTakesWhatANewStreamDidNotAnnounce(t *testing.T) {
	east, west := newCluster(t, "east", func(c *Config) { c.Timing.Sweep = 50 * time.Millisecond }), foreign(t)
	p := connectRaw(t, east, west)
	p.accepted(p.offer(wire.TypeServiceList, wire.ServiceListID, inventory("db", "web")))
	for _, name := range []string{"db", "web"} {
		p.accepted(p.offer(wire.TypeService, name, serviceSet(plainInstance(name))))
		p.accepted(p.offer(wire.TypeService, name+"-sidecar-proxy", serviceSet(meshInstance(name, "east", west.trustDomain))))
	}
	again := connectRaw(t, east, west) // a new token for the same peering, which replaces the stream
	require.Len(t, east.store.World().Imports("west"), 2, "kept until the peer has said what is still true")
	require.True(t, east.Status("west").Stale)
	again.accepted(again.offer(wire.TypeService, "db", serviceSet(plainInstance("db"))))
	again.accepted(again.offer(wire.TypeServiceList, wire.ServiceListID, inventory("db")))
	require.Nil(t, east.store.World().Import("west", "web"))
	require.False(t, east.Status("west").Stale)
	east.awaitImport("west", "db", "without the mesh form, which was not announced again", func(i *snapshot.Import) bool { return len(i.Gateways) == 0 })
}

func FuzzImport(f *testing.F) {
	set, err := anypb.New(serviceSet(meshInstance("db", "east", "peer.consul"), plainInstance("db")))
	require.NoError(f, err)
	f.Add("db-sidecar-proxy", set.Value)
	f.Add("db", set.Value)
	f.Fuzz(func(t *testing.T, id string, value []byte) {
		var read wire.ExportedService
		name, mesh, err := serviceForm(id)
		if err != nil || (&anypb.Any{TypeUrl: wire.TypeService, Value: value}).UnmarshalTo(&read) != nil {
			return
		}
		converted, _, err := instances(name, mesh, read.Nodes)
		if err != nil {
			return
		}
		for _, i := range converted {
			require.NotEmpty(t, i.Node)
			require.NotEmpty(t, i.Service.ID)
		}
		serverName, ids, ourName, err := terms{trustDomain: "peer.consul"}.route(name, converted)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		require.True(t, strings.HasSuffix(serverName, "."+ourName+".external.peer.consul"), serverName)
		require.True(t, strings.HasPrefix(serverName, strings.ToLower(name)+"."), serverName)
		require.NotEmpty(t, ids)
		require.LessOrEqual(t, len(ids), maxSpiffeIDs)
	})
}
