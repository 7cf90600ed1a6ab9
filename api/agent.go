package api

import (
	"net/netip"
	"strconv"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

func (s *server) agentRoutes() []route {
	return []route{
		{method: "GET", pattern: "/v1/agent/self", access: starts, do: s.agentSelf},
		{method: "GET", pattern: "/v1/agent/metrics", access: scrape, do: s.agentMetrics},
		{method: "GET", pattern: "/v1/agent/version", access: read, do: func(*call) (any, error) {
			return map[string]string{"SHA": "", "HumanVersion": s.Server.Version, "FIPS": ""}, nil
		}},
		{method: "GET", pattern: "/v1/status/leader", access: read, do: func(*call) (any, error) { return s.raftAddress(), nil }},
		{method: "GET", pattern: "/v1/status/peers", access: read, do: func(*call) (any, error) { return []string{s.raftAddress()}, nil }},
		{method: "GET", pattern: "/v1/acl/token/self", access: starts, do: tokenSelf},
	}
}

// envoyVersions are the newest releases of the Envoys that are served, newest first.
var envoyVersions = []string{"1.40.0", "1.39.0", "1.38.0", "1.37.0"}

// agentSelf says who we are, as far as Consul's tools ask: they look for the xDS port here.
func (s *server) agentSelf(c *call) (any, error) {
	cluster := c.world.Cluster()
	port := portOf(s.Server.XDSAddress)
	node := nodeShape(c.world, cluster.NodeName, "127.0.0.1")
	return map[string]any{
		"Config": map[string]any{
			"Datacenter": cluster.Datacenter, "PrimaryDatacenter": cluster.Datacenter, "NodeName": cluster.NodeName, "NodeID": node.ID,
			"Revision": "isthmus", "Server": true, "Version": s.Server.Version,
		},
		"DebugConfig": map[string]any{
			"Datacenter": cluster.Datacenter, "NodeName": cluster.NodeName, "GRPCPort": -1, "GRPCTLSPort": port,
			"ConnectEnabled": true, "PeeringEnabled": s.Server.PeeringAddress != "",
		},
		"Member": map[string]any{
			"Name": cluster.NodeName, "Addr": node.Address, "Port": portOf(s.Server.PeeringAddress), "Status": 1,
			"Tags": map[string]string{"dc": cluster.Datacenter, "role": "consul", "build": s.Server.Version},
		},
		"Stats": map[string]any{
			"isthmus": map[string]string{"source": s.Server.Source, "trust_domain": cluster.TrustDomain, "index": strconv.FormatUint(c.world.Index, 10)},
		},
		"Meta": node.Meta,
		"xDS": map[string]any{
			"SupportedProxies": map[string][]string{"envoy": envoyVersions},
			"Port":             port,
			"Ports":            map[string]int{"Plaintext": -1, "TLS": port},
		},
	}, nil
}

// raftAddress is what Consul calls the leader: there is one server and it is this one.
func (s *server) raftAddress() string {
	if s.Server.PeeringAddress != "" {
		return s.Server.PeeringAddress
	}
	return s.Server.XDSAddress
}

func (s *server) agentMetrics(c *call) (any, error) {
	if c.URL.Query().Get("format") != "prometheus" {
		return nil, refuse(415, "format", "metrics are served in Prometheus' format only").hint("ask for /v1/agent/metrics?format=prometheus")
	}
	return s.showMetrics(c)
}

func (s *server) showMetrics(c *call) (any, error) {
	if s.Gatherer == nil {
		return nil, refuse(404, "metrics", "no metrics are served here").hint("see --metrics-addr")
	}
	deadline(c.w, writeTimeout)
	promhttp.HandlerFor(s.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4}).ServeHTTP(c.w, c.Request)
	return streamed{}, nil
}

// tokenSelf is whoami in Consul's words: its CLI asks whether a token is needed.
func tokenSelf(c *call) (any, error) {
	accessor, description := c.who.Accessor, c.who.Description
	if c.who.Role == snapshot.RoleNone {
		accessor, description = "00000000-0000-0000-0000-000000000002", "Anonymous Token"
	}
	return map[string]any{
		"AccessorID": accessor, "SecretID": "<hidden>", "Description": description, "Local": false, "CreateTime": c.who.Created,
		"Policies": []map[string]string{{"ID": string(c.who.Role), "Name": string(c.who.Role)}},
	}, nil
}

// portOf returns the port of host:port, 0 when there is none.
func portOf(address string) int {
	if parsed, err := netip.ParseAddrPort(address); err == nil {
		return int(parsed.Port())
	}
	for i := len(address) - 1; i >= 0; i-- {
		if address[i] == ':' {
			port, _ := strconv.Atoi(address[i+1:]) // 0 when it is no number
			return port
		}
	}
	return 0
}
