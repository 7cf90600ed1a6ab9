package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// TestConsulOfThreeServers peers two isthmuses with a Consul of three servers, of which only the leader holds streams: one
// dials it and one is dialled. The leader dies, another server takes its place, and the peerings follow.
func TestConsulOfThreeServers(t *testing.T) {
	l := lab.New(t)
	took := timed(l)
	servers := l.ConsulHosts(lab.Consul115, l.Host("beta-1"), l.Host("beta-2"), l.Host("beta-3"))
	leads := slices.IndexFunc(servers, func(c *lab.Consul) bool { return c.Host.WAN == servers[0].Leader() })
	leader, front := servers[leads], servers[(leads+1)%3] // the operator asks a server that stays
	consul := serverSide(l, "beta", front)
	dialer, acceptor := exchanging(l, consul)
	took("started")
	peerSides(consul, dialer)
	took("the leader found among the servers")
	peerSides(acceptor, consul)
	for _, isthmus := range []*side{dialer, acceptor} {
		bothImport(isthmus, consul)
	}
	took("both import")

	l.Step("the leader dies", func() { leaderDies(l, leader, consul, dialer, acceptor) })
	l.Step("it is replaced", func() { serverReplaced(l, leader, front, consul, dialer) })
}

// leaderDies kills a Consul's leader. All isthmuses, of which the first dials, get a stream to the next one, and keep what they imported meanwhile.
func leaderDies(l *lab.Lab, leader *lab.Consul, consul *side, isthmuses ...*side) {
	l.T.Helper()
	before := map[*side]int{}
	for _, isthmus := range isthmuses {
		before[isthmus] = isthmus.streams(consul)
	}
	died := time.Now()
	leader.Server.Kill()
	kept := func(check func() error) func() error {
		return func() error {
			for _, isthmus := range isthmuses {
				if err := isthmus.imports(consul)(); err != nil {
					l.T.Fatalf("%s: the import is gone: %v", isthmus.name, err)
				}
			}
			return check()
		}
	}
	l.Eventually(isthmuses[0].name+" asks the others meanwhile", kept(func() error {
		if reason := isthmuses[0].reason(consul); !strings.Contains(reason, "that server of the peer is not its leader") {
			return errors.New(reason)
		}
		return nil
	}))
	l.Eventually("there is a new leader", kept(func() error {
		if address := consul.consul.Leader(); address == "" || address == leader.Host.WAN {
			return fmt.Errorf("the leader is %q", address)
		}
		return nil
	}))
	l.T.Logf("a new leader after %v", time.Since(died).Round(time.Millisecond))
	for _, isthmus := range isthmuses {
		l.Promise(isthmus.name+" has a new stream once there is a leader", 3*time.Second, kept(isthmus.hasStream(consul, before[isthmus])))
		l.Eventually(isthmus.name+" has "+consul.name+" ACTIVE", kept(isthmus.is(consul, "ACTIVE")))
		l.T.Logf("%s ACTIVE again %v after the leader died", isthmus.name, time.Since(died).Round(time.Millisecond))
		l.Eventually(consul.name+" has "+isthmus.name+" ACTIVE", consul.is(isthmus, "ACTIVE"))
		bothImport(isthmus, consul)
	}
}

// serverReplaced takes a dead server out of a Consul and a new one in. An isthmus that dials follows, and dials these after
// a restart too.
func serverReplaced(l *lab.Lab, dead, front *lab.Consul, consul, dialer *side) {
	l.T.Helper()
	took := timed(l)
	consul.CLI("force-leave", "-prune", dead.Name)
	added := front.Joining("beta-4")
	took("a new server has joined")
	l.Eventually(dialer.name+" dials the three servers there are", func() error {
		addresses := dialer.addresses(consul)
		for _, address := range addresses {
			if strings.HasPrefix(address, dead.Host.WAN+":") {
				return fmt.Errorf("it dials %v", addresses)
			}
		}
		if len(addresses) != 3 || !slices.Contains(addresses, added.Host.WAN+":"+lab.PeeringPort) {
			return fmt.Errorf("it dials %v", addresses)
		}
		return nil
	})
	took("followed")
	dialer.process().Kill()
	dialer.Start()
	active(dialer, consul)
	took(dialer.name + " restarted")
	if addresses := dialer.addresses(consul); !slices.Contains(addresses, added.Host.WAN+":"+lab.PeeringPort) {
		l.T.Errorf("%s dials %v after its restart", dialer.name, addresses)
	}
}

