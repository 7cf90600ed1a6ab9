package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// exchanged is an Isthmus and a Consul that peer for a whole test. Each has one service of its own, called as the side is.
// The application of the Isthmus has upstreams for all that the Consul comes to export.
type exchanged struct {
	*lab.Lab
	isthmus, consul *side
	names           *lab.Names // on the host of the Isthmus
}

const dnsPort = "8600"

// The upstreams of both applications by their offset, besides the peer's own service: services at the Consul, and one that
// both have.
const (
	ownService = iota
	mixedCase
	otherCase
	underscore
	virtual
	overHTTP
	twin
	localTwin
)

var upstreams = []string{
	mixedCase: "Ledger_V2", otherCase: "ledger_v2", underscore: "pay_out", virtual: "virtual", overHTTP: "page", twin: "twin", localTwin: "twin",
}

// TestConsulExchange lets a Consul and an Isthmus export to each other what is out of the ordinary.
func TestConsulExchange(t *testing.T) {
	l := lab.New(t)
	h := l.Host("alpha")
	x := &exchanged{Lab: l, names: l.NamesOn(h)}
	c := l.ClusterOn(h, "--dns-addr", h.API+":"+dnsPort)
	x.isthmus = &side{controlPlane: c, Lab: l, name: h.Name, host: h, process: func() *lab.Process { return c.Server }}
	x.consul = consulSide(l, "beta", lab.Consul115)
	took := timed(l)
	x.prepare()
	took("peered")
	l.Step("without gateways", x.withoutGateways)
	took("without gateways")
	x.gatewayAt(x.consul.host.WAN, "8443", x.consul.host.WAN)
	x.consul.gateway, x.isthmus.gateway = x.consul.consul.Envoy("gateway", "-gateway=mesh", "-proxy-id", "mesh-gateway"), x.isthmus.Gateway()
	for _, step := range []struct {
		name string
		run  func()
	}{
		{"with gateways", func() { bothCall(x.isthmus, x.consul) }},
		{"in maintenance", x.inMaintenance},
		{"names", x.oddNames},
		{"a virtual service", x.virtualService},
		{"a service over http", x.httpService},
		{"one name on both sides", x.sameName},
		{"everything by *", x.everything},
		{"gateways with host names", x.hostNames},
	} {
		l.Step(step.name, step.run)
		took(step.name)
	}
}

// prepare registers each side's own service and starts its sidecar, and peers the sides. Nobody has a gateway yet.
func (x *exchanged) prepare() {
	x.T.Helper()
	own := func(s, peer *side, services []string) *lab.App {
		list := []string{s.upstream(peer.name, peer.name, "", ownService)}
		for i, service := range services {
			switch {
			case i == localTwin:
				list = append(list, s.upstream(service, "", "", i))
			case s == x.isthmus && (i == mixedCase || i == virtual): // through the own gateway
				list = append(list, s.upstream(service, peer.name, "local", i))
			case service != "" && (i == twin || s == x.isthmus):
				list = append(list, s.upstream(service, peer.name, "", i))
			}
		}
		return s.register(s.name, 0, list...)
	}
	x.isthmus.app, x.consul.app = own(x.isthmus, x.consul, upstreams), own(x.consul, x.isthmus, upstreams)
	x.consul.mustWrite(forgiving("beta", "alpha"))
	x.isthmus.sidecar, x.consul.sidecar = x.isthmus.Sidecar("alpha"), x.consul.Sidecar("beta")
	peerSides(x.isthmus, x.consul)
	x.isthmus.intend(x.consul, "allow")
	x.consul.intend(x.isthmus, "allow")
}

// exports writes what a side exports to the other.
func (x *exchanged) exports(s *side, services ...string) {
	x.T.Helper()
	peer := x.isthmus
	if s == x.isthmus {
		peer = x.consul
	}
	entry := "Kind = \"exported-services\"\nName = \"default\"\nServices = [\n"
	for _, service := range services {
		entry += fmt.Sprintf("  { Name = %q, Consumers = [ { Peer = %q } ] },\n", service, peer.name)
	}
	s.mustWrite(entry + "]\n")
}

