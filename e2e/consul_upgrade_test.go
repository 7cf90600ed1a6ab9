package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// TestConsulUpgrade: a peer that goes from Consul 1.13.9 to 1.15.3 with its state stays a peer, whoever dials. Its new
// dialect is noticed, both import in it what the other exports, and bytes go through Envoys that the new version serves itself.
func TestConsulUpgrade(t *testing.T) {
	for _, dials := range []string{"isthmus", "consul"} {
		t.Run(dials+" dials", func(t *testing.T) {
			l := lab.New(t)
			isthmus, consul := isthmusSide(l, "alpha", "--allow-plaintext-peers"), consulSide(l, "beta", lab.Consul113)
			for _, pair := range [][2]*side{{isthmus, consul}, {consul, isthmus}} {
				pair[0].mesh(pair[1].name, "remote")
				pair[0].export(pair[1].name)
				pair[0].intend(pair[1], "allow")
			}
			acceptor, dialer := consul, isthmus
			if dials == "consul" {
				acceptor, dialer = isthmus, consul
			}
			peerSides(acceptor, dialer)
			bothCall(isthmus, consul)

			upgraded(isthmus, consul)
			took := timed(l)
			isthmus.export()
			consul.export()
			l.Eventually(consul.name+" imports nothing", not(consul.imports(isthmus), "it has instances"))
			l.Eventually(isthmus.name+" imports nothing", not(isthmus.imports(consul), "it has instances"))
			if dials == "isthmus" {
				peerSides(acceptor, dialer) // with a token of the new version, for its TLS port
			}
			isthmus.process().Kill()
			isthmus.Start()
			active(isthmus, consul)
			if isthmus.status(consul).Plaintext {
				t.Error("the peer is dialled without TLS")
			}
			isthmus.export(consul.name)
			consul.export(isthmus.name)
			bothCall(isthmus, consul)
			took("restarted")
		})
	}
}

// upgraded upgrades a Consul, whose entry about what it exports names nobody to the new version until it is written again:
// open connections to that end, others stay. Then its Envoys are replaced by such as the new version serves itself.
func upgraded(isthmus, consul *side) {
	l := isthmus.Lab
	l.T.Helper()
	took := timed(l)
	called, calling := isthmus.hold(), consul.hold()
	consul.consul.Upgrade(lab.Consul115)
	took("server replaced")
	active(isthmus, consul)
	l.Eventually(isthmus.name+" knows the new dialect", func() error {
		if dialect := isthmus.status(consul).Dialect; dialect != consul.speaks() {
			return fmt.Errorf("it says %s", dialect)
		}
		return nil
	})
	l.Eventually(isthmus.name+" imports nothing", not(isthmus.imports(consul), "it has instances"))
	l.Eventually("the connection to what is not exported any more has ended", called.Ended)
	consul.export(isthmus.name)
	bothImport(isthmus, consul)
	if err := calling.Open(); err != nil {
		l.T.Errorf("the connection to what is exported all the time: %v", err)
	}
	took("both import")

	consul.gateway.Stop()
	consul.sidecar.Stop()
	l.Eventually("the connection through Envoys that were stopped has ended", calling.Ended)
	consul.controlPlane = consul.consul // which no test follows for an Envoy any more
	consul.gateway, consul.sidecar = consul.Gateway(), consul.Sidecar(consul.name)
	took("new Envoys")
	bothCall(isthmus, consul)
	stayOpen(l.T, time.Second, isthmus.hold(), consul.hold())
	took("bytes through new Envoys")
}

// bothImport waits until each side has the other's service.
func bothImport(a, b *side) {
	a.T.Helper()
	a.Eventually(a.name+" imports from "+b.name, a.imports(b))
	a.Eventually(b.name+" imports from "+a.name, b.imports(a))
}
