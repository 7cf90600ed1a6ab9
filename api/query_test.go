package api

import (
	"net/http"
	"testing"
)

// What a path cannot honour is refused, on every path, and says what would be taken.
func TestUnknownParametersAreRefused(t *testing.T) {
	l := newLab(t)
	for _, e := range Endpoints() {
		if e.Refused != "" || e.Method == anyMethod || e.Path == "/{$}" || e.Path == "/healthz" || e.Path == "/readyz" || e.Path == "/metrics" {
			continue
		}
		check(t, l.ask(e.Method, e.Path+"?colour=red", ""), e.Method+" "+e.Path, http.StatusBadRequest, []string{`query parameter "colour" is not supported`, "it takes ", "pretty"})
	}
	for path, want := range map[string]string{
		"/v1/health/service/web?merge-central-config": "read /v1/config/service-defaults/NAME",
		"/v1/catalog/nodes?passing":                   "it takes cached, consistent, dc, filter",
		"/v1/peerings?peer=east":                      `"peer" is not supported by GET /v1/peerings`,
		"/v1/agent/services?index=5":                  `"index" is not supported`,
		"/v1/catalog/node/node1?near=_agent":          `"near" is not supported`,
		"/isthmus/v1/status?dc=dc2":                   "No path to datacenter",
		"/isthmus/v1/whoami?chalenge=x":               "it takes cached, challenge",
	} {
		check(t, l.ask("GET", path, ""), path, http.StatusBadRequest, []string{want})
	}
	for _, path := range []string{
		"/v1/health/service/web?near=_agent&stale&cached&dc=dc1&ns=default&partition=default&pretty", "/v1/catalog/nodes?consistent&index=1&wait=1ms",
		"/isthmus/v1/status?stale&dc=dc1", "/v1/agent/services?stale",
	} {
		l.must("GET", path, "")
	}
}

// Where a peer is named, its objects are filtered as ours are, and never ours answered instead.
func TestParametersOfPeers(t *testing.T) {
	l := newLab(t)
	importDB(l, "critical")
	l.must("PUT", "/v1/agent/service/register", webRegistration)
	l.run([]step{
		{"GET", "/v1/catalog/services?peer=east", "", 200, []string{`{"db":["primary"],"db-sidecar-proxy":[]}`}},
		{"GET", "/v1/catalog/services?peer=east&filter=ServiceName%20==%20db", "", 200, []string{`{"db":["primary"]}`}},
		{"GET", "/v1/catalog/services?peer=east&node-meta=zone:a", "", 200, []string{`{}`}},
		{"GET", "/v1/catalog/nodes?peer=east&node-meta=zone:a", "", 200, []string{`[]`}},
		{"GET", "/v1/health/checks/db?peer=east", "", 200, []string{`"Node":"n9"`, `"Status":"critical"`, `!"web1"`}},
		{"GET", "/v1/health/checks/web?peer=east", "", 200, []string{`[]`}},
		{"GET", "/v1/health/checks/db?peer=east&node-meta=zone:a", "", 200, []string{`[]`}},
		{"GET", "/v1/health/node/n9?peer=east", "", 200, []string{`"CheckID":"db1:overall-check"`}},
		{"GET", "/v1/health/node/node1?peer=east", "", 200, []string{`[]`}},
		{"GET", "/v1/health/state/critical?peer=east", "", 200, []string{`"Node":"n9"`, `!"node1"`}},
		{"GET", "/v1/health/state/warning?peer=east", "", 200, []string{`[]`}},
		{"GET", "/v1/health/state/any?peer=nobody", "", 200, []string{`[]`}},
		{"GET", "/v1/health/state/any?node-meta=zone:a", "", 200, []string{`[]`}},
		{"GET", "/v1/health/state/any", "", 200, []string{`"node1"`, `!"n9"`}},
	})
}
