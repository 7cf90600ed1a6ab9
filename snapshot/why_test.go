package snapshot

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/config"
)

// verdicts returns the steps in short: "peer pass, import fail".
func verdicts(x Explanation) string {
	var list []string
	for _, step := range x.Steps {
		list = append(list, step.Check+" "+string(step.Verdict))
	}
	return strings.Join(list, ", ")
}

func failure(x Explanation) Step {
	for _, step := range x.Steps {
		if step.Verdict == Failed {
			return step
		}
	}
	return Step{}
}

func TestWhy(t *testing.T) {
	dial := config.Upstream{DestinationName: "billing", DestinationPeer: "east", LocalBindPort: 9000, MeshGateway: config.MeshGateway{Mode: config.ModeLocal}}
	for _, test := range []struct {
		name            string
		change          []Event
		source, dest    string
		peer            string
		verdicts        string
		reason, wantFix string
	}{
		{"a peer's service", nil, "web", "billing", "east",
			"upstream pass, peer pass, import pass, endpoints pass, intention unknown", "", ""},
		{"in mode local", []Event{sidecarOf("web", "web-1", dial), sidecarOf("web", "web-2", dial)}, "web", "billing", "east",
			"upstream pass, peer pass, import pass, endpoints pass, gateway pass, endpoints pass, intention unknown", "", ""},
		{"no upstream", nil, "db", "billing", "east",
			"upstream fail, peer pass, import pass, endpoints pass, intention unknown",
			"no sidecar of db has billing of peer east as an upstream", `destination_name = "billing", destination_peer = "east"`},
		{"no sidecar", nil, "job", "billing", "east",
			"sidecar fail, upstream fail, peer pass, import pass, endpoints pass, intention unknown", "job has no sidecar", "sidecar_service"},
		{"not imported", []Event{{Key: NewKey(TableImports, "east", "billing")}}, "web", "billing", "east",
			"upstream pass, peer pass, import fail, endpoints fail, intention unknown", "not imported", "exported-services"},
		{"no such peer", nil, "web", "billing", "nobody",
			"upstream fail, peer fail, import fail, endpoints fail, intention unknown", "", ""},
		{"a refused address", []Event{imported("east", "billing", "10.2.0.1", "127.0.0.1")}, "web", "billing", "east",
			"upstream pass, peer pass, import pass, endpoints warn, intention unknown", "", ""},
		{"a local service", []Event{sidecarOf("web", "web-1", config.Upstream{DestinationName: "db", LocalBindPort: 9000})}, "web", "db", "",
			"upstream pass, endpoints pass, intention pass, chain pass", "", ""},
		{"denied", []Event{entry(intentions("db", allow("*", ""), deny("web", "")))}, "web", "db", "",
			"upstream fail, endpoints pass, intention fail, chain pass", "", ""},
	} {
		f := mesh()
		f.apply(false, test.change...)
		x := Why(f.world, nil, test.source, test.dest, test.peer)
		if got := verdicts(x); got != test.verdicts || x.Allowed == strings.Contains(got, "fail") {
			t.Errorf("%s: allowed %v, %s, want %s", test.name, x.Allowed, got, test.verdicts)
		}
		if first := failure(x); !strings.Contains(first.Reason, test.reason) || !strings.Contains(first.Fix, test.wantFix) {
			t.Errorf("%s: %+v, want %q and %q", test.name, first, test.reason, test.wantFix)
		}
	}
}

func TestWhyFrom(t *testing.T) {
	const fine = "peer pass, export pass, gateway pass, endpoints pass, intention pass, chain pass"
	for _, test := range []struct {
		name               string
		change             []Event
		peer, source, dest string
		verdicts           string
		fix                string
	}{
		{"allowed", nil, "east", "job", "db", fine, ""},
		{"no intention", nil, "east", "web", "db", strings.Replace(fine, "intention pass", "intention fail", 1),
			`service-intentions db: sources = [{ name = "web", peer = "east", action = "allow" }]`},
		{"nobody may", []Event{entry(intentions("db"))}, "east", "job", "db",
			"peer pass, export pass, gateway pass, endpoints pass, intention fail, chain fail", "service-intentions db"},
		{"not exported", nil, "west", "job", "web",
			"peer pass, export fail, gateway pass, endpoints pass, intention fail, chain fail",
			`exported-services default: services = [{ name = "web", consumers = [{ peer = "west" }] }]`},
		{"another protocol", []Event{entry(&config.ServiceDefaults{Name: "db", Protocol: "http"})}, "east", "job", "db",
			"peer pass, export fail, gateway pass, endpoints pass, intention pass, chain fail", `service-defaults db: protocol = "tcp"`},
		{"no gateway", []Event{{Key: gatewayNamed("gw-1").Key}, {Key: gatewayNamed("gw-2").Key}}, "east", "job", "db",
			"peer pass, export pass, gateway fail, endpoints pass, intention pass, chain pass", "envoy-bootstrap --gateway=mesh"},
		{"critical", []Event{check("db-1", config.HealthCritical), check("db-2", config.HealthCritical)}, "east", "job", "db",
			"peer pass, export pass, gateway pass, endpoints fail, intention pass, chain pass", "service db: mend what its check reports: check c of db-1 is critical"},
	} {
		f := mesh()
		f.apply(false, test.change...)
		x := WhyFrom(f.world, nil, test.peer, test.source, test.dest)
		if got := verdicts(x); got != test.verdicts || x.Allowed == strings.Contains(got, "fail") {
			t.Errorf("%s: allowed %v, %s, want %s", test.name, x.Allowed, got, test.verdicts)
		}
		if first := failure(x); !strings.Contains(first.Fix, test.fix) {
			t.Errorf("%s: %+v, want a fix with %q", test.name, first, test.fix)
		}
	}
}

// What the views serve and what is explained come from the same functions: a call is explained as allowed exactly when the
// sidecar's admission takes the caller.
func TestWhyAgreesWithViews(t *testing.T) {
	f := mesh()
	for _, peer := range []string{"east", "west"} {
		for _, source := range []string{"job", "web", "other"} {
			for _, dest := range []string{"db", "web"} {
				served := false
				for _, a := range f.sidecar(ProxyID(dest + "-1")).Authz {
					served = served || a.Peer == peer && admitted(a.Allowed, source)
				}
				if x := WhyFrom(f.world, nil, peer, source, dest); x.Allowed != served {
					t.Errorf("%s of %s to %s: explained %v, served %v", source, peer, dest, x.Allowed, served)
				}
			}
		}
	}
}
