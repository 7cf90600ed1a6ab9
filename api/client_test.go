package api

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// client returns Consul's own Go client, talking to the lab as an operator.
func (l *lab) client() *consul.Client {
	l.t.Helper()
	client, err := consul.NewClient(&consul.Config{Address: l.server.URL, Token: operatorToken, HttpClient: l.server.Client()})
	if err != nil {
		l.t.Fatal(err)
	}
	return client
}

// got returns a function that fails the test on an error, and else returns the value.
func got[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func fine(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func registerWeb(t *testing.T, c *consul.Client) {
	t.Helper()
	fine(t, c.Agent().ServiceRegister(&consul.AgentServiceRegistration{
		ID: "web1", Name: "web", Port: 8080, Tags: []string{"v1"}, Address: "10.0.0.5",
		TaggedAddresses: map[string]consul.ServiceAddress{"lan": {Address: "10.0.0.5", Port: 8080}},
		Checks:          consul.AgentServiceChecks{{TTL: "30s"}, {CheckID: "tcp", Name: "port", TCP: "10.0.0.5:8080", Interval: "10s", Timeout: "2s", Status: "passing"}},
		Connect: &consul.AgentServiceConnect{SidecarService: &consul.AgentServiceRegistration{Proxy: &consul.AgentServiceConnectProxyConfig{
			Upstreams: []consul.Upstream{{DestinationName: "db", DestinationPeer: "east", LocalBindPort: 5432}},
		}}},
	}))
}

func TestClientAgent(t *testing.T) {
	l := newLab(t)
	c := l.client()
	registerWeb(t, c)
	services := got[map[string]*consul.AgentService](t)(c.Agent().Services())
	proxy := services["web1-sidecar-proxy"]
	if len(services) != 2 || proxy == nil || proxy.Kind != consul.ServiceKindConnectProxy || proxy.Proxy.DestinationServiceID != "web1" ||
		proxy.Proxy.Upstreams[0].DestinationPeer != "east" || proxy.Port != 21000 || services["web1"].Proxy != nil {
		t.Fatalf("services %+v", services)
	}
	filtered := got[map[string]*consul.AgentService](t)(c.Agent().ServicesWithFilter("Kind == `connect-proxy`"))
	if len(filtered) != 1 {
		t.Errorf("filtered %+v: want the proxy", filtered)
	}
	checks := got[map[string]*consul.AgentCheck](t)(c.Agent().Checks())
	if c := checks["tcp"]; len(checks) != 3 || c == nil || c.Definition.Interval != consul.ReadableDuration(10*time.Second) || c.ServiceName != "web" {
		t.Errorf("checks %+v", checks)
	}
	fine(t, c.Agent().UpdateTTL("service:web1:1", "fine", consul.HealthPassing))
	if status, info := health(t, c); status != consul.HealthPassing || info.Service.ID != "web1" || info.Checks[0].Status != consul.HealthPassing {
		t.Errorf("health %s, %+v", status, info)
	}
	fine(t, c.Agent().EnableServiceMaintenance("web1", "moving"))
	if status, info := health(t, c); status != consul.HealthCritical || info.AggregatedStatus != consul.HealthMaint {
		t.Errorf("health %s, %s: want critical for maintenance", status, info.AggregatedStatus)
	}
	fine(t, c.Agent().DisableServiceMaintenance("web1"))
	service, meta, err := c.Agent().Service("web1", nil)
	fine(t, err)
	if service.ContentHash == "" || meta.LastContentHash != service.ContentHash {
		t.Errorf("hash %q, %q", service.ContentHash, meta.LastContentHash)
	}
	self := got[map[string]map[string]any](t)(c.Agent().Self())
	if self["Config"]["Datacenter"] != "dc1" || self["xDS"]["Ports"].(map[string]any)["TLS"] != 8502.0 {
		t.Errorf("self %+v", self)
	}
	fine(t, c.Agent().CheckRegister(&consul.AgentCheckRegistration{Name: "disk", ServiceID: "web1", AgentServiceCheck: consul.AgentServiceCheck{TTL: "10s"}}))
	fine(t, c.Agent().PassTTL("disk", ""))
	fine(t, c.Agent().CheckDeregister("disk"))
	fine(t, c.Agent().ServiceDeregister("web1"))
	if services := got[map[string]*consul.AgentService](t)(c.Agent().Services()); len(services) != 0 {
		t.Errorf("services %+v: want none", services)
	}
}

func health(t *testing.T, c *consul.Client) (string, *consul.AgentServiceChecksInfo) {
	t.Helper()
	status, info, err := c.Agent().AgentHealthServiceByID("web1")
	fine(t, err)
	return status, info
}

func TestClientCatalogAndHealth(t *testing.T) {
	l := newLab(t)
	c := l.client()
	registerWeb(t, c)
	importDB(l, "passing")
	names, meta, err := c.Catalog().Services(nil)
	fine(t, err)
	if !slices.Equal(names["web"], []string{"v1"}) || meta.LastIndex == 0 || !meta.KnownLeader {
		t.Errorf("services %v, %+v", names, meta)
	}
	entries, _, err := c.Catalog().Service("web", "v1", nil)
	fine(t, err)
	if len(entries) != 1 || entries[0].ServicePort != 8080 || entries[0].ServiceTaggedAddresses["lan"].Port != 8080 {
		t.Errorf("service %+v", entries)
	}
	connect, _, err := c.Catalog().Connect("web", "", nil)
	fine(t, err)
	node, _, err := c.Catalog().Node("node1", nil)
	fine(t, err)
	list, _, err := c.Catalog().NodeServiceList("node1", &consul.QueryOptions{Filter: `ID == "web1"`})
	fine(t, err)
	if len(connect) != 1 || node.Services["web1"] == nil || len(list.Services) != 1 || list.Node.Datacenter != "dc1" {
		t.Errorf("connect %+v, node %+v, list %+v", connect, node, list)
	}
	nobody, _, err := c.Catalog().Node("none", nil)
	fine(t, err)
	dcs := got[[]string](t)(c.Catalog().Datacenters())
	if nobody != nil || !slices.Equal(dcs, []string{"dc1"}) {
		t.Errorf("node %+v, datacenters %v", nobody, dcs)
	}
	passing, _, err := c.Health().Service("web", "", true, nil)
	fine(t, err)
	all, _, err := c.Health().Service("web", "", false, nil)
	fine(t, err)
	if len(passing) != 0 || len(all) != 1 || len(all[0].Checks) != 2 {
		t.Errorf("passing %+v, all %+v", passing, all)
	}
	imported, _, err := c.Health().Connect("db", "", true, &consul.QueryOptions{Peer: "east"})
	fine(t, err)
	if len(imported) != 1 || imported[0].Service.PeerName != "east" || imported[0].Service.Proxy.DestinationServiceName != "db" {
		t.Errorf("imported %+v", imported)
	}
	states, _, err := c.Health().State(consul.HealthAny, nil)
	fine(t, err)
	byNode, _, err := c.Health().Node("node1", nil)
	fine(t, err)
	byService, _, err := c.Health().Checks("web", nil)
	fine(t, err)
	if len(states) != 3 || len(byNode) != 3 || len(byService) != 2 {
		t.Errorf("%d, %d and %d checks: want 3, 3 and 2", len(states), len(byNode), len(byService))
	}
}

func TestClientCatalogRegister(t *testing.T) {
	l := newLab(t)
	c := l.client()
	_, err := c.Catalog().Register(&consul.CatalogRegistration{
		Node: "n2", Address: "10.0.0.2", Service: &consul.AgentService{ID: "db1", Service: "db", Port: 5432},
		Check: &consul.AgentCheck{Node: "n2", CheckID: "c1", Name: "c", Status: consul.HealthPassing, ServiceID: "db1"},
	}, nil)
	fine(t, err)
	found, _, err := c.Health().Service("db", "", true, nil)
	fine(t, err)
	if len(found) != 1 || found[0].Node.Address != "10.0.0.2" || found[0].Checks[0].CheckID != "c1" {
		t.Fatalf("found %+v", found)
	}
	_, err = c.Catalog().Deregister(&consul.CatalogDeregistration{Node: "n2"}, nil)
	fine(t, err)
	nodes, _, err := c.Catalog().Nodes(nil)
	fine(t, err)
	if found, _, _ := c.Health().Service("db", "", false, nil); len(nodes) != 1 || len(found) != 0 {
		t.Errorf("nodes %+v, instances %+v: want them gone", nodes, found)
	}
}

func TestClientPeering(t *testing.T) {
	l := newLab(t)
	c := l.client().Peerings()
	ctx := t.Context()
	token, _, err := c.GenerateToken(ctx, consul.PeeringGenerateTokenRequest{PeerName: "east", Meta: map[string]string{"env": "x"}}, nil)
	fine(t, err)
	_, _, err = c.Establish(ctx, consul.PeeringEstablishRequest{PeerName: "west", PeeringToken: token.PeeringToken}, nil)
	fine(t, err)
	peer, meta, err := c.Read(ctx, "east", nil)
	fine(t, err)
	list, _, err := c.List(ctx, nil)
	fine(t, err)
	if peer.State != consul.PeeringStatePending || peer.Meta["env"] != "x" || meta.LastIndex == 0 || len(list) != 2 || list[1].State != consul.PeeringStateEstablishing {
		t.Errorf("peer %+v, list %+v", peer, list)
	}
	_, err = c.Delete(ctx, "east", nil)
	fine(t, err)
	if peer, _, err := c.Read(ctx, "east", nil); err != nil || peer != nil {
		t.Errorf("read %+v, %v: want nothing", peer, err)
	}
}

func TestClientConfigEntries(t *testing.T) {
	l := newLab(t)
	c := l.client().ConfigEntries()
	entry := &consul.ServiceIntentionsConfigEntry{Kind: consul.ServiceIntentions, Name: "db", Sources: []*consul.SourceIntention{
		{Name: "web", Peer: "east", Action: consul.IntentionActionAllow},
	}}
	if ok, _, err := c.Set(entry, nil); !ok || err != nil {
		t.Fatalf("set: %v, %v", ok, err)
	}
	if ok, _, err := c.Set(&consul.ExportedServicesConfigEntry{Name: "default", Services: []consul.ExportedService{{Name: "db", Consumers: []consul.ServiceConsumer{{Peer: "east"}}}}}, nil); !ok || err != nil {
		t.Fatalf("set: %v, %v", ok, err)
	}
	read, _, err := c.Get(consul.ServiceIntentions, "db", nil)
	fine(t, err)
	stored := read.(*consul.ServiceIntentionsConfigEntry)
	if len(stored.Sources) != 1 || stored.Sources[0].Peer != "east" || stored.ModifyIndex == 0 {
		t.Errorf("read %+v", stored)
	}
	if ok, _, err := c.CAS(stored, 1, nil); ok || err != nil { // not its index
		t.Errorf("cas at 1: %v, %v: want false", ok, err)
	}
	if ok, _, err := c.CAS(stored, stored.ModifyIndex, nil); !ok || err != nil { // what was read can be written
		t.Errorf("cas: %v, %v", ok, err)
	}
	list, _, err := c.List(consul.ServiceIntentions, nil)
	fine(t, err)
	if ok, _, err := c.DeleteCAS(consul.ServiceIntentions, "db", 1, nil); ok || err != nil || len(list) != 1 {
		t.Errorf("delete at 1: %v, %v, list %v", ok, err, list)
	}
	_, err = c.Delete(consul.ServiceIntentions, "db", nil)
	fine(t, err)
	_, _, err = c.Get(consul.ServiceIntentions, "db", nil)
	var status consul.StatusError
	if !errors.As(err, &status) || status.Code != http.StatusNotFound {
		t.Errorf("get: %v: want 404", err)
	}
	_, _, err = c.Set(&consul.ServiceRouterConfigEntry{Kind: consul.ServiceRouter, Name: "db"}, nil)
	if !errors.As(err, &status) || status.Code != http.StatusBadRequest || !strings.Contains(status.Body, "dynamic routing is not supported") {
		t.Errorf("set a router: %v: want the refusal", err)
	}
}

func TestClientConnect(t *testing.T) {
	l := newLab(t)
	c := l.client()
	ixn := &consul.Intention{SourceName: "web", DestinationName: "db", Action: consul.IntentionActionAllow, SourceType: consul.IntentionSourceConsul}
	_, err := c.Connect().IntentionUpsert(ixn, nil)
	fine(t, err)
	allowed, _, err := c.Connect().IntentionCheck(&consul.IntentionCheck{Source: "web", Destination: "db"}, nil)
	fine(t, err)
	exact, _, err := c.Connect().IntentionGetExact("web", "db", nil)
	fine(t, err)
	list, _, err := c.Connect().Intentions(nil)
	fine(t, err)
	match, _, err := c.Connect().IntentionMatch(&consul.IntentionMatch{By: consul.IntentionMatchDestination, Names: []string{"db"}}, nil)
	fine(t, err)
	if !allowed || exact.Precedence != 9 || len(list) != 1 || len(match["db"]) != 1 {
		t.Errorf("allowed %v, exact %+v, list %+v, match %+v", allowed, exact, list, match)
	}
	_, err = c.Connect().IntentionDeleteExact("web", "db", nil)
	fine(t, err)
	if exact, _, err := c.Connect().IntentionGetExact("web", "db", nil); err != nil || exact != nil {
		t.Errorf("exact %+v, %v: want nothing", exact, err)
	}
	roots, _, err := c.Agent().ConnectCARoots(nil)
	fine(t, err)
	if roots.TrustDomain != "c1.consul" || roots.ActiveRootID != roots.Roots[0].ID || !roots.Roots[0].Active {
		t.Errorf("roots %+v", roots)
	}
	leaf, _, err := c.Agent().ConnectCALeaf("web", nil)
	fine(t, err)
	if leaf.Service != "web" || leaf.ServiceURI != "spiffe://c1.consul/ns/default/dc/dc1/svc/web" || leaf.PrivateKeyPEM == "" {
		t.Errorf("leaf %+v", leaf)
	}
	exports, _, err := c.ExportedServices(nil)
	fine(t, err)
	if len(exports) != 0 {
		t.Errorf("exports %+v: want none", exports)
	}
	if _, _, err := c.KV().Get("x", nil); err == nil || !strings.Contains(err.Error(), "the key/value store") {
		t.Errorf("kv: %v: want the refusal", err)
	}
}

// The client blocks by the index that it was answered, and wakes with the change.
func TestClientBlocks(t *testing.T) {
	l := newLab(t)
	c := l.client()
	_, meta, err := c.Health().Service("web", "", false, nil)
	fine(t, err)
	woken := make(chan *consul.QueryMeta, 1)
	go func() {
		_, meta, err := c.Health().Service("web", "", false, &consul.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: time.Minute})
		if err != nil {
			t.Error(err)
		}
		woken <- meta
	}()
	at := l.commit(snapshot.Event{Key: snapshot.NewKey(snapshot.TableInstances, "web", "node1", "web1"), Object: &snapshot.Instance{
		Node: "node1", Service: serviceNamed("web"),
	}})
	if meta := <-woken; meta == nil || meta.LastIndex != at {
		t.Errorf("woken %+v: want index %d", meta, at)
	}
}
