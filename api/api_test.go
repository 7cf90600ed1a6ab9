package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

const webRegistration = `{
  "ID": "web1", "Name": "web", "Port": 8080, "Tags": ["v1"], "Meta": {"team": "a"},
  "Check": {"TTL": "30s", "Status": "passing"},
  "Connect": {"SidecarService": {"Proxy": {"Upstreams": [
    {"DestinationName": "db", "DestinationPeer": "east", "LocalBindPort": 5432}]}}}}`

// importDB is what peer east exports.
func importDB(l *lab, health string) {
	service := &config.Service{ID: "db1", Name: "db", Port: 5432, Tags: []string{"primary"}}
	gateway := &config.Service{
		Kind: config.KindSidecar, ID: "db-sidecar-proxy-instance-0", Name: "db-sidecar-proxy", Address: "10.0.0.1", Port: 8443,
		Proxy: &config.Proxy{DestinationServiceName: "db"},
	}
	l.commit(snapshot.Event{Key: snapshot.NewKey(snapshot.TableImports, "east", "db"), Object: &snapshot.Import{
		Peer: "east", Service: "db", ServerName: "db.default.default.c1.external.east.consul",
		SpiffeIDs: []string{"spiffe://east.consul/ns/default/dc/dc9/svc/db"},
		Instances: []snapshot.ImportedInstance{{Node: "n9", NodeAddress: "10.9.9.9", Datacenter: "dc9", Service: service, Health: health, HasCheck: true}},
		Gateways: []snapshot.ImportedInstance{{
			Node: "gw", NodeAddress: "10.0.0.1", Service: gateway, Health: "passing", HasCheck: true,
			SNI: []string{"db.default.default.c1.external.east.consul"}, SpiffeIDs: []string{"spiffe://east.consul/ns/default/dc/dc9/svc/db"}, Protocol: "tcp",
		}},
	}})
}

// A step is one request, its status, and what the answer holds. A text with ! in front must not be there.
type step struct {
	method, path, body string
	status             int
	holds              []string
}

// run asks each step of one server, in order.
func (l *lab) run(steps []step) {
	l.t.Helper()
	for _, s := range steps {
		check(l.t, l.ask(s.method, s.path, s.body), s.method+" "+s.path, s.status, s.holds)
	}
}

