package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// statusOf returns the status of a lab.
func statusOf(t *testing.T, l *lab) Status {
	t.Helper()
	var status Status
	if err := json.Unmarshal([]byte(l.must("GET", "/isthmus/v1/status", "").text), &status); err != nil {
		t.Fatal(err)
	}
	return status
}

// An export and an import stand for calls: status says of each whether one would get there, and what would mend it.
func TestStatusOfCalls(t *testing.T) {
	l := newLab(t)
	l.must("POST", "/v1/peering/token", `{"PeerName":"east"}`)
	l.must("PUT", "/v1/agent/service/register", webRegistration)
	l.must("PUT", "/v1/config", `{"Kind":"exported-services","Name":"default","Services":[{"Name":"web","Consumers":[{"Peer":"east"}]}]}`)
	importDB(l, "critical")

	status := statusOf(t, l)
	if e := status.Exports[0]; !e.Exported || e.Sidecars != 1 || e.Healthy != 1 || e.Down != "" || e.Admits || !strings.Contains(e.Fix, "service-intentions web: ") {
		t.Errorf("nobody may call it: %+v", e)
	}
	if i := status.Imports[0]; !i.Routable || !strings.Contains(i.Down, "none of the 1 instances of db is healthy") || i.Fix == "" || len(i.Callers) != 1 {
		t.Errorf("nothing healthy there: %+v", i)
	}

	importDB(l, "passing")
	l.must("PUT", "/v1/config", `{"Kind":"service-intentions","Name":"*","Sources":[{"Name":"*","Action":"allow"},{"Name":"*","Peer":"east","Action":"allow"}]}`)
	l.must("PUT", "/isthmus/v1/config", `{"Kind":"peer-policy","Name":"east","AllowAddresses":[{"Prefix":"192.0.2.0/24"}]}`)
	status = statusOf(t, l)
	if e := status.Exports[0]; !e.Admits || e.Fix != "" {
		t.Errorf("all may call it: %+v", e)
	}
	if len(status.AllowAll) != 2 || status.AllowAll[0] != "local" || status.AllowAll[1] != "east" {
		t.Errorf("everybody may call everything: %v", status.AllowAll)
	}
	if i := status.Imports[0]; i.Gateways != 1 || i.Dialled != 0 || len(i.Refused) != 1 || i.Down == "" || !strings.Contains(i.Fix, "peer-policy east: AllowAddresses") {
		t.Errorf("its gateway is refused: %+v", i)
	}

	l.must("PUT", "/isthmus/v1/config", `{"Kind":"peer-policy","Name":"east","Accept":["other"]}`)
	if i := statusOf(t, l).Imports[0]; i.Routable || !i.Expected || !strings.Contains(i.Fix, "db in Accept") {
		t.Errorf("left out by our choice: %+v", i)
	}

	peer := *l.store.publisher.World().Peer("east")
	peer.State = snapshot.Terminated
	l.commit(snapshot.Event{Key: snapshot.NewKey(snapshot.TablePeers, "east"), Object: &peer})
	status = statusOf(t, l)
	if e := status.Exports[0]; e.Exported || e.Reason != "the peer ended the peering" || !strings.Contains(e.Fix, "isthmus peering delete --name east") {
		t.Errorf("the peer has gone: %+v", e)
	}
	if p := status.Peers[0]; !strings.Contains(p.Fix, "isthmus peering delete --name east") {
		t.Errorf("the peer has gone: %+v", p)
	}
}

// A check that fails is named with the export that it takes down.
func TestStatusNamesTheCheck(t *testing.T) {
	l := newLab(t)
	l.must("POST", "/v1/peering/token", `{"PeerName":"east"}`)
	l.must("PUT", "/v1/agent/service/register", webRegistration)
	l.must("PUT", "/v1/config", `{"Kind":"exported-services","Name":"default","Services":[{"Name":"web","Consumers":[{"Peer":"east"}]}]}`)
	web := l.store.publisher.World().Instances("web")[0]
	l.commit(snapshot.Event{Key: snapshot.NewKey(snapshot.TableChecks, web.Node, web.Service.ID, "alive"), Object: &snapshot.Check{
		Node: web.Node, ServiceID: web.Service.ID, CheckID: "alive", Status: config.HealthCritical, Output: "connection refused\n",
	}})
	want := "check alive of web1 is critical: connection refused"
	if e := statusOf(t, l).Exports[0]; !strings.Contains(e.Down, want) || !strings.Contains(e.Fix, want) {
		t.Errorf("%+v: want %q", e, want)
	}
}

// What the proxies and the peer report is part of why.
func TestWhyJoins(t *testing.T) {
	proxies := []Proxy{{ID: "web1-sidecar-proxy", Connected: true, Synced: true, Rejected: []Rejected{{Name: "in", Error: "cannot bind"}}}}
	l := newLab(t, func(c *Config) {
		c.Runtime = Runtime{PeerStatus: failing, Proxies: func() []Proxy { return proxies }}
	})
	l.must("POST", "/v1/peering/token", `{"PeerName":"east"}`)
	l.must("PUT", "/v1/agent/service/register", webRegistration)
	const ask = "/isthmus/v1/why?source=api&destination=web&source-peer=east"
	check(t, l.must("GET", ask, ""), ask, 200, []string{
		`"verdict":"warn","reason":"peer east is FAILING, not heard of since this server started: no round trip for 40s"`,
		`"check":"proxy","verdict":"fail","reason":"web1-sidecar-proxy has refused in: cannot bind"`,
	})
	proxies = nil
	check(t, l.must("GET", ask, ""), ask, 200, []string{`"reason":"web1-sidecar-proxy is not connected`, `"fix":"isthmus envoy-bootstrap --proxy-id web1-sidecar-proxy --"`})
	for _, odd := range []string{"source=*&destination=web", "source=we+b&destination=web", "source=web&destination=w.b", "source=web&destination=api&peer=A+B"} {
		check(t, l.ask("GET", "/isthmus/v1/why?"+odd, ""), odd, http.StatusBadRequest, []string{"want "})
	}
}
