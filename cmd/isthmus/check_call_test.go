package main

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// It is green only where a call can work: what is exported must be answered, and what is dialled must be reached.
func TestCheckCalls(t *testing.T) {
	checkLook(t, time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), []lookCase{
		{"nobody answers", func(f *facts) { f.status.Exports[0].Down = "0 of 1 sidecars of db are healthy" },
			"× db is exported to east: 0 of 1 sidecars of db are healthy"},
		{"exported to a peer that has not come", func(f *facts) {
			f.status.Peers[0].State, f.status.Exports[0].Admits = snapshot.Pending, false
		}, "! peer east is ACTIVE: nobody has used its token yet\n! db is exported to east: peer east is PENDING"},
		{"nobody may call", func(f *facts) { f.status.Exports[0].Admits, f.status.Exports[0].Fix = false, "an intention" }, "! east may call db: no intention lets anybody of east in"},
		{"everybody may", func(f *facts) { f.status.AllowAll = []string{"local", "east"} },
			"! calls need an intention: service-intentions *: everybody of local, east may call every service"},
		{"not routable", func(f *facts) { f.status.Imports[0].Routable, f.status.Imports[0].Reason = false, "protocol http" },
			"× api of peer east is routable: protocol http; web cannot call it"},
		{"not routable, and nobody dials it", func(f *facts) {
			f.status.Imports[0] = api.ImportStatus{Service: "api", Peer: "east", Reason: "no mesh gateway"}
		}, "! api of peer east is routable: no mesh gateway"},
		{"left out by our own policy", func(f *facts) {
			f.status.Imports[0] = api.ImportStatus{Service: "api", Peer: "east", Reason: "not accepted", Expected: true}
		}, ""},
		{"left out by our own policy, and dialled", func(f *facts) {
			f.status.Imports[0].Routable, f.status.Imports[0].Reason, f.status.Imports[0].Expected = false, "not accepted", true
		}, "× api of peer east is routable: not accepted; web cannot call it"},
		{"no way there", func(f *facts) { f.status.Imports[0].Down = "peer east has named no gateway" },
			"× api of peer east is routable: peer east has named no gateway; web cannot call it"},
		{"a gateway is refused", func(f *facts) {
			f.status.Imports[0].Refused = []string{"gateway address 127.0.0.1:1: is loopback"}
			f.status.Imports = append(f.status.Imports, f.status.Imports[0])
		}, "! all gateways of peer east are dialled: gateway address 127.0.0.1:1: is loopback"},
		{"not imported", func(f *facts) {
			f.proxies[1].Service = "web"
			f.proxies[1].Skipped = []api.SkippedStatus{{Kind: "service", Name: "mail", Peer: "east", Reason: "upstream: not imported", Fix: "an export"}}
		}, "× web can call mail of peer east: not imported"},
		{"said once", func(f *facts) {
			f.status.Imports[0].Routable, f.status.Imports[0].Reason = false, "protocol http"
			f.status.Exports[0].Exported, f.status.Exports[0].Reason = false, "no such peer"
			f.proxies[1].Skipped = []api.SkippedStatus{
				{Kind: "service", Name: "api", Peer: "east", Reason: "upstream: not routable: protocol http"},
				{Kind: "exported-services", Name: "default", Peer: "east", Reason: "export db to east: no such peer"},
			}
		}, "× db is exported to east: no such peer\n× api of peer east is routable: protocol http; web cannot call it"},
	})
}
