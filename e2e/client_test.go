package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// clientOf returns Consul's own Go client for a cluster, with the operator's token.
func clientOf(c *lab.Cluster) *api.Client {
	c.Lab.T.Helper()
	token, err := os.ReadFile(c.DataDir + "/operator.token")
	if err != nil {
		c.Lab.T.Fatal(err)
	}
	client, err := api.NewClient(&api.Config{
		Address: c.HTTP, Token: strings.TrimSpace(string(token)),
		HttpClient: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: 200,
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				return c.Host.DialOutside(ctx, address)
			},
		}},
	})
	if err != nil {
		c.Lab.T.Fatal(err)
	}
	return client
}

// TestConsulClient: a program with Consul's Go client registers, configures, peers and asks, as it would at a Consul.
func TestConsulClient(t *testing.T) {
	l := lab.New(t)
	alpha, beta := l.Cluster("alpha"), l.Cluster("beta")
	a, b := clientOf(alpha), clientOf(beta)
	t.Run("agent", func(t *testing.T) { clientAgent(t, b) })
	t.Run("catalog and health", func(t *testing.T) { clientCatalog(t, b) })
	t.Run("config entries", func(t *testing.T) { clientEntries(t, b) })
	t.Run("intentions", func(t *testing.T) { clientIntentions(t, b) })
	t.Run("certificates", func(t *testing.T) { clientCertificates(t, b) })
	t.Run("peering", func(t *testing.T) { clientPeering(t, l, a, b) })
}