var consulSteps = []step{
	{"PUT", "/v1/agent/service/register", webRegistration, 200, nil},
	{"GET", "/v1/agent/services", "", 200, []string{`"web1":{`, `"web1-sidecar-proxy":{"Kind":"connect-proxy"`, `"Port":21000`, `"DestinationPeer":"east"`, `"DestinationType":"service"`, `"Datacenter":"dc1"`}},
	{"GET", "/v1/agent/service/web1", "", 200, []string{`"ContentHash":"`, `"Tags":["v1"]`, `"Meta":{"team":"a"}`, `"Weights":{"Passing":1,"Warning":1}`}},
	{"GET", "/v1/agent/service/nope", "", 404, []string{"unknown service ID: nope"}},
	{"GET", "/v1/agent/checks", "", 200, []string{`"service:web1":{`, `"Type":"ttl"`, `"service:web1-sidecar-proxy":{`, `"Type":"alias"`, "Connect Sidecar Aliasing web1"}},
	{"GET", "/v1/agent/self", "", 200, []string{`"Datacenter":"dc1"`, `"NodeName":"node1"`, `"Version":"0.1.0"`, `"Ports":{"Plaintext":-1,"TLS":8502}`}},
	{"GET", "/v1/health/service/web?passing", "", 200, []string{`"Node":"node1"`, `"Status":"passing"`, `"ServiceTags":["v1"]`}},
	{"PUT", "/v1/agent/check/fail/service:web1?note=down", "", 200, nil},
	{"GET", "/v1/health/service/web?passing=true", "", 200, []string{"[]"}},
	{"GET", "/v1/health/service/web?passing=maybe", "", 400, []string{"Invalid value for ?passing"}},
	{"GET", "/v1/agent/health/service/id/web1?format=text", "", 503, []string{"critical"}},
	{"PUT", "/v1/agent/check/update/service:web1", `{"Status":"warning","Output":"slow"}`, 200, nil},
	{"GET", "/v1/agent/health/service/name/web", "", 429, []string{`"AggregatedStatus":"warning"`, `"Output":"slow"`}},
	{"GET", "/v1/agent/health/service/name/nope", "", 404, []string{"[]"}},
	{"PUT", "/v1/agent/check/update/service:web1", `{"Status":"fine"}`, 400, []string{"Invalid check status: 'fine'"}},
	{"PUT", "/v1/agent/check/pass/service:web1-sidecar-proxy", "", 400, []string{"does not have associated TTL"}},
	{"PUT", "/v1/agent/check/pass/nope", "", 404, []string{"Unknown check ID"}},
	{"PUT", "/v1/agent/check/register", `{"Name":"disk","TTL":"10s","ServiceID":"web1"}`, 200, nil},
	{"GET", "/v1/health/checks/web?filter=Status%20==%20critical", "", 200, []string{`"CheckID":"disk"`, `!"Output":"slow"`}},
	{"PUT", "/v1/agent/check/register", `{"Name":"x","TTL":"10s","ServiceID":"nope"}`, 404, []string{"does not exist"}},
	{"PUT", "/v1/agent/check/deregister/disk", "", 200, nil},
	{"GET", "/v1/health/node/node1", "", 200, []string{"service:web1", `!"disk"`}},
	{"GET", "/v1/health/state/warning", "", 200, []string{"service:web1"}},
	{"GET", "/v1/health/state/odd", "", 400, []string{`want one of any`}},
	{"PUT", "/v1/agent/service/maintenance/web1?enable=true&reason=move", "", 200, nil},
	{"GET", "/v1/agent/health/service/id/web1", "", 503, []string{`"AggregatedStatus":"maintenance"`, `"Notes":"move"`}},
	{"PUT", "/v1/agent/service/maintenance/web1?enable=false", "", 200, nil},
	{"PUT", "/v1/agent/service/maintenance/web1", "", 400, []string{"Missing value for enable"}},
	{"PUT", "/v1/agent/maintenance?enable=true", "", 200, nil},
	{"GET", "/v1/health/service/web", "", 200, []string{"_node_maintenance"}},
	{"PUT", "/v1/agent/maintenance?enable=false", "", 200, nil},
	{"GET", "/v1/catalog/services", "", 200, []string{`"web":["v1"]`, `"web-sidecar-proxy":["v1"]`}},
	{"PUT", "/v1/agent/service/register", `{"Name":"plain"}`, 200, nil},
	{"GET", "/v1/catalog/services", "", 200, []string{`"plain":[]`}},
	{"PUT", "/v1/agent/service/deregister/plain", "", 200, nil},
	{"PUT", "/v1/agent/check/register", `{"TTL":"10s"}`, 400, []string{"Name"}},
	{"GET", "/v1/catalog/services?filter=ServiceKind%20==%20%22connect-proxy%22", "", 200, []string{`"web-sidecar-proxy"`, `!"web":`}},
	{"GET", "/v1/catalog/service/web?tag=V1", "", 200, []string{`"ServiceName":"web"`, `"ServicePort":8080`, `"Node":"node1"`}},
	{"GET", "/v1/catalog/service/web?tag=v2", "", 200, []string{"[]"}},
	{"GET", "/v1/catalog/connect/web", "", 200, []string{`"ServiceID":"web1-sidecar-proxy"`}},
	{"GET", "/v1/catalog/nodes", "", 200, []string{`"Node":"node1"`}},
	{"GET", "/v1/catalog/node/node1", "", 200, []string{`"Services":{"web1":{`}},
	{"GET", "/v1/catalog/node/none", "", 200, []string{"null"}},
	{"GET", "/v1/catalog/node-services/node1", "", 200, []string{`"Services":[{`}},
	{"GET", "/v1/catalog/node-services/none", "", 200, []string{`"Node":null`}},
	{"GET", "/v1/catalog/datacenters", "", 200, []string{`["dc1"]`}},
	{"GET", "/v1/health/connect/web", "", 200, []string{`"Kind":"connect-proxy"`, `"DestinationServiceName":"web"`}},
	{"GET", "/v1/health/service/db?peer=east", "", 200, []string{`"PeerName":"east"`, `"CheckID":"db1:overall-check"`, `"Node":"n9"`}},
	{"GET", "/v1/health/service/db?peer=east&passing", "", 200, []string{"[]"}},
	{"GET", "/v1/health/connect/db?peer=EAST", "", 200, []string{`"SNI":["db.default.default.c1.external.east.consul"]`, `"Protocol":"tcp"`}},
	{"GET", "/v1/health/service/db-sidecar-proxy?peer=east", "", 200, []string{`"Service":"db-sidecar-proxy"`}},
	{"GET", "/v1/health/service/db?peer=west", "", 200, []string{"[]"}},
	{"GET", "/v1/catalog/services?peer=east", "", 200, []string{`"db":["primary"]`, `"db-sidecar-proxy":[]`}},
	{"GET", "/v1/catalog/nodes?peer=east", "", 200, []string{`"Node":"n9"`}},
	{"GET", "/v1/catalog/service/db?peer=east", "", 200, []string{`"PeerName":"east"`}},
	{"GET", "/v1/health/service/db", "", 200, []string{"[]"}},
	{"GET", "/v1/status/leader", "", 200, []string{`"127.0.0.1:8503"`}},
	{"GET", "/v1/status/peers", "", 200, []string{`["127.0.0.1:8503"]`}},
	{"GET", "/v1/connect/ca/roots", "", 200, []string{`"TrustDomain":"c1.consul"`, `"Active":true`, `"SigningKeyID":"ab:cd"`, "BEGIN CERTIFICATE"}},
	{"GET", "/v1/agent/connect/ca/roots?pem=true", "", 200, []string{"-----BEGIN CERTIFICATE-----\n"}},
	{"GET", "/v1/agent/connect/ca/leaf/web", "", 200, []string{`"ServiceURI":"spiffe://c1.consul/ns/default/dc/dc1/svc/web"`, `"PrivateKeyPEM":"KEY of`}},
	{"GET", "/v1/agent/connect/ca/leaf/Web!", "", 400, []string{"want a-z"}},
	{"GET", "/v1/acl/token/self", "", 200, []string{`"AccessorID":"op"`, `"Name":"operator"`}},
	{"GET", "/v1/snapshot", "", 200, []string{"archive"}},
	{"PUT", "/v1/snapshot", "archive", 200, nil},
	{"PUT", "/v1/agent/service/deregister/web1", "", 200, nil},
	{"GET", "/v1/agent/services", "", 200, []string{"{}"}},
	{"GET", "/v1/agent/checks", "", 200, []string{"{}"}},
	{"PUT", "/v1/agent/service/deregister/web1", "", 404, []string{`Unknown service ID "web1". Ensure that the service ID is passed, not the service name.`}},
	{"GET", "/healthz", "", 200, []string{"ok"}},
	{"GET", "/readyz", "", 200, []string{"ready"}},
	{"GET", "/", "", 200, []string{"/isthmus/v1"}},
	{"GET", "/metrics", "", 200, []string{`isthmus_api_requests_total{code="200",method="GET",path="/v1/agent/self"} 1`}},
	{"GET", "/v1/agent/metrics?format=prometheus", "", 200, []string{"isthmus_api_request_seconds"}},
	{"GET", "/v1/agent/metrics", "", 415, []string{"format=prometheus"}},
}

