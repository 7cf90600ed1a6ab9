package xds

import (
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// admitting is the sidecar's set when its peer's secret admits these names.
func admitting(names ...string) *envoy.Set {
	return sidecar("web", func(set *envoy.Set) { set.Secrets[0] = authz("authz~east", names...) })
}

// drain makes the client keep a secret when no chain asks it any more, as Envoy does while connections drain.
func (c *client) drain(k kind, name string) {
	c.extra[k] = map[string]bool{name: true}
}

func (c *client) expectChains(listener, want string) {
	c.t.Helper()
	if got := c.chainsOf(listener); got != want {
		c.t.Errorf("chains of %s: %s, want %s", listener, got, want)
	}
}

// Who gains a right needs no drain; who loses one is out at once, and then its connections are.
func TestGrantAndRevoke(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, admitting("a", "b"))
		c.expectChains("in", "peer~east=0")
		s.SetProxy(admitting("a", "b", "c"))
		c.expect("SDS +authz~east")
		c.expectChains("in", "peer~east=0")
		s.SetProxy(admitting("a", "c"))
		c.expect("SDS +authz~east", "LDS +in")
		c.expectChains("in", "peer~east=1")
		s.SetProxy(admitting("c"))
		c.expect("SDS +authz~east", "LDS +in")
		c.expectChains("in", "peer~east=2")
	})
}

// Only the chain that asks the secret gets another epoch.
func TestRevokeOnePeer(t *testing.T) {
	two := func(west ...string) *envoy.Set {
		return sidecar("web", func(set *envoy.Set) {
			set.Secrets = []*envoy.Resource{authz("authz~east", "a"), authz("authz~west", west...)}
			set.Listeners[0] = listener("in", "1", chain("peer~east", "1", "authz~east"), chain("peer~west", "1", "authz~west"))
		})
	}
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, two("x", "y"))
		s.SetProxy(two("x"))
		c.expect("SDS +authz~west", "LDS +in")
		c.expectChains("in", "peer~east=0 peer~west=1")
	})
}

// Several changes that arrive before the proxy answers: it is what the proxy was told that counts.
func TestShrinkWhileOnItsWay(t *testing.T) {
	for _, test := range []struct {
		name   string
		states [][]string
		want   string
	}{
		{"granted, and taken back while on its way", [][]string{{"a", "b", "c"}, {"a", "b"}}, "peer~east=1"},
		{"shrunk twice", [][]string{{"a"}, {"d"}}, "peer~east=1"},                           // one drain does for both
		{"shrunk, then grown to what it was", [][]string{{"a"}, {"a", "b"}}, "peer~east=0"}, // b was out for a moment
		{"granted twice", [][]string{{"a", "b", "c"}, {"a", "b", "c", "d"}}, "peer~east=0"},
		{"shrunk and back before it was told", [][]string{{"a", "b", "c"}, {"a"}, {"a", "b", "c"}}, "peer~east=1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, Config{}, func(t *testing.T, s *Server) {
				c := connected(t, s, admitting("a", "b"))
				c.mute = muteKind(secrets)
				for _, names := range test.states {
					s.SetProxy(admitting(names...))
					c.settle()
				}
				c.unmute()
				c.settle()
				c.expectChains("in", test.want)
				last := "admits " + strings.Join(test.states[len(test.states)-1], " ")
				if got := string(c.body["SDS authz~east"]); got != last {
					t.Errorf("secret: %q, want %q", got, last)
				}
			})
		})
	}
}

// A proxy that does not acknowledge that fewer may come in loses the chain, and gets it back when it does.
func TestUnacknowledgedRevocationFailsClosed(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, admitting("a", "b"))
		c.drain(secrets, "authz~east")
		c.mute = muteKind(secrets)
		s.SetProxy(admitting("a"))
		c.expect("SDS +authz~east")
		wait(patience - time.Millisecond)
		c.expect("")
		wait(time.Millisecond)
		c.expect("LDS +in")
		c.expectChains("in", "")
		if got := s.Proxies()[0].LeftOut; len(got) != 1 || got[0] != "authz~east" {
			t.Errorf("left out: %q, want authz~east", got)
		}
		c.unmute()
		c.expect("LDS +in")
		c.expectChains("in", "peer~east=1")
		if got := s.Proxies()[0].LeftOut; len(got) != 0 {
			t.Errorf("left out: %q, want none", got)
		}
	})
}

