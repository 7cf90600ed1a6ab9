package e2e

import (
	"fmt"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// TestConsulUpgrade: a peer that goes from Consul 1.13.9 to 1.15.3 with its state stays a peer, whoever dials. Its new
// dialect is noticed, and both import in it what the other exports.
func TestConsulUpgrade(t *testing.T) {
	for _, dials := range []string{"isthmus", "consul"} {
		t.Run(dials+" dials", func(t *testing.T) {
			l := lab.New(t)
			isthmus, consul := isthmusSide(l, "alpha", "--allow-plaintext-peers"), consulSide(l, "beta", lab.Consul113)
			isthmus.mesh(consul.name, "remote")
			consul.mesh(isthmus.name, "remote")
			isthmus.export(consul.name)
			consul.export(isthmus.name)
			acceptor, dialer := consul, isthmus
			if dials == "consul" {
				acceptor, dialer = isthmus, consul
			}
			peerSides(acceptor, dialer)
			bothImport(isthmus, consul)
			took := timed(l)

			consul.consul.Upgrade(lab.Consul115)
			consul.export(isthmus.name) // of the old entry the new version reads no consumers
			active(isthmus, consul)
			l.Eventually(isthmus.name+" knows the new dialect", func() error {
				if dialect := isthmus.status(consul).Dialect; dialect != consul.speaks() {
					return fmt.Errorf("it says %s", dialect)
				}
				return nil
			})
			bothImport(isthmus, consul)
			took("upgraded")
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
			l.Eventually(consul.name+" imports again", consul.imports(isthmus))
			took("restarted")
		})
	}
}

// bothImport waits until each side has the other's service.
func bothImport(a, b *side) {
	a.T.Helper()
	a.Eventually(a.name+" imports from "+b.name, a.imports(b))
	a.Eventually(b.name+" imports from "+a.name, b.imports(a))
}
