package config

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// TestClientEntries: what Consul's own client sends for an entry is read, with all the fields that its user never set.
func TestClientEntries(t *testing.T) {
	percent, most := uint32(100), 7
	pause := 30 * time.Second
	for _, entry := range []api.ConfigEntry{
		&api.ExportedServicesConfigEntry{Name: "default", Services: []api.ExportedService{{Name: "web", Consumers: []api.ServiceConsumer{{Peer: "east"}}}}},
		&api.ServiceIntentionsConfigEntry{Kind: api.ServiceIntentions, Name: "web", Sources: []*api.SourceIntention{{Name: "a", Peer: "east", Action: api.IntentionActionAllow}}},
		&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "web", Protocol: "tcp", UpstreamConfig: &api.UpstreamConfiguration{
			Defaults: &api.UpstreamConfig{Limits: &api.UpstreamLimits{MaxConnections: &most}, PassiveHealthCheck: &api.PassiveHealthCheck{
				Interval: time.Second, MaxFailures: 3, EnforcingConsecutive5xx: &percent, BaseEjectionTime: &pause,
			}},
			Overrides: []*api.UpstreamConfig{{Name: "db", Peer: "east", MeshGateway: api.MeshGatewayConfig{Mode: api.MeshGatewayModeLocal}}},
		}},
		&api.ProxyConfigEntry{Kind: api.ProxyDefaults, Name: "global", Config: map[string]any{"protocol": "tcp"}, AccessLogs: &api.AccessLogsConfig{}},
		&api.MeshConfigEntry{TLS: &api.MeshTLSConfig{Incoming: &api.MeshDirectionalTLSConfig{}}, HTTP: &api.MeshHTTPConfig{}, Peering: &api.PeeringMeshConfig{}},
	} {
		body, err := json.Marshal(entry)
		if err != nil {
			t.Fatal(err)
		}
		read, err := ParseEntry("", body)
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		answer, err := json.Marshal(EncodeEntry(read))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := api.DecodeConfigEntryFromJSON(answer); err != nil {
			t.Errorf("%s: Consul's client cannot read it: %v", answer, err)
		}
	}
}

// TestClientRegistrations: what Consul's command registers for a service with a sidecar, and for a gateway.
func TestClientRegistrations(t *testing.T) {
	long := strings.Repeat("a", maxName)
	for _, registration := range []api.AgentServiceRegistration{
		{Name: long, Port: 80, Weights: &api.AgentWeights{Passing: 1, Warning: 1}, Check: &api.AgentServiceCheck{TTL: "30s"}, Connect: &api.AgentServiceConnect{
			SidecarService: &api.AgentServiceRegistration{Check: &api.AgentServiceCheck{}, Proxy: &api.AgentServiceConnectProxyConfig{Upstreams: []api.Upstream{
				{DestinationType: api.UpstreamDestTypeService, DestinationName: "db", DestinationPeer: "east", LocalBindPort: 5432},
			}}},
		}},
		{
			Kind: api.ServiceKindMeshGateway, ID: "gw", Name: "mesh-gateway", Address: "10.0.0.1", Port: 8443,
			TaggedAddresses: map[string]api.ServiceAddress{"lan": {Address: "10.0.0.1", Port: 8443}, "wan": {Address: "gw.example.com", Port: 443}},
			Proxy:           &api.AgentServiceConnectProxyConfig{},
			Check:           &api.AgentServiceCheck{CheckID: "gw-mesh-gateway", Name: "Gateway Listening", TCP: "10.0.0.1:8443", Interval: "10s", DeregisterCriticalServiceAfter: "6h"},
		},
	} {
		body, err := json.Marshal(registration)
		if err != nil {
			t.Fatal(err)
		}
		service, err := ParseRegistration(body)
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		if len(service.Checks) != 1 || service.Name == long && (service.Sidecar == nil || service.Sidecar.Name != long+"-sidecar-proxy") {
			t.Errorf("%s: read as %v", body, EncodeService(service))
		}
	}
}
