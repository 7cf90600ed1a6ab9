package api

import (
	"net/http"
	"strings"
)

func (s *server) probeRoutes() []route {
	return []route{
		{method: "GET", pattern: "/healthz", access: everybody, do: func(*call) (any, error) { return plain(http.StatusOK, "ok") }},
		{method: "GET", pattern: "/readyz", access: everybody, do: s.readyz},
		{method: "GET", pattern: "/metrics", access: scrape, do: s.showMetrics},
		{method: "GET", pattern: "/isthmus/v1/bootstrap-info", access: read, do: s.bootstrapInfo},
		{method: "GET", pattern: "/{$}", access: everybody, do: func(*call) (any, error) {
			return plain(http.StatusOK, "isthmus: Consul's API under /v1, its own under /isthmus/v1; /metrics, /healthz, /readyz")
		}},
	}
}

func plain(status int, text string) (any, error) {
	return raw{status, "text/plain; charset=utf-8", []byte(text + "\n")}, nil
}

// readyz says whether answers are complete: a proxy or a load balancer should wait until then.
func (s *server) readyz(c *call) (any, error) {
	if s.ready(c) != nil {
		return plain(http.StatusServiceUnavailable, "not ready: the source has not answered yet")
	}
	return plain(http.StatusOK, "ready")
}

// BootstrapInfo is what whoever bootstraps an Envoy must know of this server.
type BootstrapInfo struct {
	XDSAddress    string `json:"xds_address"`     // host:port
	XDSServerName string `json:"xds_server_name"` // that its certificate carries
	XDSCAPEM      string `json:"xds_ca_pem"`      // that vouches for it
	TrustDomain   string `json:"trust_domain"`
	Datacenter    string `json:"datacenter"`
	NodeName      string `json:"node_name"`
	Version       string `json:"version"`
}

func (s *server) bootstrapInfo(c *call) (any, error) {
	cluster := c.world.Cluster()
	info := BootstrapInfo{
		XDSAddress: s.Server.XDSAddress, XDSServerName: s.Server.XDSServerName, TrustDomain: cluster.TrustDomain,
		Datacenter: cluster.Datacenter, NodeName: cluster.NodeName, Version: s.Server.Version,
	}
	if s.Server.XDSCAPEM != nil {
		info.XDSCAPEM = s.Server.XDSCAPEM()
	} else if roots := c.world.Roots(); roots != nil {
		info.XDSCAPEM = strings.Join(roots.Roots, "")
	}
	return info, nil
}
