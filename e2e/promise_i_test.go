package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// refusal is something of L7, or of another edition, that is met in the wild. Its text is JSON over several lines; line is
// where the refused field stands, and says what must be read in the answer, in this order.
type refusal struct {
	name, text string
	line       int
	says       []string
}

const dynamic = "dynamic routing is not supported"

var refusedEntries = []refusal{
	{"service-router", `{"Kind": "service-router", "Name": "db"}`, 1, []string{"service-router", dynamic}},
	{"service-splitter", `{"Kind": "service-splitter", "Name": "db"}`, 1, []string{"service-splitter", dynamic}},
	{"service-resolver", `{"Kind": "service-resolver", "Name": "db"}`, 1, []string{"service-resolver", dynamic}},
	{"ingress-gateway", `{"Kind": "ingress-gateway", "Name": "gw"}`, 1, []string{"ingress-gateway"}},
	{"terminating-gateway", `{"Kind": "terminating-gateway", "Name": "gw"}`, 1, []string{"terminating-gateway"}},
	{"api-gateway", `{"Kind": "api-gateway", "Name": "gw"}`, 1, []string{"api-gateway"}},
	{"http-route", `{"Kind": "http-route", "Name": "r"}`, 1, []string{"http-route"}},
	{"tcp-route", `{"Kind": "tcp-route", "Name": "r"}`, 1, []string{"tcp-route"}},
	{"L7 permissions", "{\"Kind\": \"service-intentions\", \"Name\": \"db\", \"Sources\": [\n {\"Name\": \"web\",\n \"Permissions\": [{\"Action\": \"allow\", \"HTTP\": {\"PathPrefix\": \"/\"}}]}]}",
		3, []string{"service-intentions", "db", "Permissions"}},
	{"JWT", "{\"Kind\": \"service-intentions\", \"Name\": \"db\",\n \"JWT\": {\"Providers\": [{\"Name\": \"okta\"}]},\n \"Sources\": [{\"Name\": \"web\", \"Action\": \"allow\"}]}",
		2, []string{"service-intentions", "db", "JWT"}},
	{"wildcard peer", "{\"Kind\": \"service-intentions\", \"Name\": \"db\", \"Sources\": [\n {\"Name\": \"web\", \"Action\": \"allow\",\n \"Peer\": \"*\"}]}",
		3, []string{"service-intentions", "db", "Peer"}},
	{"namespace", "{\"Kind\": \"service-defaults\", \"Name\": \"db\",\n \"Namespace\": \"team\"}", 2, []string{"service-defaults", "db", "Namespace"}},
	{"partition", "{\"Kind\": \"service-defaults\", \"Name\": \"db\",\n \"Partition\": \"team\"}", 2, []string{"service-defaults", "db", "Partition"}},
	{"permissive mTLS", "{\"Kind\": \"service-defaults\", \"Name\": \"db\",\n \"MutualTLSMode\": \"permissive\"}", 2, []string{"service-defaults", "db", "MutualTLSMode"}},
	{"Envoy extensions", "{\"Kind\": \"service-defaults\", \"Name\": \"db\",\n \"EnvoyExtensions\": [{\"Name\": \"builtin/lua\"}]}", 2, []string{"EnvoyExtensions"}},
	{"escape hatch", "{\"Kind\": \"proxy-defaults\", \"Name\": \"global\", \"Config\": {\n \"envoy_public_listener_json\": \"{}\"}}", 2, []string{"envoy_public_listener_json"}},
	{"peering through gateways", "{\"Kind\": \"mesh\",\n \"Peering\": {\"PeerThroughMeshGateways\": true}}", 2, []string{"PeerThroughMeshGateways"}},
	{"gateway mode none", "{\"Kind\": \"proxy-defaults\", \"Name\": \"global\",\n \"MeshGateway\": {\"Mode\": \"none\"}}", 2, []string{"proxy-defaults", "Mode"}},
	{"export to every peer", "{\"Kind\": \"exported-services\", \"Name\": \"default\", \"Services\": [{\"Name\": \"db\", \"Consumers\": [\n {\"Peer\": \"*\"}]}]}", 2, []string{"exported-services", "Peer"}},
	{"unknown field", "{\"Kind\": \"service-defaults\", \"Name\": \"db\",\n \"Protocoll\": \"tcp\"}", 2, []string{"service-defaults", "db", "Protocoll"}},
}