func TestPaths(t *testing.T) {
	l := newLab(t)
	importDB(l, "critical")
	l.run(consulSteps)
	if l.store.restored != "archive" {
		t.Errorf("restored %q: want the body", l.store.restored)
	}
}

// check compares an answer with its status and with texts that it must, or with ! in front must not, hold.
func check(t *testing.T, a answer, what string, status int, holds []string) {
	t.Helper()
	if a.status != status {
		t.Errorf("%s: status %d: want %d: %s", what, a.status, status, a.text)
	}
	for _, text := range holds {
		if unwanted, not := strings.CutPrefix(text, "!"); not {
			if strings.Contains(a.text, unwanted) {
				t.Errorf("%s: holds %s: %s", what, unwanted, a.text)
			}
		} else if !strings.Contains(a.text, text) {
			t.Errorf("%s: want %s in %s", what, text, a.text)
		}
	}
}

func TestHeaders(t *testing.T) {
	l := newLab(t)
	a := l.must("GET", "/v1/catalog/services?pretty", "")
	for name, want := range map[string]string{
		"X-Consul-Knownleader": "true", "X-Consul-Lastcontact": "0", "X-Consul-Default-Acl-Policy": "deny",
		"Content-Type": "application/json", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: %q: want %q", name, got, want)
		}
	}
	a.index(t)
	if a.text != "{}\n" {
		t.Errorf("pretty: %q", a.text)
	}
	cluster := *l.store.publisher.World().Cluster()
	cluster.DefaultAllow = true
	l.commit(snapshot.Event{Key: snapshot.NewKey(snapshot.TableCluster, ""), Object: &cluster})
	if got := l.must("GET", "/v1/peerings", "").header.Get("X-Consul-Default-Acl-Policy"); got != "allow" {
		t.Errorf("default policy %q: want allow", got)
	}
}

