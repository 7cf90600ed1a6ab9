package api

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// everywhere are the parameters of the query string that every path under /v1 and /isthmus/v1 takes: see
// parameterMeanings. waits are those of the paths that can wait for a change.
var (
	everywhere = []string{"cached", "consistent", "dc", "ns", "partition", "pretty", "stale"}
	waits      = []string{"index", "wait"}
)

// parameters are those that single paths take besides. One that a path does not take is refused, and never ignored: who
// asked to filter must not get everything.
var parameters = map[string][]string{
	"GET /isthmus/v1/audit":                   {"before", "limit"},
	"PUT /isthmus/v1/config":                  {"cas", "dry-run"},
	"GET /isthmus/v1/config":                  {"filter"},
	"GET /isthmus/v1/config/{kind}":           {"filter"},
	"PUT /isthmus/v1/config/{kind}":           {"cas", "dry-run"},
	"DELETE /isthmus/v1/config/{kind}/{name}": {"cas"},
	"GET /isthmus/v1/whoami":                  {"challenge"},
	"GET /isthmus/v1/why":                     {"destination", "peer", "source", "source-peer"},

	"GET /v1/agent/checks":                     {"filter"},
	"PUT /v1/agent/check/fail/{id}":            {"note"},
	"PUT /v1/agent/check/pass/{id}":            {"note"},
	"PUT /v1/agent/check/warn/{id}":            {"note"},
	"GET /v1/agent/connect/ca/leaf/{name}":     waits,
	"GET /v1/agent/connect/ca/roots":           {"pem"},
	"GET /v1/agent/health/service/id/{id}":     {"format"},
	"GET /v1/agent/health/service/name/{name}": {"format"},
	"PUT /v1/agent/maintenance":                {"enable", "reason"},
	"GET /v1/agent/metrics":                    {"format"},
	"PUT /v1/agent/service/maintenance/{id}":   {"enable", "reason"},
	"PUT /v1/agent/service/register":           {"replace-existing-checks"},
	"GET /v1/agent/service/{id}":               {"hash", "wait"},
	"GET /v1/agent/services":                   {"filter"},
	"GET /v1/catalog/connect/{name}":           {"filter", "near", "node-meta", "peer", "tag"},
	"GET /v1/catalog/node/{name}":              {"filter"},
	"GET /v1/catalog/node-services/{name}":     {"filter"},
	"GET /v1/catalog/nodes":                    {"filter", "near", "node-meta", "peer"},
	"GET /v1/catalog/service/{name}":           {"filter", "near", "node-meta", "peer", "tag"},
	"GET /v1/catalog/services":                 {"filter", "node-meta", "peer"},
	"PUT /v1/config":                           {"cas"},
	"GET /v1/config/{kind}":                    {"filter"},
	"DELETE /v1/config/{kind}/{name}":          {"cas"},
	"GET /v1/connect/ca/roots":                 {"pem"},
	"GET /v1/connect/intentions":               {"filter"},
	"GET /v1/connect/intentions/check":         {"destination", "source", "source-type"},
	"GET /v1/connect/intentions/exact":         {"destination", "source"},
	"PUT /v1/connect/intentions/exact":         {"destination", "source"},
	"DELETE /v1/connect/intentions/exact":      {"destination", "source"},
	"GET /v1/connect/intentions/match":         {"by", "name"},
	"GET /v1/health/checks/{name}":             {"filter", "near", "node-meta", "peer"},
	"GET /v1/health/connect/{name}":            {"filter", "near", "node-meta", "passing", "peer", "tag"},
	"GET /v1/health/node/{name}":               {"filter", "peer"},
	"GET /v1/health/service/{name}":            {"filter", "near", "node-meta", "passing", "peer", "tag"},
	"GET /v1/health/state/{state}":             {"filter", "near", "node-meta", "peer"},
	"GET /v1/internal/ui/exported-services":    {"peer"},
	"GET /v1/internal/ui/services":             {"filter"},
}

// parameterMeanings says what becomes of each, for docs/http-api.md.
var parameterMeanings = map[string]string{
	"before":                  "honoured: only records older than this number",
	"by":                      "honoured: source or destination",
	"cached":                  "no effect: nothing is cached, so that the answer is as new as without it",
	"cas":                     "honoured: only if the entry is still at this ModifyIndex; 0: if there is none",
	"challenge":               "honoured: see docs/security.md",
	"consistent":              "no effect: every answer is",
	"dc":                      "honoured: the own datacenter; any other is refused",
	"destination":             "honoured",
	"dry-run":                 "honoured: say what would change",
	"enable":                  "honoured",
	"filter":                  "honoured",
	"format":                  "honoured: text; of metrics prometheus",
	"hash":                    "honoured: wait until the answer has another",
	"index":                   "honoured: wait until the answer is newer",
	"limit":                   "honoured: at most so many records, 100 unless told, 10,000 at most",
	"name":                    "honoured, several times",
	"near":                    "no effect: there are no coordinates, so that the order stays that of names",
	"node-meta":               "honoured, several times",
	"note":                    "honoured",
	"ns":                      "honoured: default; any other is refused",
	"partition":               "honoured: default; any other is refused",
	"passing":                 "honoured",
	"peer":                    "honoured: what that peer exports",
	"pem":                     "honoured",
	"pretty":                  "honoured",
	"reason":                  "honoured",
	"replace-existing-checks": "honoured",
	"source":                  "honoured",
	"source-peer":             "honoured",
	"source-type":             "honoured: consul; any other is refused",
	"stale":                   "no effect: there is one server, and no answer is stale",
	"tag":                     "honoured, several times",
	"wait":                    "honoured: at most 10 minutes",
}

// refusedParameters are Consul's that no path takes, and why.
var refusedParameters = map[string]string{
	"merge-central-config": "a service is shown as it was registered; read /v1/config/service-defaults/NAME and /v1/config/proxy-defaults/global",
	"sg":                   "there are no sameness groups",
	"sameness-group":       "there are no sameness groups",
	"local-only":           "there is no gossip",
	"relay-factor":         "there is no gossip",
	"segment":              "there is no gossip",
	"keys":                 "there is no key/value store",
	"replace":              "say cas",
}

// takes returns the parameters of a route besides those of every route.
func (r route) takes() []string {
	own := slices.Clone(parameters[r.method+" "+r.pattern])
	if r.read != nil {
		own = append(own, waits...)
	}
	slices.Sort(own)
	return slices.Compact(own)
}

// checkQuery refuses a parameter that the route does not take.
func (r route) checkQuery(c *call) error {
	if r.method == anyMethod || !strings.HasPrefix(r.pattern, "/v1/") && !strings.HasPrefix(r.pattern, "/isthmus/v1/") {
		return nil
	}
	takes := append(r.takes(), everywhere...)
	for _, name := range slices.Sorted(maps.Keys(c.URL.Query())) {
		if slices.Contains(takes, name) {
			continue
		}
		p := refuse(http.StatusBadRequest, "parameter", "query parameter %q is not supported by %s %s", name, r.method, r.pattern)
		if why := refusedParameters[name]; why != "" {
			return p.hint(why)
		}
		slices.Sort(takes)
		return p.hint("it takes " + strings.Join(takes, ", "))
	}
	if c.world.Cluster() == nil {
		return nil // it does not answer yet
	}
	return scope(c)
}
