package xds

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// Nobody is answered before the views are complete, and only then does a proxy lose what no view has.
func TestNothingBeforeSynced(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, _ *Server) {
		synced := make(chan struct{})
		s := newServer(Config{Synced: synced})
		s.SetProxy(&envoy.Set{Proxy: "web"})
		c := newClient(t, s)
		c.have[clusters] = map[string]string{"left": "1"}
		c.have[listeners] = map[string]string{"in": "1"}
		c.connect("web")
		c.expect("")
		close(synced)
		c.expect("LDS -in", "CDS -left")
		c.disconnect()
	})
}

// A proxy without a view waits.
func TestNothingWithoutView(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := newClient(t, s)
		c.have[clusters] = map[string]string{"app": "1"}
		c.connect("web")
		c.expect("")
		if got := s.Proxies()[0]; got.View || got.Connected.IsZero() {
			t.Errorf("status %+v: want connected, without a view", got)
		}
		s.SetEndpoints(cla("svc~db", "1"))
		s.SetProxy(sidecar("web"))
		c.expect("CDS +app +out~db", "EDS +svc~db", "LDS +in +out~db", "SDS +authz~east")
		s.RemoveProxy("web")
		s.SetEndpoints(cla("svc~db", "2"))
		c.expect("")
		s.SetProxy(sidecar("web", func(set *envoy.Set) { set.Clusters[0] = cluster("app", "2", "") }))
		c.expect("CDS +app", "EDS +svc~db")
		c.disconnect()
		s.RemoveProxy("web")
		if got := s.Proxies(); len(got) != 0 {
			t.Errorf("status %+v: want none", got)
		}
	})
}

// A view that goes while a response is on its way takes nothing from the proxy, and breaks nothing.
func TestViewGoesMeanwhile(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, sidecar("web"))
		c.mute = func(kind, *discoveryv3.DeltaDiscoveryResponse) bool { return true }
		s.SetProxy(sidecar("web", func(set *envoy.Set) {
			set.Secrets[0] = authz("authz~east", "c")
			set.Clusters[0] = cluster("app", "2", "")
		}))
		c.expect("SDS +authz~east", "CDS +app")
		s.RemoveProxy("web")
		c.reject = func(kind, string, []byte) string { return "no" }
		c.unmute()
		c.expect("")
		c.reject = nil
		s.SetProxy(sidecar("web"))
		c.settle()
		c.expectChains("in", "peer~east=1")
		if got := string(c.body["CDS app"]); got != "1" {
			t.Errorf("cluster %q, want that of the view that came back", got)
		}
	})
}

// Whatever a proxy asks for, it gets what is its own; the rest does not exist for it.
func TestForeignNames(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		s.SetEndpoints(cla("svc~other", "1"))
		s.SetProxy(&envoy.Set{Proxy: "other", Clusters: []*envoy.Resource{cluster("out~other", "1", "svc~other")},
			Secrets: []*envoy.Resource{res(secrets, "bundle~other", "1")}})
		c := connected(t, s, sidecar("web"))
		c.ask(endpoints, "svc~other")
		c.ask(secrets, "bundle~other", "leaf", "*")
		c.ask(clusters, "out~other", "app")
		c.ask(listeners, "gw-ingress")
		c.ask(extensions, "nothing")
		c.expect("EDS -svc~other", "SDS -bundle~other -leaf", "CDS +app -out~other", "LDS -gw-ingress", "ECDS -nothing")
		for k, want := range map[kind]float64{endpoints: 1, secrets: 3, clusters: 1, listeners: 1, extensions: 1} {
			if got := count(s.metrics.of[k].foreign); got != want {
				t.Errorf("%s: %v foreign names counted, want %v", short[typeURLs[k]], got, want)
			}
		}
		s.SetEndpoints(cla("svc~other", "2"))
		c.expect("")
		// What becomes its own is sent as soon as it is.
		s.SetProxy(sidecar("web", func(set *envoy.Set) { set.Clusters[1] = cluster("out~db", "1", "svc~other") }))
		c.expect("CDS +out~db", "EDS +svc~other")
		c.wire.toServer <- &request{TypeUrl: "type.googleapis.com/envoy.service.runtime.v3.Runtime",
			ResourceNamesSubscribe: []string{"rtds"}}
		c.expect("")
	})
}

// Endpoints that nobody has made yet are neither served nor withdrawn.
func TestUnknownEndpointsAreHeld(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		s.SetProxy(sidecar("web"))
		c := newClient(t, s)
		c.have[endpoints] = map[string]string{"svc~db": "1"}
		c.ask0(endpoints, "svc~db")
		c.connect("web")
		c.expect("CDS +app +out~db", "LDS +in +out~db", "SDS +authz~east")
		s.SetEndpoints(cla("svc~db", "1"))
		c.expect("EDS +svc~db")
		c.disconnect()
	})
}

// Asking again is how a proxy gets again what it lost.
func TestAskedAgain(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, sidecar("web"))
		c.wire.toServer <- &request{TypeUrl: typeURLs[endpoints], ResourceNamesSubscribe: []string{"svc~db"}}
		c.expect("EDS +svc~db")
		c.wire.toServer <- &request{TypeUrl: typeURLs[listeners], ResourceNamesSubscribe: []string{"in"}}
		c.expect("LDS +in")
		c.wire.toServer <- &request{TypeUrl: typeURLs[clusters], ResourceNamesSubscribe: []string{"app"}}
		c.expect("CDS +app")
		c.wire.toServer <- &request{TypeUrl: typeURLs[clusters], ResourceNamesUnsubscribe: []string{"app"}}
		c.expect("CDS +app") // the wildcard still wants it
		c.wire.toServer <- &request{TypeUrl: typeURLs[clusters], ResourceNamesUnsubscribe: []string{"*"}}
		c.expect("")
		s.SetProxy(sidecar("web", func(set *envoy.Set) { set.Clusters[0] = cluster("app", "2", "") }))
		c.expect("")
	})
}

// An endpoint change reaches those that subscribed to it, and its cost does not follow the others.
func TestEndpointSubscribers(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		web := connected(t, s, sidecar("web"))
		api := connected(t, s, sidecar("api", func(set *envoy.Set) {
			set.Clusters[1] = cluster("out~db", "1", "svc~api")
		}))
		s.SetEndpoints(cla("svc~api", "1"))
		web.expect("")
		api.expect("EDS +svc~api")
		s.SetEndpoints(cla("svc~db", "2"))
		web.expect("EDS +svc~db")
		api.expect("")
		s.SetEndpoints(cla("svc~db", "2"))
		web.expect("")
		if got := len(s.endpoints.sets["svc~db"].streams); got != 1 {
			t.Errorf("%d streams hear of svc~db, want 1", got)
		}
		web.disconnect()
		if got := len(s.endpoints.sets["svc~db"].streams); got != 0 {
			t.Errorf("%d streams hear of svc~db after the stream ended, want none", got)
		}
		web.connect("web")
		web.settle()
	})
}

// Names that a proxy makes up leave nothing behind.
func TestTableForgets(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, sidecar("web", func(set *envoy.Set) {
			set.Clusters = append(set.Clusters, cluster("out~x", "1", "svc~x"))
		}))
		c.ask(endpoints, "svc~made-up")
		c.settle()
		if got := len(s.endpoints.sets); got != 2 {
			t.Errorf("%d names in the table, want svc~db and svc~x", got)
		}
		s.SetProxy(sidecar("web"))
		c.settle()
		if got := len(s.endpoints.sets); got != 1 {
			t.Errorf("%d names in the table, want svc~db alone", got)
		}
	})
}
