package snapshot

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
)

// following is what is known while every Envoy of mesh follows.
func following() *Live {
	live := &Live{Proxies: map[ProxyID]LiveProxy{}, Peer: PeerStatus{State: Active}}
	for _, id := range []ProxyID{"db-1", "db-2", "web-1", "web-2", "gw-1", "gw-2"} {
		live.Proxies[id] = LiveProxy{Connected: true, Synced: true}
	}
	return live
}

func TestWhyKnowsTheEnvoys(t *testing.T) {
	gone := func(ids ...ProxyID) func(*Live) {
		return func(l *Live) {
			for _, id := range ids {
				delete(l.Proxies, id)
			}
		}
	}
	set := func(proxy LiveProxy, ids ...ProxyID) func(*Live) {
		return func(l *Live) {
			for _, id := range ids {
				l.Proxies[id] = proxy
			}
		}
	}
	refused := func(part string) LiveProxy {
		return LiveProxy{Connected: true, Refused: []Refusal{{part, "Address already in use"}}}
	}
	for _, test := range []struct {
		name    string
		change  func(*Live)
		allowed bool
		want    string // a step, or nothing that is not right
	}{
		{"all follow", gone(), true, ""},
		{"one sidecar is gone", gone("db-1"), true, "warn db-1 is not connected: its Envoy is gone, or cannot reach this server -> isthmus envoy-bootstrap --proxy-id db-1 --"},
		{"all sidecars are gone", gone("db-1", "db-2"), false, "fail db-2 is not connected: its Envoy is gone, or cannot reach this server -> isthmus envoy-bootstrap --proxy-id db-2 --"},
		{"all gateways are gone", gone("gw-1", "gw-2"), false, "fail gw-1 is not connected: its Envoy is gone, or cannot reach this server -> isthmus envoy-bootstrap --proxy-id gw-1 --"},
		{"the listener is refused", set(refused("in"), "db-1", "db-2"), false, "fail db-1 has refused in: Address already in use -> "},
		{"the chain is refused", set(refused("peer~east"), "db-1", "db-2"), false, "fail db-1 has refused peer~east: "},
		{"another chain is refused", set(LiveProxy{Connected: true, Synced: true, Refused: []Refusal{{"peer~west", "no"}}}, "db-1", "db-2"), true, ""},
		{"a gateway's chain is refused", set(refused("exp~east~db~default"), "gw-1", "gw-2"), false, "fail gw-2 has refused exp~east~db~default: "},
		{"the chain is left out", set(LiveProxy{Connected: true, Synced: true, LeftOut: []string{"authz~db~default~east"}}, "db-1", "db-2"), false,
			"fail db-1 goes without its chain, since it has not taken a revocation: authz~db~default~east -> "},
		{"not acknowledged", set(LiveProxy{Connected: true}, "db-1"), true, "warn db-1 has not acknowledged all that it was sent -> "},
	} {
		f, live := mesh(), following()
		test.change(live)
		x := WhyFrom(f.world, live, "east", "job", "db")
		if got := wrong(x); x.Allowed != test.allowed || test.want == "" && len(got) > 0 ||
			test.want != "" && !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, test.want) }) {
			t.Errorf("%s: allowed %v, %q, want %q", test.name, x.Allowed, got, test.want)
		}
	}
}

// wrong returns the steps that are not right, as "verdict reason -> fix". Each must say what to do.
func wrong(x Explanation) []string {
	var lines []string
	for _, step := range x.Steps {
		if step.Verdict == Failed || step.Verdict == Warned {
			lines = append(lines, string(step.Verdict)+" "+step.Reason+" -> "+step.Fix)
		}
	}
	return lines
}