// What every path refuses alike.
func TestScope(t *testing.T) {
	l := newLab(t)
	for query, want := range map[string]string{
		"dc=dc2": "No path to datacenter", "ns=team": "namespaces and partitions are not supported", "partition=p": "namespaces and partitions",
	} {
		for _, path := range []string{"/v1/catalog/services", "/v1/agent/services", "/v1/peerings", "/v1/connect/intentions", "/v1/health/state/any", "/v1/catalog/datacenters"} {
			check(t, l.ask("GET", path+"?"+query, ""), path+"?"+query, http.StatusBadRequest, []string{want})
		}
		for _, path := range []string{"/v1/config", "/v1/agent/service/register"} {
			check(t, l.ask("PUT", path+"?"+query, "{}"), path+"?"+query, http.StatusBadRequest, []string{want})
		}
	}
	l.must("GET", "/v1/catalog/services?dc=DC1&ns=default&partition=default", "")
	check(t, l.ask("GET", "/v1/catalog/services?index=x", ""), "index", http.StatusBadRequest, []string{"Invalid index"})
	check(t, l.ask("GET", "/v1/catalog/services?index=1&wait=x", ""), "wait", http.StatusBadRequest, []string{"Invalid wait time"})
	check(t, l.ask("GET", "/v1/catalog/nodes?filter=(((", ""), "filter", http.StatusBadRequest, []string{"boolean expression"})
	check(t, l.ask("GET", "/v1/catalog/nodes?filter=Nope==1", ""), "filter", http.StatusBadRequest, []string{"Invalid filter"})
	check(t, l.ask("GET", "/v1/catalog/nodes?filter="+strings.Repeat("(", 5000), ""), "filter", http.StatusBadRequest, []string{"at most"})
	for _, path := range []string{"/v1/agent/service/a%00b", "/v1/health/service/a%0ab", "/v1/catalog/service/a?peer=e%00b", "/v1/catalog/nodes?filter=%zz"} {
		check(t, l.ask("GET", path, ""), path, http.StatusBadRequest, []string{"want printable characters only"})
	}
	check(t, l.ask("PATCH", "/v1/config", ""), "method", http.StatusMethodNotAllowed, []string{"method PATCH not allowed"})
	check(t, l.ask("PUT", "/v1/config", strings.Repeat("x", maxBody+1)), "body", http.StatusRequestEntityTooLarge, []string{"at most 1048576 bytes"})
}
