package main

import (
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds"
)

// allRight is a cluster in which nothing is wrong.
func allRight(now time.Time) facts {
	heartbeat, leaf := now.Add(-10*time.Second), now.Add(60*time.Hour)
	seen := facts{now: now}
	seen.status = api.Status{
		DefaultPolicy: "deny",
		Peers:         []api.PeerStatus{{Name: "east", State: snapshot.Active, LastHeartbeat: &heartbeat}},
		Exports:       []api.ExportStatus{{Service: "db", Peer: "east", Exported: true, Sidecars: 1, Healthy: 1, Admits: true}},
		Imports:       []api.ImportStatus{{Service: "api", Peer: "east", Routable: true, Gateways: 1, Dialled: 1, Healthy: 1, Callers: []string{"web"}}},
		Proxies:       api.ProxySummary{LeafNotAfter: &leaf, LeafOf: "db-sidecar-proxy"},
	}
	seen.proxies = []api.Proxy{
		{ID: "mesh-gateway", Kind: config.KindMeshGateway, Connected: true, Synced: true},
		{ID: "db-sidecar-proxy", Kind: config.KindSidecar, Connected: true, Synced: true},
	}
	seen.roots.Roots = append(seen.roots.Roots, struct {
		ID, Name, RootCert  string
		NotBefore, NotAfter time.Time
		Active              bool
	}{Name: "CA 1", NotAfter: now.AddDate(9, 0, 0)})
	return seen
}

func TestLeafNotAfter(t *testing.T) {
	if got := apiProxy(xds.ProxyStatus{LeafVersion: "0a1b.1793534400"}).LeafNotAfter; got == nil || moment(*got) != "2026-11-01T12:00:00Z" {
		t.Errorf("the certificate ends at %v", got)
	}
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	if got := apiProxy(xds.ProxyStatus{Connected: at, Address: "10.0.0.1:4000", LastAck: at}); got.Address != "10.0.0.1:4000" || got.LastAck == nil || !got.LastAck.Equal(at) {
		t.Errorf("shown as %+v: want the address and the last ACK", got)
	}
	for envoy, late := range map[string]bool{"1.37.0": true, "1.38.3": true, "1.39.0": false, "1.40.0": false, "of unknown version": false} {
		got := apiProxy(xds.ProxyStatus{Connected: at, View: true, Envoy: envoy, DrainSeconds: 8}).Warnings
		if (len(got) == 1 && strings.Contains(got[0], "after 8 s")) != late {
			t.Errorf("Envoy %s: warnings %v", envoy, got)
		}
	}
	if got := apiProxy(xds.ProxyStatus{}).LeafNotAfter; got != nil {
		t.Errorf("no certificate ends at %v", got)
	}
}