// gatewayAt registers the Consul's gateway, without a check of its own, where it listens and where peers are to dial it.
func (x *exchanged) gatewayAt(address, port, wan string) {
	x.T.Helper()
	x.consul.CLI("services", "register", x.Write("gateway.hcl", fmt.Sprintf(`
service {
  kind    = "mesh-gateway"
  name    = "mesh-gateway"
  address = %[1]q
  port    = %[2]s
  tagged_addresses {
    lan { address = %[1]q, port = %[2]s }
    wan { address = %[3]q, port = %[2]s }
  }
}`, address, port, wan)))
}

// reaches is a check that the application of a side is answered at an upstream.
func (s *side) reaches(offset int, answer string) func() error {
	return func() error { return s.host.Answer(s.Context(), s.host.Upstream+":"+port(upPort, offset), answer) }
}

// importStatus is what the status of an Isthmus says of one import.
type importStatus struct {
	Peer, Service, Reason string
	Routable              bool
	Gateways              int
}

// imported returns what the status says of the services of the Consul, by name.
func (x *exchanged) imported() map[string]importStatus {
	x.T.Helper()
	var status struct{ Imports []importStatus }
	if err := x.isthmus.JSON("/isthmus/v1/status", &status); err != nil {
		x.T.Fatal(err)
	}
	services := map[string]importStatus{}
	for _, i := range status.Imports {
		services[i.Service] = i
	}
	return services
}

// notRoutable is a check that a service is imported and not routable, and that all that an operator may ask says why.
func (x *exchanged) notRoutable(service, reason string) func() error {
	return func() error {
		if found := x.imported()[service]; found.Service == "" || found.Routable || !strings.Contains(found.Reason, reason) {
			return fmt.Errorf("status says %+v: want it not routable: %s", found, reason)
		}
		return x.said(reason, []string{"status"}, []string{"why", "alpha", service + "@beta"}, []string{"peering", "read", "-name", "beta"})
	}
}

// said returns nil when each of some commands at the Isthmus prints a text.
func (x *exchanged) said(text string, commands ...[]string) error {
	for _, args := range commands {
		if r := x.isthmus.Try(args...); !strings.Contains(r.Stdout+r.Stderr, text) {
			return fmt.Errorf("isthmus %s does not say %q:\n%s%s", strings.Join(args, " "), text, r.Stdout, r.Stderr)
		}
	}
	return nil
}

// withoutGateways: each side shows what the other exports, none is reached, and the Isthmus says why.
func (x *exchanged) withoutGateways() {
	x.exports(x.consul, "beta")
	x.exports(x.isthmus, "alpha")
	x.Eventually("the Isthmus says why it cannot route", x.notRoutable("beta", "no mesh gateway: the peer has sent no instance of beta-sidecar-proxy"))
	x.Eventually("the Consul shows what it imports", func() error { return x.consul.lists("/v1/health/service/alpha?peer=alpha", 1) })
	x.Eventually("the Isthmus says why nobody can call", func() error {
		var status struct {
			Exports []struct{ Service, Reason string }
		}
		if err := x.isthmus.JSON("/isthmus/v1/status", &status); err != nil {
			return err
		}
		if len(status.Exports) != 1 || status.Exports[0].Reason != "no mesh gateway" {
			return fmt.Errorf("status says of exports: %+v", status.Exports)
		}
		return x.said("no mesh gateway", []string{"peering", "exported-services", "-name", "beta"}, []string{"why", "beta@beta", "alpha"}, []string{"check"})
	})
	for _, ends := range [][2]*side{{x.isthmus, x.consul}, {x.consul, x.isthmus}} {
		s, peer := ends[0], ends[1]
		if err := s.is(peer, "ACTIVE")(); err != nil {
			x.T.Errorf("the peering at %s: %v", s.name, err)
		}
		if s.imports(peer)() == nil || s.calls(peer)() == nil {
			x.T.Errorf("%s has a way to a peer without a gateway", s.name)
		}
	}
}

// lists returns nil when the answer is a list of so many.
func (s *side) lists(path string, want int) error {
	var list []any
	if err := s.JSON(path, &list); err != nil {
		return err
	}
	if len(list) != want {
		return fmt.Errorf("%s: %d, want %d", path, len(list), want)
	}
	return nil
}