var refusedServices = []refusal{
	{"upstream to a prepared query", "{\"service\": {\"name\": \"web\", \"connect\": {\"sidecar_service\": {\"proxy\": {\"upstreams\": [\n {\"destination_type\": \"prepared_query\", \"destination_name\": \"q\", \"local_bind_port\": 1}]}}}}}",
		2, []string{"web", "DestinationType"}},
	{"upstream to another datacenter", "{\"service\": {\"name\": \"web\", \"connect\": {\"sidecar_service\": {\"proxy\": {\"upstreams\": [{\"destination_name\": \"db\", \"local_bind_port\": 1,\n \"datacenter\": \"dc2\"}]}}}}}",
		2, []string{"web", "datacenter"}},
	{"gateway mode none for a peer's service", "{\"service\": {\"name\": \"web\", \"connect\": {\"sidecar_service\": {\"proxy\": {\"upstreams\": [{\"destination_name\": \"db\", \"destination_peer\": \"east\", \"local_bind_port\": 1,\n \"mesh_gateway\": {\"mode\": \"none\"}}]}}}}}",
		2, []string{"web", "mode"}},
	{"transparent proxy", "{\"service\": {\"name\": \"web\", \"connect\": {\"sidecar_service\": {\"proxy\": {\n \"mode\": \"transparent\"}}}}}", 2, []string{"web", "mode"}},
	{"a name with a dot", "{\"service\": {\n \"name\": \"web.east\"}}", 2, []string{"name", "web.east"}},
	{"a script check", "{\"service\": {\"name\": \"web\", \"check\": {\n \"args\": [\"/bin/true\"], \"interval\": \"10s\"}}}", 2, []string{"web", "args"}},
}

// TestPromiseIRefusedAloud: everything that is not supported is refused by file, CLI and API, with where it stands and what
// was wanted, and nothing of it is kept.
func TestPromiseIRefusedAloud(t *testing.T) {
	c := lab.New(t).Cluster("alpha")
	for _, r := range refusedEntries {
		t.Run(r.name, func(t *testing.T) {
			file := c.Lab.Write("entry.json", r.text)
			r.check(t, "config validate", file, c.Try("config", "validate", file))
			r.check(t, "config write", file, c.Try("config", "write", file))
			status, answer, err := c.Request(http.MethodPut, "/v1/config", r.text)
			if err != nil {
				t.Fatal(err)
			}
			if status != http.StatusBadRequest {
				t.Errorf("API: status %d: want 400", status)
			}
			r.reads(t, "API", answer)
		})
	}
	for _, r := range refusedServices {
		t.Run(r.name, func(t *testing.T) {
			file := c.Lab.Write("service.json", r.text)
			r.check(t, "services register", file, c.Try("services", "register", file))
		})
	}
	// Half good is not half applied: the good entry of a refused file is not written either.
	mixed := c.Lab.Write("mixed.json", `[{"Kind": "service-defaults", "Name": "good"}, {"Kind": "service-router", "Name": "bad"}]`)
	if r := c.Try("config", "write", mixed); r.Code != 1 {
		t.Errorf("mixed file: exit %d: want 1", r.Code)
	}
	for _, kind := range []string{"service-defaults", "service-intentions", "exported-services", "proxy-defaults", "mesh"} {
		if kept := c.CLI("config", "list", "--kind", kind); kept != "" {
			t.Errorf("after nothing but refusals there is a %s: %s", kind, kept)
		}
	}
	var services map[string]any
	if err := c.JSON("/v1/agent/services", &services); err != nil || len(services) != 0 {
		t.Errorf("after nothing but refusals there are services: %v %v", services, err)
	}
}

// TestPromiseIRefusedPaths: Consul's paths that are not ours say which feature is not here, never a bare 404.
func TestPromiseIRefusedPaths(t *testing.T) {
	c := lab.New(t).Cluster("alpha")
	for path, feature := range map[string]string{
		"PUT /v1/kv/key": "key/value", "GET /v1/kv/key": "key/value", "PUT /v1/session/create": "session", "GET /v1/query": "prepared quer",
		"PUT /v1/acl/token": "ACL", "PUT /v1/event/fire/x": "event", "GET /v1/coordinate/nodes": "gossip", "PUT /v1/agent/join/x": "gossip",
	} {
		method, path, _ := strings.Cut(path, " ")
		status, answer, err := c.Request(method, path, "{}")
		if err != nil {
			t.Fatal(err)
		}
		if status < 400 || status == http.StatusNotFound || !strings.Contains(strings.ToLower(answer), strings.ToLower(feature)) {
			t.Errorf("%s %s: %d %q: want a refusal that names %q", method, path, status, answer, feature)
		}
	}
}

func (r refusal) check(t *testing.T, by, file string, got lab.Result) {
	t.Helper()
	if got.Code != 1 {
		t.Errorf("%s: exit %d: want 1", by, got.Code)
	}
	r.reads(t, by, got.Stderr)
	if at := fmt.Sprintf("%s:%d", file, r.line); !strings.Contains(got.Stderr, at) {
		t.Errorf("%s: %q: want it to name %s", by, got.Stderr, at)
	}
}

func (r refusal) reads(t *testing.T, by, answer string) {
	t.Helper()
	rest := strings.ToLower(answer)
	for _, say := range r.says {
		_, after, ok := strings.Cut(rest, strings.ToLower(say))
		if !ok {
			t.Errorf("%s: %q: want it to say %q", by, answer, r.says)
			return
		}
		rest = after
	}
}