func TestCheckLook(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	early := now.Add(-time.Hour)
	checkLook(t, now, []lookCase{
		{"all right", func(*facts) {}, ""},
		{"not ready", func(f *facts) { *f = facts{notReady: "starting"} }, "× server is ready: starting"},
		{"open", func(f *facts) { f.status.HTTPOpen = true }, "! writes need a token: whoever is on this machine may write"},
		{"default allow", func(f *facts) { f.status.DefaultPolicy = "allow" }, "! calls need an intention: the default policy is allow"},
		{"root soon", func(f *facts) { f.roots.Roots[0].NotAfter = now.AddDate(0, 0, 30) }, "! root CA 1 is valid: it ends at 2026-12-01T12:00:00Z"},
		{"root over", func(f *facts) { f.roots.Roots[0].NotAfter = now }, "× root CA 1 is valid: it ended at 2026-11-01T12:00:00Z"},
		{"leaf soon", func(f *facts) { *f.status.Proxies.LeafNotAfter = now.Add(23 * time.Hour) },
			"× certificates are renewed: that of db-sidecar-proxy ends at 2026-11-02T11:00:00Z"},
		{"pending", func(f *facts) { f.status.Peers[0].State = snapshot.Pending },
			"! peer east is ACTIVE: nobody has used its token yet\n! db is exported to east: peer east is PENDING"},
		{"failing", func(f *facts) { f.status.Peers[0].State, f.status.Peers[0].Reason = snapshot.Failing, "dial: refused" },
			"× peer east is ACTIVE: FAILING: dial: refused"},
		{"problem", func(f *facts) { f.status.Peers[0].Problem = "it claims our trust domain" }, "× peer east is ACTIVE: it claims our trust domain"},
		{"stale", func(f *facts) { f.status.Peers[0].Stale = true }, "! peer east is ACTIVE: imports are from an earlier session"},
		{"silent", func(f *facts) { f.status.Peers[0].LastHeartbeat = &early }, "! peer east is ACTIVE: its last heartbeat came at 2026-11-01T11:00:00Z"},
		{"no gateway", func(f *facts) { f.proxies = f.proxies[1:] }, "× exports have a mesh gateway: none is registered: peers have no way in"},
		{"no gateway listens", func(f *facts) {
			f.proxies[0].NotListening = `address "foo": want an IP address`
		},
			"× exports have a mesh gateway: mesh-gateway has nowhere to listen: address \"foo\": want an IP address: peers have no way in\n" +
				"× proxy mesh-gateway follows: it has nowhere to listen: address \"foo\": want an IP address"},
		{"no gateway is connected", func(f *facts) { f.proxies[0].Connected = false },
			"× exports have a mesh gateway: mesh-gateway is not connected: peers have no way in\n× proxy mesh-gateway follows: it is not connected"},
		{"no gateway, no exports", func(f *facts) { f.proxies, f.status.Exports = f.proxies[1:], nil }, ""},
		{"not exported", func(f *facts) {
			f.status.Exports[0] = api.ExportStatus{Service: "db", Peer: "east", Reason: "no such service"}
		},
			"× db is exported to east: no such service"},
		{"not exported, who knows why", func(f *facts) { f.status.Exports[0].Exported = false }, "× db is exported to east: the server does not say why"},
		{"not connected", func(f *facts) { f.proxies[1].Connected = false }, "× proxy db-sidecar-proxy follows: it is not connected"},
		{"behind", func(f *facts) { f.proxies[1].Synced = false }, "× proxy db-sidecar-proxy follows: it has not acknowledged all that it was sent"},
		{"refused", func(f *facts) { f.proxies[1].Rejected = []api.Rejected{{Name: "in-mesh", Error: "bad address"}} },
			"× proxy db-sidecar-proxy follows: it refused in-mesh: bad address"},
		{"no drain", func(f *facts) { f.proxies[0].Warnings = []string{drainUnknown} }, "! proxy mesh-gateway follows: " + drainUnknown},
		{"not asked for", func(f *facts) {
			f.proxies[1].Skipped = []api.SkippedStatus{{Kind: "service", Name: "db", Reason: "no intention", Expected: true}}
		}, ""},
		{"no egress", func(f *facts) {
			f.proxies[0].Skipped = []api.SkippedStatus{{Kind: "proxy", Name: "mesh-gateway", Reason: "mode local: the gateway has no tagged address egress", Fix: "an egress address"}}
		}, "! proxy mesh-gateway follows: without proxy/mesh-gateway: mode local: the gateway has no tagged address egress"},
	})
}

// A lookCase changes facts in which all is right.
type lookCase struct {
	name   string
	change func(*facts)
	want   string // the lines that are not right, as printed
}

func checkLook(t *testing.T, now time.Time, cases []lookCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			seen := allRight(now)
			c.change(&seen)
			for _, found := range look(seen) {
				if found.Verdict != snapshot.Passed && found.Fix == "" {
					t.Errorf("%s: %s: nothing says what to do", found.Check, found.Detail)
				}
			}
			if got := notRight(look(seen)); got != c.want {
				t.Errorf("found\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// notRight returns the lines that `check` prints of what is not right, without hints.
func notRight(found findings) string {
	var text strings.Builder
	found.print(&text)
	var lines []string
	for line := range strings.Lines(text.String()) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "×") || strings.HasPrefix(line, "!") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}
