package api

import "net/http"

// A refusal is a feature of Consul's that there is not here, and what to do instead.
type refusal struct{ feature, hint string }

// refused are the paths of features that there are not, by the pattern of a mux. Most exact wins.
var refused = map[string]refusal{
	"/v1/kv":                          {"the key/value store", "keep configuration in config entries, and data elsewhere"},
	"/v1/kv/":                         {"the key/value store", "keep configuration in config entries, and data elsewhere"},
	"/v1/txn":                         {"transactions of the key/value store", "config apply writes entries all or none"},
	"/v1/session/":                    {"sessions and locks", ""},
	"/v1/query":                       {"prepared queries", "ask /v1/health/service/NAME, with peer= for a peer's"},
	"/v1/query/":                      {"prepared queries", "ask /v1/health/service/NAME, with peer= for a peer's"},
	"/v1/acl/":                        {"ACL policies, roles, auth methods and tokens of Consul", "make tokens with isthmus token create, or POST /isthmus/v1/tokens"},
	"/v1/agent/token/":                {"agent ACL tokens", "make tokens with isthmus token create"},
	"/v1/internal/acl/":               {"ACL policies", "ask /isthmus/v1/whoami"},
	"/v1/event/":                      {"user events, which travel by gossip", ""},
	"/v1/agent/members":               {"gossip membership", "there is one server; /v1/catalog/nodes lists registered nodes, /isthmus/v1/proxies the proxies"},
	"/v1/agent/join/":                 {"gossip", "clusters are connected by peering: isthmus peering establish"},
	"/v1/agent/leave":                 {"gossip", "stop the server by SIGTERM"},
	"/v1/agent/force-leave/":          {"gossip", "take a node away with /v1/catalog/deregister"},
	"/v1/agent/reload":                {"reloading by the API", "send the server SIGHUP"},
	"/v1/agent/monitor":               {"streaming logs", "read the server's own log"},
	"/v1/agent/metrics/stream":        {"streaming metrics", "scrape /metrics"},
	"/v1/agent/host":                  {"facts about the host", ""},
	"/v1/coordinate/":                 {"network coordinates, which travel by gossip", ""},
	"/v1/operator/":                   {"raft, autopilot, keyring and licences: there is one server and no gossip", "see /isthmus/v1/status"},
	"/v1/connect/ca/configuration":    {"CA providers: the CA is built in", "see isthmus ca"},
	"/v1/discovery-chain/":            {"dynamic routing", "a service is dialled by its name and peer; see /isthmus/v1/status"},
	"/v1/catalog/gateway-services/":   {"ingress and terminating gateways", "mesh gateways serve what exported-services names: see /v1/exported-services"},
	"/v1/health/ingress/":             {"ingress gateways", "mesh gateways are listed under /v1/health/service/NAME"},
	"/v1/internal/ui/":                {"Consul's user interface", "see isthmus status"},
	"/v1/internal/federation-state/":  {"WAN federation", "clusters are connected by peering"},
	"/v1/internal/federation-states":  {"WAN federation", "clusters are connected by peering"},
	"/v1/internal/federation-states/": {"WAN federation", "clusters are connected by peering"},
	"/v1/internal/service-virtual-ip": {"virtual IPs and transparent proxies", "name upstreams in the sidecar's registration"},
	"/v1/imported-services":           {"that list", "see /v1/peering/NAME or /v1/catalog/services?peer=NAME"},
	"/v1/namespace":                   {"namespaces", ""},
	"/v1/namespace/":                  {"namespaces", ""},
	"/v1/namespaces":                  {"namespaces", ""},
	"/v1/partition":                   {"admin partitions", "run one isthmus for each, and peer them"},
	"/v1/partition/":                  {"admin partitions", "run one isthmus for each, and peer them"},
	"/v1/partitions":                  {"admin partitions", "run one isthmus for each, and peer them"},
	"/ui/":                            {"Consul's user interface", "see isthmus status"},
	"/debug/pprof/":                   {"profiling by the API", ""},
}

// named are the paths that want a name after them, and of what.
var named = map[string]string{
	"/v1/catalog/service/": "service", "/v1/catalog/connect/": "service", "/v1/catalog/node/": "node", "/v1/catalog/node-services/": "node",
	"/v1/health/service/": "service", "/v1/health/connect/": "service", "/v1/health/checks/": "service", "/v1/health/node/": "node",
}

// refusals returns a route for each feature that there is not, and those for paths that are nobody's: a typo and a
// missing feature never look alike.
func refusals() []route {
	var routes []route
	for pattern, r := range refused {
		routes = append(routes, route{method: anyMethod, pattern: pattern, access: everybody, do: func(c *call) (any, error) {
			return nil, refuse(http.StatusNotImplemented, "not-supported", "not supported: %s (%s)", r.feature, c.URL.Path).hint(r.hint)
		}})
	}
	unknown := func(text string) func(*call) (any, error) {
		return func(*call) (any, error) { return nil, refuse(http.StatusNotFound, "path", "%s", text) }
	}
	return append(routes,
		route{method: anyMethod, pattern: "/v1/", access: everybody, do: func(c *call) (any, error) {
			if what := named[c.URL.Path]; what != "" {
				return nil, refuse(http.StatusBadRequest, "path", "Missing %s name: want it after %s", what, c.URL.Path)
			}
			return unknown("Invalid URL path: not a recognized HTTP API endpoint of Consul's; GET / lists where what is")(c)
		}},
		route{method: anyMethod, pattern: "/isthmus/v1/", access: everybody, do: unknown("Invalid URL path: not a recognized endpoint of isthmus")},
		route{method: anyMethod, pattern: "/", access: everybody, do: unknown(
			"Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/' or '/isthmus/v1/'")},
	)
}