// A secret that is rejected is a revocation that is not carried out.
func TestRejectedRevocationFailsClosed(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, admitting("a", "b"))
		c.drain(secrets, "authz~east")
		c.reject = func(k kind, name string, body []byte) string {
			if name == "authz~east" && string(body) == "admits a" {
				return "bad secret"
			}
			return ""
		}
		s.SetProxy(admitting("a"))
		c.expect("SDS +authz~east", "LDS +in")
		c.expectChains("in", "")
		wait(trialPause)
		c.expect("SDS +authz~east")
		wait(firstRetry / 2)
		c.expect("")
		s.SetProxy(admitting("a", "c"))
		c.expect("SDS +authz~east", "LDS +in")
		c.expectChains("in", "peer~east=1")
	})
}

// A grant that is rejected leaves the chain as it is.
func TestRejectedGrant(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, admitting("a"))
		c.reject = func(_ kind, name string, _ []byte) string { return map[string]string{"authz~east": "bad"}[name] }
		s.SetProxy(admitting("a", "b"))
		c.expect("SDS +authz~east")
		c.expectChains("in", "peer~east=0")
		// Nobody can tell whether it admits b now, so that going back to a counts as a revocation.
		c.reject = nil
		s.SetProxy(admitting("a"))
		c.expect("SDS +authz~east", "LDS +in")
		c.expectChains("in", "peer~east=1")
	})
}

// The second fence is part of the revocation.
func TestRevocationWaitsForTwin(t *testing.T) {
	fenced := func(names ...string) *envoy.Set {
		return sidecar("web", func(set *envoy.Set) {
			set.Secrets[0] = authz("authz~east", names...)
			set.Extensions = []*envoy.Resource{res(extensions, "rbac~east", strings.Join(names, " "))}
			set.Listeners[0] = listener("in", "1", chain("peer~east", "1", "authz~east", "rbac~east"))
		})
	}
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, fenced("a", "b"))
		s.SetProxy(fenced("a"))
		c.expect("SDS +authz~east", "ECDS +rbac~east", "LDS +in")
		c.drain(secrets, "authz~east")
		c.drain(extensions, "rbac~east")
		c.mute = muteKind(extensions)
		s.SetProxy(fenced())
		c.expect("SDS +authz~east", "ECDS +rbac~east")
		wait(patience)
		c.expect("LDS +in")
		c.expectChains("in", "")
	})
}

// A peer that may not call at all any more loses its chain before the secret goes.
func TestChainGoesBeforeItsSecret(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, admitting("a"))
		c.ask(secrets, "authz~east")
		c.settle()
		none := func(set *envoy.Set) {
			set.Secrets = set.Secrets[1:]
			set.Listeners[0] = listener("in", "1")
		}
		c.log = nil
		s.SetProxy(sidecar("web", none))
		c.expect("LDS +in", "SDS -authz~east")
		s.SetProxy(admitting("a"))
		c.expect("SDS +authz~east", "LDS +in")
		// Even if only the secret is gone: a chain must not outlive what decides who may come in by it.
		s.SetProxy(sidecar("web", func(set *envoy.Set) { set.Secrets = set.Secrets[1:] }))
		c.expect("LDS +in", "SDS -authz~east")
		c.expectChains("in", "")
	})
}

// When the proxy has let the secret go, nobody is admitted by the old one: the chain comes back and asks for the new one.
func TestLeftOutUntilDrained(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, admitting("a", "b"))
		c.drain(secrets, "authz~east")
		c.mute = func(_ kind, r *discoveryv3.DeltaDiscoveryResponse) bool {
			return len(c.muted) == 0 && r.TypeUrl == typeURLs[secrets]
		}
		s.SetProxy(admitting("a"))
		c.expect("SDS +authz~east")
		wait(patience)
		c.expect("LDS +in")
		delete(c.extra, secrets)
		c.follow()
		c.expect("LDS +in")
		c.expectChains("in", "peer~east=1")
		c.unmute()
		c.expect("SDS +authz~east")
		if got := string(c.body["SDS authz~east"]); got != "admits a" {
			t.Errorf("secret: %q, want that of a alone", got)
		}
	})
}