// must fails the test on an error, and returns the value otherwise.
func must[T any](t *testing.T) func(value T, meta any, err error) T {
	return func(value T, _ any, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// ok fails the test on an error.
func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func clientAgent(t *testing.T, c *api.Client) {
	self, err := c.Agent().Self()
	ok(t, err)
	if self["Config"]["Datacenter"] != "dc1" || self["xDS"]["Ports"] == nil {
		t.Errorf("self: %v", self)
	}
	leader, err := c.Status().Leader()
	ok(t, err)
	if leader == "" {
		t.Error("no leader")
	}
	ok(t, c.Agent().ServiceRegister(&api.AgentServiceRegistration{
		Name: "web", Port: 9000, Tags: []string{"v1"}, Meta: map[string]string{"team": "a"},
		Check:   &api.AgentServiceCheck{CheckID: "web-alive", TTL: "1h"},
		Connect: &api.AgentServiceConnect{SidecarService: &api.AgentServiceRegistration{Port: 21000}},
	}))
	services, err := c.Agent().Services()
	ok(t, err)
	if services["web"] == nil || services["web-sidecar-proxy"] == nil || services["web-sidecar-proxy"].Proxy.DestinationServiceName != "web" {
		t.Errorf("services: %v", services)
	}
	ok(t, c.Agent().CheckRegister(&api.AgentCheckRegistration{ID: "disk", Name: "disk", AgentServiceCheck: api.AgentServiceCheck{TTL: "1h", Status: api.HealthPassing}}))
	ok(t, c.Agent().UpdateTTL("web-alive", "fine", api.HealthPassing))
	checks, err := c.Agent().Checks()
	ok(t, err)
	if checks["web-alive"] == nil || checks["web-alive"].Output != "fine" || checks["disk"] == nil {
		t.Errorf("checks: %v", checks)
	}
	ok(t, c.Agent().CheckDeregister("disk"))
	state, _, err := c.Agent().AgentHealthServiceByID("web")
	ok(t, err)
	if state != api.HealthPassing {
		t.Errorf("web is %s", state)
	}
}

func clientCatalog(t *testing.T, c *api.Client) {
	_, err := c.Catalog().Register(&api.CatalogRegistration{
		Node: "n2", Address: "10.0.0.2", Service: &api.AgentService{ID: "web2", Service: "web", Port: 9000, Tags: []string{"v2"}},
		Check: &api.AgentCheck{Node: "n2", CheckID: "alive", ServiceID: "web2", Status: api.HealthCritical},
	}, nil)
	ok(t, err)
	if names := must[map[string][]string](t)(c.Catalog().Services(nil)); len(names["web"]) != 2 {
		t.Errorf("services: %v", names)
	}
	if nodes := must[[]*api.Node](t)(c.Catalog().Nodes(&api.QueryOptions{Filter: `Node == "n2"`})); len(nodes) != 1 || nodes[0].Address != "10.0.0.2" {
		t.Errorf("nodes: %v", nodes)
	}
	if instances := must[[]*api.CatalogService](t)(c.Catalog().Service("web", "v2", nil)); len(instances) != 1 || instances[0].Address != "10.0.0.2" {
		t.Errorf("web with tag v2: %v", instances)
	}
	if proxies := must[[]*api.CatalogService](t)(c.Catalog().Connect("web", "", nil)); len(proxies) != 1 {
		t.Errorf("proxies of web: %v", proxies)
	}
	all := must[[]*api.ServiceEntry](t)(c.Health().Service("web", "", false, nil))
	passing := must[[]*api.ServiceEntry](t)(c.Health().Service("web", "", true, nil))
	if len(all) != 2 || len(passing) != 1 || passing[0].Service.Meta["team"] != "a" {
		t.Errorf("web has %d instances, %d passing", len(all), len(passing))
	}
	if critical := must[api.HealthChecks](t)(c.Health().State(api.HealthCritical, nil)); len(critical) != 1 || critical[0].CheckID != "alive" {
		t.Errorf("critical: %v", critical)
	}
	_, err = c.Catalog().Deregister(&api.CatalogDeregistration{Node: "n2"}, nil)
	ok(t, err)
}

func clientEntries(t *testing.T, c *api.Client) {
	set, _, err := c.ConfigEntries().Set(&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "web", Protocol: "tcp"}, nil)
	ok(t, err)
	entry := must[api.ConfigEntry](t)(c.ConfigEntries().Get(api.ServiceDefaults, "web", nil))
	stale, _, err := c.ConfigEntries().CAS(&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "web", Protocol: "tcp", Meta: map[string]string{"a": "b"}}, entry.GetModifyIndex()+1000, nil)
	ok(t, err)
	if !set || stale || entry.(*api.ServiceConfigEntry).Protocol != "tcp" {
		t.Errorf("set %v, with a wrong index %v: %v", set, stale, entry)
	}
	if entries := must[[]api.ConfigEntry](t)(c.ConfigEntries().List(api.ServiceDefaults, nil)); len(entries) != 1 {
		t.Errorf("entries: %v", entries)
	}
	_, err = c.ConfigEntries().Delete(api.ServiceDefaults, "web", nil)
	ok(t, err)
	_, _, err = c.ConfigEntries().Get(api.ServiceDefaults, "web", nil)
	if status, known := err.(api.StatusError); !known || status.Code != http.StatusNotFound {
		t.Errorf("after its deletion: %v", err)
	}
	_, _, err = c.ConfigEntries().Set(&api.ServiceRouterConfigEntry{Kind: api.ServiceRouter, Name: "web"}, nil)
	if err == nil || !strings.Contains(err.Error(), "dynamic routing is not supported") {
		t.Errorf("a router: %v", err)
	}
	_, err = c.KV().Put(&api.KVPair{Key: "a"}, nil)
	if err == nil || !strings.Contains(err.Error(), "not supported: the key/value store") {
		t.Errorf("a key: %v", err)
	}
}