func TestWhyKnowsTheCallersEnvoys(t *testing.T) {
	f, live := mesh(), following()
	if x := Why(f.world, live, "web", "billing", "east"); !x.Allowed || len(wrong(x)) > 0 {
		t.Errorf("all follow: %q", wrong(x))
	}
	delete(live.Proxies, "web-1")
	delete(live.Proxies, "web-2")
	if x := Why(f.world, live, "web", "billing", "east"); x.Allowed || failure(x).Check != "proxy" {
		t.Errorf("the caller's are gone: %q", wrong(x))
	}
	dial := config.Upstream{DestinationName: "billing", DestinationPeer: "east", LocalBindPort: 9000, MeshGateway: config.MeshGateway{Mode: config.ModeLocal}}
	f.apply(false, sidecarOf("web", "web-1", dial), sidecarOf("web", "web-2", dial))
	live = following()
	live.Proxies["gw-1"] = LiveProxy{Connected: true, Refused: []Refusal{{"gw-egress", "in use"}}}
	delete(live.Proxies, "gw-2")
	if x := Why(f.world, live, "web", "billing", "east"); x.Allowed || !strings.Contains(failure(x).Reason, "gw-1 has refused gw-egress") {
		t.Errorf("our gateways serve no local mode: %q", wrong(x))
	}
}

// A sidecar that only calls need not listen; one that is called must.
func TestWhyKnowsWhoListens(t *testing.T) {
	f, live := mesh(), following()
	deaf := func(event Event) Event {
		event.Object.(*Instance).Service.Proxy.LocalServicePort = 0
		return event
	}
	dial := config.Upstream{DestinationName: "billing", DestinationPeer: "east", LocalBindPort: 9000}
	f.apply(false, Event{Key: service("db").Key}, Event{Key: service("web").Key}, deaf(sidecarOf("db", "db-1")), deaf(sidecarOf("db", "db-2")),
		deaf(sidecarOf("web", "web-1", dial)), deaf(sidecarOf("web", "web-2", dial)))
	if x := Why(f.world, live, "web", "billing", "east"); !x.Allowed {
		t.Errorf("a caller: %q", wrong(x))
	}
	if x := WhyFrom(f.world, live, "east", "job", "db"); x.Allowed || !strings.Contains(failure(x).Reason, "db-2 has nowhere to listen: no LocalServicePort") {
		t.Errorf("who is called: %q", wrong(x))
	}
}

func TestWhyKnowsThePeer(t *testing.T) {
	f, live := mesh(), following()
	heard := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	live.Peer = PeerStatus{State: Failing, Reason: "dial 10.0.0.7:8503: connection refused", LastRoundTrip: heard, Stale: true}
	x := Why(f.world, live, "web", "billing", "east")
	want := "warn peer east is FAILING, heard of last at 2026-11-23T03:00:00Z: dial 10.0.0.7:8503: connection refused; " +
		"its imports are from an earlier session -> isthmus peering read --name east"
	if got := wrong(x); !x.Allowed || len(got) != 1 || got[0] != want {
		t.Errorf("%q, want %q", got, want)
	}
	f.apply(false, Event{Key: NewKey(TablePeers, "east"), Object: &Peer{Name: "east", State: Terminated}})
	if x := Why(f.world, live, "web", "billing", "east"); x.Allowed || !strings.Contains(failure(x).Fix, "isthmus peering delete --name east") {
		t.Errorf("%q", wrong(x))
	}
}

// Whatever is wrong, each step that says so names what would mend it.
func TestWhyHasAFix(t *testing.T) {
	f := mesh()
	f.apply(false, Event{Key: NewKey(TablePeers, "pending"), Object: &Peer{Name: "pending", State: Pending, Role: Acceptor}})
	for _, service := range []string{"db", "web", "nothing"} {
		for _, peer := range []string{"", "east", "west", "nobody", "pending"} {
			lines := wrong(Why(f.world, &Live{}, service, "db", peer))
			if peer != "" {
				lines = append(lines, wrong(WhyFrom(f.world, &Live{}, peer, "job", service))...)
			}
			for _, line := range lines {
				if strings.HasSuffix(line, "-> ") {
					t.Errorf("%s and %q: %s", service, peer, line)
				}
			}
		}
	}
	if got := failure(Why(f.world, nil, "web", "nothing", "")); !strings.Contains(got.Reason, "no sidecar of web") {
		t.Errorf("first %+v", got)
	}
	if all := strings.Join(wrong(Why(f.world, nil, "web", "nothing", "")), "\n"); !strings.Contains(all, "nothing is not registered -> isthmus services register") {
		t.Errorf("%s", all)
	}
}
