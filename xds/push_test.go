package xds

import (
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// connected returns a client that has what set says, and whose log is empty.
func connected(t *testing.T, s *Server, set *envoy.Set) *client {
	t.Helper()
	s.SetEndpoints(cla("svc~db", "1"))
	s.SetProxy(set)
	c := newClient(t, s)
	c.connect(set.Proxy)
	c.settle()
	c.log = nil
	t.Cleanup(c.disconnect)
	return c
}

// muteKind leaves the responses of these kinds without an answer.
func muteKind(mute ...kind) func(kind, *discoveryv3.DeltaDiscoveryResponse) bool {
	return func(k kind, _ *discoveryv3.DeltaDiscoveryResponse) bool {
		for _, m := range mute {
			if m == k {
				return true
			}
		}
		return false
	}
}

// unmute answers what was left without an answer.
func (c *client) unmute() {
	c.mute = nil
	muted := c.muted
	c.muted = nil
	for _, r := range muted {
		c.finish(r)
	}
}

// A new proxy gets everything, in the order in which it can use it.
func TestFirstConnect(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		s.SetEndpoints(cla("svc~db", "1"))
		s.SetProxy(sidecar("web"))
		c := newClient(t, s)
		c.connect("web")
		c.expect("CDS +app +out~db", "EDS +svc~db", "LDS +in +out~db", "SDS +authz~east")
		c.disconnect()
	})
}

// Its next stream, of this server or of a new one, gets nothing of what it has and loses nothing.
func TestReconnectSendsNothing(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		s.SetEndpoints(cla("svc~db", "1"))
		s.SetProxy(sidecar("web"))
		c := newClient(t, s)
		c.connect("web")
		c.settle()
		c.disconnect()
		c.log = nil
		c.connect("web")
		c.expect("")
		c.disconnect()

		c.server = newServer(Config{})
		c.server.SetEndpoints(cla("svc~db", "1"))
		c.server.SetProxy(sidecar("web"))
		c.connect("web")
		c.expect("")
		for _, status := range c.server.Proxies()[0].Types {
			if status.Resources != 0 || status.Removed != 0 {
				t.Errorf("%s: sent %d and removed %d, want none", status.TypeURL, status.Resources, status.Removed)
			}
		}
		c.disconnect()
	})
}

// One change of everything goes out in the order of references, and comes back in the reverse order.
func TestOrder(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		base := func() *envoy.Set {
			return sidecar("web", func(set *envoy.Set) {
				set.Clusters[1] = cluster("out~db", "1|sds:bundle~east|", "svc~db")
			})
		}
		grown := func(set *envoy.Set) {
			set.Secrets = []*envoy.Resource{authz("authz~east", "a", "b", "c"), authz("authz~west", "x"),
				res(secrets, "bundle~east", "roots and one more")}
			set.Clusters = append(set.Clusters, cluster("out~x", "1", "svc~x"))
			set.Extensions = []*envoy.Resource{res(extensions, "rbac~west", "1")}
			set.Listeners[0] = listener("in", "1", chain("peer~east", "1", "authz~east"),
				chain("peer~west", "1", "authz~west", "rbac~west"))
			set.Listeners = append(set.Listeners, listener("out~x", "1"))
		}
		c := connected(t, s, base())
		s.SetEndpoints(cla("svc~x", "1"))
		set := base()
		grown(set)
		s.SetProxy(set)
		c.expect("SDS +authz~east +bundle~east", "CDS +out~x", "EDS +svc~x", "LDS +in",
			"SDS +authz~west", "ECDS +rbac~west", "LDS +out~x")

		s.SetProxy(base())
		c.expect("SDS +authz~east +bundle~east", "LDS -out~x", "LDS +in", "EDS +svc~x", "CDS -out~x")
		if got, want := c.chainsOf("in"), "peer~east=1"; got != want {
			t.Errorf("chains: %s, want %s", got, want)
		}
	})
}

// A cluster that was changed or added would warm for 15 s if its endpoints, which the proxy has already, were not sent again.
func TestEndpointsFollowTheirCluster(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, sidecar("web"))
		s.SetProxy(sidecar("web", func(set *envoy.Set) { set.Clusters[1] = cluster("out~db", "2", "svc~db") }))
		c.expect("CDS +out~db", "EDS +svc~db")
		s.SetProxy(sidecar("web", func(set *envoy.Set) {
			set.Clusters[1] = cluster("out~db", "2", "svc~db")
			set.Clusters = append(set.Clusters, cluster("out~db2", "1", "svc~db"))
		}))
		c.expect("CDS +out~db2", "EDS +svc~db")
	})
}