func clientIntentions(t *testing.T, c *api.Client) {
	_, err := c.Connect().IntentionUpsert(&api.Intention{SourceName: "api", DestinationName: "web", Action: api.IntentionActionAllow}, nil)
	ok(t, err)
	if allowed := must[bool](t)(c.Connect().IntentionCheck(&api.IntentionCheck{Source: "api", Destination: "web"}, nil)); !allowed {
		t.Error("api may not call web")
	}
	matches := must[map[string][]*api.Intention](t)(c.Connect().IntentionMatch(&api.IntentionMatch{By: api.IntentionMatchDestination, Names: []string{"web"}}, nil))
	if len(matches["web"]) != 1 || matches["web"][0].SourceName != "api" || matches["web"][0].Precedence != 9 {
		t.Errorf("matches: %v", matches)
	}
	_, err = c.Connect().IntentionUpsert(&api.Intention{SourceName: "api", SourcePeer: "alpha", DestinationName: "web", Action: api.IntentionActionAllow}, nil)
	if err == nil || !strings.Contains(err.Error(), "service-intentions") {
		t.Errorf("with a peer: %v", err)
	}
	_, err = c.Connect().IntentionDeleteExact("api", "web", nil)
	ok(t, err)
	if none := must[*api.Intention](t)(c.Connect().IntentionGetExact("api", "web", nil)); none != nil {
		t.Errorf("after its deletion: %v", none)
	}
}

func clientCertificates(t *testing.T, c *api.Client) {
	roots := must[*api.CARootList](t)(c.Connect().CARoots(nil))
	leaf := must[*api.LeafCert](t)(c.Agent().ConnectCALeaf("web", nil))
	if len(roots.Roots) != 1 || !strings.HasSuffix(roots.TrustDomain, ".consul") || leaf.ServiceURI != "spiffe://"+roots.TrustDomain+"/ns/default/dc/dc1/svc/web" {
		t.Errorf("roots %v, leaf of %s", roots, leaf.ServiceURI)
	}
}

// clientPeering exports web of b to a, where it is found by the peer's name.
func clientPeering(t *testing.T, l *lab.Lab, a, b *api.Client) {
	token := must[*api.PeeringGenerateTokenResponse](t)(b.Peerings().GenerateToken(t.Context(), api.PeeringGenerateTokenRequest{PeerName: "alpha"}, nil))
	_, _, err := a.Peerings().Establish(t.Context(), api.PeeringEstablishRequest{PeerName: "beta", PeeringToken: token.PeeringToken}, nil)
	ok(t, err)
	l.Eventually("beta is ACTIVE", func() error {
		peering, _, err := a.Peerings().Read(t.Context(), "beta", nil)
		if err == nil && (peering == nil || peering.State != api.PeeringStateActive) {
			err = fmt.Errorf("%v", peering)
		}
		return err
	})
	_, _, err = b.ConfigEntries().Set(&api.ExportedServicesConfigEntry{Name: "default", Services: []api.ExportedService{
		{Name: "web", Consumers: []api.ServiceConsumer{{Peer: "alpha"}}},
	}}, nil)
	ok(t, err)
	l.Eventually("web is imported", func() error {
		instances, _, err := a.Health().Service("web", "", true, &api.QueryOptions{Peer: "beta"})
		if err == nil && (len(instances) != 1 || instances[0].Service.PeerName != "beta") {
			err = fmt.Errorf("%d instances", len(instances))
		}
		return err
	})
	exported := must[[]api.ResolvedExportedService](t)(b.ExportedServices(nil))
	if len(exported) != 1 || exported[0].Service != "web" || exported[0].Consumers.Peers[0] != "alpha" {
		t.Errorf("exported: %v", exported)
	}
	if list := must[[]*api.Peering](t)(a.Peerings().List(t.Context(), nil)); len(list) != 1 || list[0].StreamStatus.ImportedServices[0] != "web" {
		t.Errorf("peerings: %v", list)
	}
	_, err = a.Peerings().Delete(t.Context(), "beta", nil)
	ok(t, err)
	l.Eventually("beta is gone, and alpha TERMINATED", func() error {
		gone, _, err := a.Peerings().Read(t.Context(), "beta", nil)
		if err != nil || gone != nil {
			return fmt.Errorf("%v, %v", gone, err)
		}
		other, _, err := b.Peerings().Read(t.Context(), "alpha", nil)
		if err == nil && other.State != api.PeeringStateTerminated {
			err = fmt.Errorf("alpha is %s", other.State)
		}
		return err
	})
}
