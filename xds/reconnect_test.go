package xds

import (
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// replace gives the client another server, as after a restart or with another replica.
func (c *client) replace(set *envoy.Set) *Server {
	c.t.Helper()
	c.disconnect()
	c.server = newServer(Config{})
	c.server.SetEndpoints(cla("svc~db", "1"))
	c.server.SetProxy(set)
	c.log = nil
	c.connect(set.Proxy)
	return c.server
}

// A server that never saw the proxy takes over its epochs, and goes on from there.
func TestEpochsSurviveRestart(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, admitting("a", "b"))
		s.SetProxy(admitting("a"))
		c.settle()
		c.expectChains("in", "peer~east=1")
		s = c.replace(admitting("a"))
		c.expect("")
		s.SetProxy(admitting("c"))
		c.expect("SDS +authz~east", "LDS +in")
		c.expectChains("in", "peer~east=2")
		s = c.replace(admitting("c"))
		c.expect("")
		s.SetProxy(sidecar("web", func(set *envoy.Set) {
			set.Secrets[0] = authz("authz~east", "c")
			set.Listeners[0] = listener("in", "1", chain("peer~east", "2", "authz~east"))
		}))
		c.expect("LDS +in")
		c.expectChains("in", "peer~east=2")
	})
}

// What changed while nobody was there to see it may have been a revocation.
func TestUnknownPastIsARevocation(t *testing.T) {
	for name, first := range map[string]kind{"secrets first": secrets, "listeners first": listeners} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Config{}, func(t *testing.T, s *Server) {
				c := connected(t, s, admitting("a", "b"))
				c.order = []kind{first, clusters, endpoints, listeners, secrets}
				c.replace(admitting("a", "b", "c"))
				c.expect("SDS +authz~east", "LDS +in")
				c.expectChains("in", "peer~east=1")
			})
		})
	}
}

// A chain whose secret the proxy does not report admits nobody knows whom.
func TestUnreportedSecret(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, admitting("a"))
		delete(c.have[secrets], "authz~east")
		c.replace(admitting("a"))
		c.expect("SDS +authz~east", "LDS +in")
		c.expectChains("in", "peer~east=1")
	})
}

// A proxy that does not ask for its secrets at all is not waited for longer than usual, and fails closed.
func TestSecretsNeverAskedFor(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, admitting("a"))
		delete(c.names, secrets)
		c.replace(admitting("a"))
		c.expect("")
		wait(patience)
		c.expect("")
		wait(patience)
		c.settle()
		c.expectChains("in", "")
	})
}

// A revocation that a lost connection interrupted is finished on the next one, wherever it stopped.
func TestInterruptedRevocation(t *testing.T) {
	for _, k := range []kind{secrets, listeners} {
		for _, applied := range []bool{false, true} {
			inBubble(t, Config{}, func(t *testing.T, s *Server) {
				c := connected(t, s, admitting("a", "b"))
				c.mute = muteKind(k)
				s.SetProxy(admitting("a"))
				c.settle()
				if applied { // it reached the proxy, its answer did not reach us
					c.unmute()
				}
				c.muted, c.mute, c.log = nil, nil, nil
				c.disconnect()
				c.connect("web")
				c.settle()
				if got := c.chainsOf("in"); got != "peer~east=1" && got != "peer~east=2" {
					t.Errorf("interrupted at %s, applied %v: chains %s, want another epoch", short[typeURLs[k]], applied, got)
				}
				c.disconnect()
				c.log = nil
				c.connect("web")
				c.expect("")
			})
		}
	}
}

// An Envoy that was itself started again owes nothing of what its predecessor did.
func TestFreshEnvoyAfterInterruptedRevocation(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, admitting("a", "b"))
		c.mute = func(kind, *discoveryv3.DeltaDiscoveryResponse) bool { return true }
		s.SetProxy(admitting("a"))
		c.settle()
		c.disconnect()
		fresh := newClient(t, s)
		fresh.connect("web")
		fresh.settle()
		fresh.expectChains("in", "peer~east=0")
		wait(time.Minute)
		fresh.settle()
		fresh.expectChains("in", "peer~east=0")
		fresh.disconnect()
		c.mute = nil
		c.connect("web")
		c.settle()
	})
}

// What a proxy has and no view names goes, listeners first.
func TestLeftoversAreRemoved(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, sidecar("web"))
		c.replace(sidecar("web", func(set *envoy.Set) {
			set.Clusters, set.Listeners = set.Clusters[:1], set.Listeners[:1]
		}))
		c.expect("LDS -out~db", "CDS -out~db")
	})
}

func TestParseEpochs(t *testing.T) {
	for version, want := range map[string]int{
		"":                                    0,
		"9f86d081884c7d65":                    0,
		"9f86d081884c7d65.peer~east=3":        1,
		"9f86d081884c7d65.peer~a=3,peer~b=18": 2,
		"9f86d081884c7d65.peer~east=-3":       0,
		"9f86d081884c7d65.peer~east":          0,
		"another.form":                        0,
	} {
		if got := parseEpochs(version); len(got) != want {
			t.Errorf("version %q: epochs %v, want %d", version, got, want)
		}
	}
	if got := parseEpochs("9f86.peer~a=3,peer~b=18")["peer~b"]; got != 18 {
		t.Errorf("epoch %d, want 18", got)
	}
}
