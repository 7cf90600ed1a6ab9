package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// controlPlane is what an operator has, an isthmus or a Consul: a server, an API and a CLI with the same verbs and flags.
type controlPlane interface {
	Try(args ...string) lab.Result
	CLI(args ...string) string
	Request(method, path, body string) (int, string, error)
	JSON(path string, v any) error
	Gateway() *lab.Envoy
	Sidecar(service string) *lab.Envoy
	Start()
}

// side is one operator's side of a peering. Its one service is called as the side is; peers call it so too.
type side struct {
	controlPlane
	*lab.Lab
	name             string
	host             *lab.Host
	process          func() *lab.Process
	consul           *lab.Consul // nil: an isthmus
	app              *lab.App
	gateway, sidecar *lab.Envoy
}

func isthmusSide(l *lab.Lab, name string, args ...string) *side {
	c := l.Cluster(name, args...)
	return &side{controlPlane: c, Lab: l, name: name, host: c.Host, process: func() *lab.Process { return c.Server }}
}

func consulSide(l *lab.Lab, name, version string) *side {
	c := l.Consul(name, version)
	s := &side{controlPlane: c, Lab: l, name: name, host: c.Host, process: func() *lab.Process { return c.Server }, consul: c}
	if version == lab.Consul113 {
		s.controlPlane = followedConsul{c}
	}
	return s
}

// write writes a config entry in HCL.
func (s *side) write(entry string) lab.Result {
	return s.Try("config", "write", s.Write(fmt.Sprintf("%s-%d.hcl", s.name, time.Now().UnixNano()), entry))
}

func (s *side) mustWrite(entry string) {
	s.T.Helper()
	if r := s.write(entry); r.Code != 0 {
		s.T.Fatalf("%s: %s%s\n%s", s.name, r.Stdout, r.Stderr, entry)
	}
}

// export writes the entry that exports the side's service to peers, or with none, nothing.
func (s *side) export(peers ...string) {
	s.T.Helper()
	s.mustWrite(exports(s.name, peers...))
}

func exports(service string, peers ...string) string {
	if len(peers) == 0 {
		return "Kind = \"exported-services\"\nName = \"default\"\n"
	}
	consumers := ""
	for _, peer := range peers {
		consumers += fmt.Sprintf(" { peer_name = %q },", peer)
	}
	return fmt.Sprintf("Kind = \"exported-services\"\nName = \"default\"\nServices = [ { Name = %q, Consumers = [%s ] } ]\n", service, consumers)
}

// intend writes what the side's service does with calls from the service of a peer.
func (s *side) intend(peer *side, action string) {
	s.T.Helper()
	s.mustWrite(fmt.Sprintf("Kind = \"service-intentions\"\nName = %q\nSources = [ { Name = %q, Peer = %q, Action = %q } ]\n",
		s.name, peer.name, peer.name, action))
}

// mesh registers and starts the side's application, sidecar and gateway. The application may call the service of a peer,
// in a gateway mode.
func (s *side) mesh(peer, mode string) {
	s.T.Helper()
	s.app = s.register(s.name, 0, s.upstream(peer, peer, mode, 0))
	s.gateway, s.sidecar = s.Gateway(), s.Sidecar(s.name)
}

// register starts an application, whose name is the service's and the side's, or for the side's own service the side's,
// and registers it with a sidecar, which it does not start. offset moves their ports, for several services on one host.
func (s *side) register(service string, offset int, upstreams ...string) *lab.App {
	s.T.Helper()
	name := s.name
	if service != name {
		name = service + "@" + name
	}
	app := s.App(s.host, name, s.host.App+":"+port(appPort, offset), false)
	s.CLI("services", "register", s.Write(fmt.Sprintf("%s-%s-service.hcl", s.name, service), fmt.Sprintf(`
service {
  name    = %q
  address = %q
  port    = %s
  connect { sidecar_service {
    address = %q
    port    = %s
    checks  = [ { name = "as the service is", alias_service = %q } ]
    proxy {
      local_service_address = %q
      upstreams = [ %s ]
    }
  } }
}`, service, s.host.App, port(appPort, offset), s.host.Sidecar, port(sidecarPort, offset), service, s.host.App, strings.Join(upstreams, ", "))))
	return app
}

// upstream is one element of proxy.upstreams: a service at a peer, or with an empty peer here, in a gateway mode.
func (s *side) upstream(service, peer, mode string, offset int) string {
	return fmt.Sprintf(`{ destination_name = %q, destination_peer = %q, local_bind_address = %q, local_bind_port = %s, mesh_gateway { mode = %q } }`,
		service, peer, s.host.Upstream, port(upPort, offset), mode)
}