// Endpoints are emptied only when no cluster uses them any more, and not when a cluster moves on to others: it serves by the
// old ones until it is warm.
func TestEmptiedEndpoints(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		two := func(set *envoy.Set) { set.Clusters = append(set.Clusters, cluster("out~db2", "1", "svc~db")) }
		c := connected(t, s, sidecar("web", two))
		s.SetProxy(sidecar("web"))
		c.expect("CDS -out~db2")
		s.SetEndpoints(cla("gw~local", "1"))
		s.SetProxy(sidecar("web", func(set *envoy.Set) { set.Clusters[1] = cluster("out~db", "2", "gw~local") }))
		c.expect("CDS +out~db", "EDS +gw~local")
		s.SetProxy(sidecar("web", func(set *envoy.Set) { set.Clusters = set.Clusters[:1] }))
		c.expect("EDS +gw~local", "CDS -out~db")
		if got := string(c.body["EDS gw~local"]); got != "" {
			t.Errorf("endpoints of a cluster that is gone: %q, still subscribed", got)
		}
	})
}

// Listeners wait for the ACK of what they refer to, but not for ever.
func TestListenersWait(t *testing.T) {
	for _, k := range []kind{secrets, clusters, endpoints, extensions} {
		t.Run(short[typeURLs[k]], func(t *testing.T) {
			inBubble(t, Config{}, func(t *testing.T, s *Server) {
				base := func(content string) *envoy.Set {
					return sidecar("web", func(set *envoy.Set) {
						set.Secrets[1] = res(secrets, "bundle~east", content)
						set.Clusters[1] = cluster("out~db", content+"|sds:bundle~east|", "svc~db")
						set.Extensions = []*envoy.Resource{res(extensions, "rbac~east", content)}
						set.Listeners[0] = listener("in", "1", chain("peer~east", content, "authz~east", "rbac~east"))
					})
				}
				c := connected(t, s, base("1"))
				c.mute = muteKind(k)
				s.SetProxy(base("2"))
				c.settle()
				if got := c.log[len(c.log)-1]; got == "LDS +in" {
					t.Fatalf("listener sent before the ACK: %q", c.log)
				}
				wait(patience - time.Millisecond)
				c.log = nil
				c.expect("")
				wait(time.Millisecond)
				c.expect("LDS +in")
				c.unmute()
				c.expect("")
				c.mute = muteKind(k)
				s.SetProxy(base("3"))
				c.settle()
				wait(time.Millisecond)
				c.log = nil
				c.unmute()
				c.settle()
				if got := c.log[len(c.log)-1]; got != "LDS +in" {
					t.Errorf("after the ACK: %q, want the listener", c.log)
				}
			})
		})
	}
}

// One response of a type is on its way at a time; what changes meanwhile is sent once, in its last version.
func TestLatestWins(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, sidecar("web"))
		c.mute = muteKind(endpoints)
		for _, content := range []string{"2", "3", "4"} {
			s.SetEndpoints(cla("svc~db", content))
			synctest.Wait()
		}
		c.expect("EDS +svc~db")
		c.unmute()
		c.expect("EDS +svc~db")
		if got, want := string(c.body["EDS svc~db"]), "svc~db 4"; got != want {
			t.Errorf("endpoints: %q, want %q", got, want)
		}
		c.mute = muteKind(endpoints)
		s.SetEndpoints(cla("svc~db", "5"))
		c.settle()
		s.SetEndpoints(cla("svc~db", "6"))
		s.SetEndpoints(cla("svc~db", "5"))
		c.log = nil
		c.unmute()
		c.expect("") // back at what was sent
	})
}

// Removals wait for the listeners, with the same limit.
func TestRemovalsWait(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, sidecar("web"))
		c.mute = muteKind(listeners)
		s.SetProxy(sidecar("web", func(set *envoy.Set) {
			set.Clusters, set.Listeners = set.Clusters[:1], set.Listeners[:1]
		}))
		c.expect("LDS -out~db")
		wait(patience)
		c.expect("EDS +svc~db", "CDS -out~db")
		c.unmute()
		c.expect("")
	})
}

// A proxy that has nothing to have is told so: without an answer Envoy would not go on.
func TestEmptySetIsAnswered(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, &envoy.Set{Proxy: "gw"})
		if got := c.server.Proxies()[0].Types[clusters]; got.State != Synced || got.Acked == "" {
			t.Errorf("clusters: %+v, want an empty response acknowledged", got)
		}
		c.expect("")
	})
}