// TestConsul113WithTLS: a Consul 1.13.9 with a certificate of its operator's own CA for its gRPC port is dialled with TLS, and
// dials, as any other peer.
func TestConsul113WithTLS(t *testing.T) {
	l := lab.New(t)
	took := timed(l)
	ca, certificate, key := l.Certificate("server.dc1.consul")
	consul := serverSide(l, "beta", l.ConsulWith("beta", lab.Consul113, map[string]any{
		"tls": map[string]any{"grpc": map[string]any{"ca_file": ca, "cert_file": certificate, "key_file": key}},
	}))
	dialer, acceptor := exchanging(l, consul)
	took("started")
	peerSides(consul, dialer)
	peerSides(acceptor, consul)
	for _, isthmus := range []*side{dialer, acceptor} {
		bothImport(isthmus, consul)
		if status := isthmus.status(consul); status.Plaintext || status.Dialect != consul.speaks() {
			t.Errorf("%s says of %s: %+v", isthmus.name, consul.name, status)
		}
	}
	took("both import")
	consul.process().Kill()
	consul.Start()
	for _, isthmus := range []*side{dialer, acceptor} {
		active(isthmus, consul)
	}
	took("restarted")
}

// serverSide is the side of a Consul that runs already.
func serverSide(l *lab.Lab, name string, c *lab.Consul) *side {
	return &side{controlPlane: c, Lab: l, name: name, host: c.Host, process: func() *lab.Process { return c.Server }, consul: c}
}

// announce registers the side's service, its sidecar and a mesh gateway, and starts none of them: for tests of what peers
// tell each other.
func (s *side) announce() {
	s.T.Helper()
	s.CLI("services", "register", s.Write(s.name+"-announced.hcl", fmt.Sprintf(`
services = [
  { name = %[1]q, address = %[2]q, port = %[3]s, connect { sidecar_service { address = %[4]q, port = %[5]s, checks = [ { name = "as the service is", alias_service = %[1]q } ] } } },
  { kind = "mesh-gateway", name = "mesh-gateway", address = %[6]q, port = 8443,
    tagged_addresses { lan { address = %[6]q, port = 8443 }, wan { address = %[6]q, port = 8443 } } },
]`, s.name, s.host.App, appPort, s.host.Sidecar, sidecarPort, s.host.WAN)))
}

// streams returns how many streams with a peer an isthmus has had.
func (s *side) streams(peer *side) int {
	s.T.Helper()
	_, text, err := s.Request("GET", "/metrics", "")
	if err != nil {
		s.T.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, fmt.Sprintf("isthmus_peering_sessions_total{peer=%q} ", peer.name)); ok {
			_, err = fmt.Sscan(rest, &n)
		}
	}
	if err != nil {
		s.T.Fatal(err)
	}
	return n
}

// hasStream returns a check that an isthmus has had more streams than before.
func (s *side) hasStream(peer *side, before int) func() error {
	return func() error {
		if s.streams(peer) <= before {
			return fmt.Errorf("no new stream: %s", s.reason(peer))
		}
		return nil
	}
}

// reason returns the state of a peering, and why it is in it, as an isthmus says.
func (s *side) reason(peer *side) string {
	s.T.Helper()
	var status struct {
		Peers []struct{ Name, State, Reason string }
	}
	if err := s.JSON("/isthmus/v1/status", &status); err != nil {
		s.T.Fatal(err)
	}
	for _, p := range status.Peers {
		if p.Name == peer.name {
			return p.State + ": " + p.Reason
		}
	}
	return "no such peer"
}

// addresses returns where a side dials a peer.
func (s *side) addresses(peer *side) []string {
	s.T.Helper()
	var answer struct{ PeerServerAddresses []string }
	if err := s.JSON("/v1/peering/"+peer.name, &answer); err != nil {
		s.T.Fatal(err)
	}
	return answer.PeerServerAddresses
}

// exchanging starts an isthmus that is to dial a Consul and one that is to be dialled by it. All three have a service, which
// the Consul exports to both and both to the Consul.
func exchanging(l *lab.Lab, consul *side) (dialer, acceptor *side) {
	dialer, acceptor = isthmusSide(l, "alpha"), isthmusSide(l, "gamma")
	for _, s := range []*side{consul, dialer, acceptor} {
		s.announce()
	}
	consul.export(dialer.name, acceptor.name)
	dialer.export(consul.name)
	acceptor.export(consul.name)
	return dialer, acceptor
}