// state returns what the side says of a peering.
func (s *side) state(peer string) string {
	var answer struct{ State string }
	status, body, err := s.Request(http.MethodGet, "/v1/peering/"+peer, "")
	switch {
	case err != nil:
		return err.Error()
	case status != http.StatusOK:
		return fmt.Sprintf("%d: %s", status, body)
	case json.Unmarshal([]byte(body), &answer) != nil:
		return body
	}
	return answer.State
}

// is returns a check that the peering is in one of some states.
func (s *side) is(peer *side, states ...string) func() error {
	return func() error {
		found := s.state(peer.name)
		for _, state := range states {
			if found == state {
				return nil
			}
		}
		return fmt.Errorf("it is %s", found)
	}
}

// lost is a check that there is no peering.
func (s *side) lost(peer *side) func() error {
	return func() error {
		if status, body, err := s.Request(http.MethodGet, "/v1/peering/"+peer.name, ""); err != nil || status != http.StatusNotFound {
			return fmt.Errorf("%d: %s: %w", status, body, err)
		}
		return nil
	}
}

// roots returns how many roots of a peer the side trusts.
func (s *side) roots(peer *side) int {
	s.T.Helper()
	var answer struct{ PeerCAPems []string }
	if err := s.JSON("/v1/peering/"+peer.name, &answer); err != nil {
		s.T.Fatal(err)
	}
	return len(answer.PeerCAPems)
}

// peerStatus is what an isthmus's own status says of a peer.
type peerStatus struct {
	Name, Dialect string
	Plaintext     bool
}

func (s *side) status(peer *side) peerStatus {
	s.T.Helper()
	var status struct{ Peers []peerStatus }
	if err := s.JSON("/isthmus/v1/status", &status); err != nil {
		s.T.Fatal(err)
	}
	for _, p := range status.Peers {
		if p.Name == peer.name {
			return p
		}
	}
	s.T.Fatalf("%s knows no peer %s", s.name, peer.name)
	return peerStatus{}
}

// speaks returns the dialect of a Consul: that of 1.14 is spoken from then on.
func (s *side) speaks() string {
	if s.consul.Version == lab.Consul113 {
		return "1.13"
	}
	return "1.14"
}

// leaves returns the serial numbers of the certificates that the side's sidecar has in use. Open connections keep old ones.
func (s *side) leaves() []string {
	s.T.Helper()
	text, err := s.sidecar.Admin("/certs")
	if err != nil {
		s.T.Fatal(err)
	}
	var answer struct {
		Certificates []struct {
			Chain []struct {
				Serial string `json:"serial_number"`
			} `json:"cert_chain"`
		}
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		s.T.Fatal(err)
	}
	var serials []string
	for _, certificate := range answer.Certificates {
		for _, leaf := range certificate.Chain {
			serials = append(serials, leaf.Serial)
		}
	}
	slices.Sort(serials)
	return slices.Compact(serials)
}

// imports returns nil when the side has instances of the peer's service for proxies.
func (s *side) imports(peer *side) func() error {
	return func() error {
		var instances []struct{ Node struct{ Node string } }
		if err := s.JSON("/v1/health/connect/"+peer.name+"?peer="+peer.name, &instances); err != nil {
			return err
		}
		if len(instances) == 0 {
			return errors.New("it has no instance")
		}
		return nil
	}
}

// not turns a check around.
func not(check func() error, problem string) func() error {
	return func() error {
		if check() == nil {
			return errors.New(problem)
		}
		return nil
	}
}

// calls returns nil when the side's application reaches that of the peer.
func (s *side) calls(peer *side) func() error {
	return func() error { return s.host.Answer(s.Context(), s.host.Upstream+":"+upPort, peer.name) }
}

// hold keeps a connection from the side's application to that of its peer.
func (s *side) hold() *lab.Held {
	s.T.Helper()
	return s.Hold(s.host, s.host.Upstream+":"+upPort, true)
}

// peerSides peers two sides, each of which calls the other by its name.
func peerSides(acceptor, dialer *side) {
	acceptor.T.Helper()
	token := acceptor.CLI("peering", "generate-token", "-name", dialer.name)
	dialer.CLI("peering", "establish", "-name", acceptor.name, "-peering-token", token)
	active(acceptor, dialer)
}

// active waits until two sides say ACTIVE of each other.
func active(a, b *side) {
	a.T.Helper()
	a.Eventually(a.name+" has "+b.name+" ACTIVE", a.is(b, "ACTIVE"))
	a.Eventually(b.name+" has "+a.name+" ACTIVE", b.is(a, "ACTIVE"))
}