// inMaintenance puts at the Consul a service, the gateway and the node into maintenance. None of them passes here then, and
// a gateway is not dialled. They come back. The Consul hears of the same here.
func (x *exchanged) inMaintenance() {
	const passing, maintenance = "passing", "maintenance"
	for _, what := range []struct {
		name             string
		args             []string
		service, gateway string
	}{
		{"service", []string{"-service=beta"}, maintenance, passing},
		{"gateway", []string{"-service=mesh-gateway"}, passing, maintenance},
		{"node", nil, maintenance, maintenance},
	} {
		x.consul.CLI(append([]string{"maint", "-enable"}, what.args...)...)
		x.Eventually("the service while the "+what.name+" is in maintenance", x.health("service", what.service))
		x.Eventually("the gateway while the "+what.name+" is in maintenance", x.health("connect", what.gateway))
		if what.gateway == maintenance {
			x.Eventually("no call while the "+what.name+" is in maintenance", not(x.isthmus.calls(x.consul), "it is answered"))
			x.Eventually("the reason", func() error { return x.said("is in maintenance", []string{"why", "alpha", "beta@beta"}) })
		}
		x.consul.CLI(append([]string{"maint", "-disable"}, what.args...)...)
		x.Eventually("the service when the "+what.name+" is back", x.health("service", passing))
		x.Eventually("the gateway when the "+what.name+" is back", x.health("connect", passing))
		x.Eventually("a call when the "+what.name+" is back", x.isthmus.calls(x.consul))
	}
	for kind, id := range map[string]string{"service": "alpha", "connect": "mesh-gateway"} {
		path := "/v1/health/" + kind + "/alpha?peer=alpha"
		x.putMaintenance(id, true)
		x.Eventually(id+" of the Isthmus while it is in maintenance", func() error { return x.consul.checked(path, maintenance) })
		x.putMaintenance(id, false)
		x.Eventually(id+" of the Isthmus when it is back", func() error { return x.consul.checked(path) })
	}
	x.Eventually("a call of the Isthmus", x.consul.calls(x.isthmus))
}

// putMaintenance puts an instance at the Isthmus into maintenance, or takes it back.
func (x *exchanged) putMaintenance(id string, enable bool) {
	x.T.Helper()
	path := fmt.Sprintf("/v1/agent/service/maintenance/%s?enable=%v", id, enable)
	if status, body, err := x.isthmus.Request(http.MethodPut, path, ""); err != nil || status != http.StatusOK {
		x.T.Fatalf("%s: %d: %s: %v", path, status, body, err)
	}
}

// checked returns nil when there is one instance, whose checks are in these states.
func (s *side) checked(path string, want ...string) error {
	var instances []struct{ Checks []struct{ Status string } }
	if err := s.JSON(path, &instances); err != nil {
		return err
	}
	if len(instances) != 1 {
		return fmt.Errorf("%s: %d instances, want 1", path, len(instances))
	}
	var found []string
	for _, check := range instances[0].Checks {
		found = append(found, check.Status)
	}
	if !slices.Equal(found, want) {
		return fmt.Errorf("%s: checks %v, want %v", path, found, want)
	}
	return nil
}

// health is a check of how the Consul's service is here, or for connect its gateway, over HTTP and DNS.
func (x *exchanged) health(kind, want string) func() error {
	return func() error {
		path := "/v1/health/" + kind + "/beta?peer=beta"
		if err := x.isthmus.checked(path, want); err != nil {
			return err
		}
		passing := 0
		if want == "passing" {
			passing = 1
		}
		if err := x.isthmus.lists(path+"&passing", passing); err != nil {
			return err
		}
		return x.resolves(kind, passing)
	}
}

// resolves returns nil when DNS answers with so many instances of the Consul's service.
func (x *exchanged) resolves(kind string, want int) error {
	conn, err := x.isthmus.host.DialOutside(x.Context(), x.isthmus.host.API+":"+dnsPort)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	request := new(dns.Msg)
	request.SetQuestion("beta."+kind+".beta.peer.consul.", dns.TypeSRV)
	answer, _, err := new(dns.Client).ExchangeWithConn(request, &dns.Conn{Conn: conn})
	if err != nil {
		return err
	}
	if len(answer.Answer) != want {
		return fmt.Errorf("DNS: %v: want %d of %s", answer.Answer, want, kind)
	}
	return nil
}
