// Package e2e shows the promises of docs/promises.md on real Envoys, through nothing but what a user has.
package e2e

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// The ports of applications and sidecars, the same in every cluster.
const (
	appPort     = "9000"
	sidecarPort = "21000"
	upPort      = "5432" // where a caller's sidecar offers what it dials
)

// service registers an application with its sidecar on the cluster's host, starts both, and returns them. upstreams is
// HCL: the list elements of proxy.upstreams.
func service(c *lab.Cluster, name string, offset int, banner bool, upstreams string) (*lab.App, *lab.Envoy) {
	c.Lab.T.Helper()
	app := c.Lab.App(c.Host, name+"@"+c.Name, c.Host.App+":"+port(appPort, offset), banner)
	register(c, name, offset, upstreams)
	return app, c.Sidecar(name)
}

// register registers a service and its sidecar. offset moves their ports, for several services on one host.
func register(c *lab.Cluster, name string, offset int, upstreams string) {
	c.Lab.T.Helper()
	c.Register(fmt.Sprintf(`
service {
  name    = %q
  address = %q
  port    = %s
  connect { sidecar_service {
    address = %q
    port    = %s
    proxy {
      local_service_address = %q
      upstreams = [ %s ]
    }
  } }
}`, name, c.Host.App, port(appPort, offset), c.Host.Sidecar, port(sidecarPort, offset), c.Host.App, upstreams))
}

func port(base string, offset int) string {
	var n int
	if _, err := fmt.Sscan(base, &n); err != nil {
		panic(err) // base is a constant of this file
	}
	return fmt.Sprint(n + offset)
}

// upstream is one element of proxy.upstreams: a service at a peer, or with an empty peer in the own cluster.
func upstream(c *lab.Cluster, name, peer, mode string, offset int) string {
	text := fmt.Sprintf(`{ destination_name = %q, local_bind_address = %q, local_bind_port = %s`, name, c.Host.Upstream, port(upPort, offset))
	if peer != "" {
		text += fmt.Sprintf(`, destination_peer = %q`, peer)
	}
	if mode != "" {
		text += fmt.Sprintf(`, mesh_gateway { mode = %q }`, mode)
	}
	return text + " }"
}

// up returns the address at which a cluster's callers find the upstream with an offset.
func up(c *lab.Cluster, offset int) string { return c.Host.Upstream + ":" + port(upPort, offset) }

// export writes the one exported-services entry of a cluster: service to peers, service to peers, …
func export(c *lab.Cluster, services map[string][]string) {
	c.Lab.T.Helper()
	text := "Kind = \"exported-services\"\nName = \"default\"\nServices = [\n"
	for name, peers := range services {
		text += fmt.Sprintf("  { Name = %q, Consumers = [", name)
		for _, peer := range peers {
			text += fmt.Sprintf(" { Peer = %q },", peer)
		}
		text += " ] },\n"
	}
	c.Config(text + "]\n")
}

// source is one source of an intention.
type source struct{ name, peer, action string }

// intend writes the service-intentions entry of a destination.
func intend(c *lab.Cluster, destination string, sources ...source) {
	c.Lab.T.Helper()
	text := fmt.Sprintf("Kind = \"service-intentions\"\nName = %q\nSources = [\n", destination)
	for _, s := range sources {
		text += fmt.Sprintf("  { Name = %q, Action = %q", s.name, s.action)
		if s.peer != "" {
			text += fmt.Sprintf(", Peer = %q", s.peer)
		}
		text += " },\n"
	}
	c.Config(text + "]\n")
}

// pair is the main job: web at alpha calls db at beta, each side behind its own gateway.
type pair struct {
	*lab.Lab
	alpha, beta       *lab.Cluster
	db                *lab.App
	dbEnvoy, webEnvoy *lab.Envoy
	gatewayA          *lab.Envoy
	gatewayB          *lab.Envoy
}

// newPair brings the pair up in a lab, with db exported and web allowed, in a gateway mode. args are flags of beta's server.
func newPair(l *lab.Lab, mode string, banner bool, args ...string) *pair {
	l.T.Helper()
	p := bare(l, banner, args...)
	_, p.webEnvoy = service(p.alpha, "web", 0, false, upstream(p.alpha, "db", "beta", mode, 0))
	export(p.beta, map[string][]string{"db": {"alpha"}})
	intend(p.beta, "db", source{"web", "alpha", "allow"})
	p.Eventually("web@alpha reaches db@beta", p.answers)
	return p
}

// bare brings up two peered clusters with gateways and db at beta; nothing is exported, allowed or dialled yet.
func bare(l *lab.Lab, banner bool, args ...string) *pair {
	l.T.Helper()
	p := &pair{Lab: l, alpha: l.Cluster("alpha"), beta: l.Cluster("beta", args...)}
	p.beta.Peer("alpha", p.alpha, "beta")
	p.gatewayA, p.gatewayB = p.alpha.Gateway(), p.beta.Gateway()
	p.db, p.dbEnvoy = service(p.beta, "db", 0, banner, "")
	return p
}

// answers returns nil when a call of web's application reaches db.
func (p *pair) answers() error {
	return p.alpha.Host.Answer(p.Context(), up(p.alpha, 0), "db@beta")
}
