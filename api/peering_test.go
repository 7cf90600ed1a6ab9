package api

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

var peeringSteps = []step{
	{"GET", "/v1/peerings", "", 200, []string{"[]"}},
	{"POST", "/v1/peering/token", `{"PeerName":"east","Meta":{"env":"prod"}}`, 200, []string{`{"PeeringToken":"token-for-east"}`}},
	{"POST", "/v1/peering/token", `{"Peer":"north"}`, 200, []string{"token-for-north"}}, // the usage page's spelling
	{"POST", "/v1/peering/token", `{}`, 400, []string{"PeerName"}},
	{"POST", "/v1/peering/token", `{"PeerName":"Bad_Name"}`, 400, []string{"Bad_Name"}},
	{"POST", "/v1/peering/token", `{"PeerName":"east","Color":"red"}`, 400, []string{"Color"}},
	{"POST", "/v1/peering/token", `nonsense`, 400, nil},
	{"PUT", "/v1/peering/token", `{"PeerName":"east"}`, 405, []string{"method PUT not allowed"}},
	{"GET", "/v1/peering/east", "", 200, []string{
		`"ID":"id-east"`, `"State":"FAILING"`, `"Meta":{"env":"prod"}`, `"ImportedServices":["db"]`, `"LastReceive":"1970-01-01T00:01:40Z"`,
		`"PeerCAPems":["PEM"]`, `"LastSend":null`, `!"DeletedAt"`,
	}},
	{"GET", "/v1/peering/EAST", "", 200, []string{`"Name":"east"`}},
	{"GET", "/v1/peering/West", "", 404, []string{`Peering not found for "West"`}},
	{"POST", "/v1/peering/establish", `{"PeerName":"west","PeeringToken":"tok"}`, 200, []string{"{}"}},
	{"POST", "/v1/peering/establish", `{"PeerName":"south"}`, 400, []string{"PeeringToken"}},
	{"POST", "/v1/peering/establish", `{"PeerName":"south","PeeringToken":"used"}`, 403, []string{"a new peering token must be generated", `!PeeringToken":"used`}},
	{"GET", "/v1/peerings", "", 200, []string{`"Name":"east"`, `"Name":"north"`, `"Name":"west"`}},
	{"DELETE", "/v1/peering/west", "", 200, nil},
	{"DELETE", "/v1/peering/west", "", 200, nil}, // as Consul: also for none
	{"GET", "/v1/peering/west", "", 404, nil},
	{"GET", "/isthmus/v1/peering/tokens", "", 200, []string{`"id":"t1"`, `"peer":"east"`, `"state":"expired"`}},
	{"DELETE", "/isthmus/v1/peering/tokens/t1", "", 200, nil},
	{"DELETE", "/isthmus/v1/peering/tokens/t2", "", 500, []string{"no such token"}},
}

// failing is what the lab's peering service knows right now.
func failing(string) snapshot.PeerStatus {
	return snapshot.PeerStatus{
		State: snapshot.Failing, Reason: "no round trip for 40s", LastReceive: time.Unix(100, 0).UTC(), Imported: []string{"db"},
		NotExported: map[string]string{"slow": "too many instances"}, RoundTrip: 3 * time.Millisecond,
	}
}

func TestPeering(t *testing.T) {
	newLab(t, func(c *Config) { c.Runtime.PeerStatus = failing }).run(peeringSteps)
}

func TestTokenStates(t *testing.T) {
	at := time.Unix(150, 0)
	info := snapshot.TokenInfo{Created: time.Unix(100, 0), Expires: time.Unix(200, 0)}
	for want, change := range map[string]func(*snapshot.TokenInfo){
		"unused": func(*snapshot.TokenInfo) {}, "used": func(i *snapshot.TokenInfo) { i.Used = at },
		"revoked": func(i *snapshot.TokenInfo) { i.Revoked = at }, "replaced": func(i *snapshot.TokenInfo) { i.Replaced = at },
		"expired": func(i *snapshot.TokenInfo) { i.Expires = at },
	} {
		changed := info
		change(&changed)
		if got := tokenState(changed, at); got != want {
			t.Errorf("state %q: want %q", got, want)
		}
	}
}

// Status joins what the World, the peering service, the proxies and the views know.
func TestStatus(t *testing.T) {
	leaf := time.Unix(5000, 0).UTC()
	l := newLab(t, func(c *Config) {
		c.Server.HTTPOpen = true
		c.Runtime = Runtime{
			PeerStatus: failing,
			Proxies: func() []Proxy {
				return []Proxy{
					{ID: "web1-sidecar-proxy", Connected: true, Envoy: "1.40.0", LeafNotAfter: &leaf, Rejected: []Rejected{{Name: "inbound", Error: "bad chain"}}},
					{ID: "ghost", Connected: true},
				}
			},
			Skipped: func() map[snapshot.ProxyID][]snapshot.Skipped {
				return map[snapshot.ProxyID][]snapshot.Skipped{"web1-sidecar-proxy": {{Origin: snapshot.Origin{Kind: "service", Name: "db", Peer: "east"}, Reason: "not imported"}}}
			},
			Problems: func() []string { return []string{"disk is slow"} },
		}
	})
	importDB(l, "passing")
	l.must("POST", "/v1/peering/token", `{"PeerName":"east"}`)
	l.must("PUT", "/v1/agent/service/register", webRegistration)
	l.must("PUT", "/v1/config", `{"Kind":"exported-services","Name":"default","Services":[
		{"Name":"db","Consumers":[{"Peer":"east"}]},{"Name":"slow","Consumers":[{"Peer":"east"},{"Peer":"nobody"}]},{"Name":"web","Consumers":[{"Peer":"east"}]}]}`)
	l.must("PUT", "/v1/config", `{"Kind":"service-defaults","Name":"web","Protocol":"http"}`)
	check(t, l.must("GET", "/isthmus/v1/status", ""), "status", 200, []string{
		`"version":"0.1.0"`, `"source":"embedded"`, `"cluster_id":"c1"`, `"trust_domain":"c1.consul"`, `"http_open":true`, `"ready":true`,
		`"default_intention_policy":"deny"`, `"state":"FAILING","reason":"no round trip for 40s"`, `"round_trip_ms":3`,
		`{"service":"db","peer":"east","exported":true,"sidecars":0,"healthy":0,"down":"db is not registered"`,
		`{"service":"slow","peer":"east","exported":false,"reason":"too many instances"`,
		`{"service":"slow","peer":"nobody","exported":false,"reason":"no such peer"`, `"reason":"protocol http: only tcp is exported"`,
		`{"peer":"east","service":"db","routable":true,"gateways":1,"dialled":1,"healthy":1,"callers":["web"]}`, `"proxy":"web1-sidecar-proxy","kind":"service","name":"db","peer":"east","reason":"not imported"`,
		`"registered":1,"connected":2,"rejecting":1,"earliest_leaf_expiry":"1970-01-01T01:23:20Z","earliest_leaf_of":"web1-sidecar-proxy"`,
		`"disk is slow"`, `--http-open`, `peer east is FAILING: no round trip for 40s`, `proxy web1-sidecar-proxy refused inbound: bad chain`,
	})
	check(t, l.must("GET", "/isthmus/v1/proxies", ""), "proxies", 200, []string{
		`{"id":"ghost","connected":true`, `{"id":"web1-sidecar-proxy","kind":"connect-proxy","service":"web","node":"node1","connected":true`, `"skipped":[{`,
	})
	check(t, l.must("GET", "/isthmus/v1/bootstrap-info", ""), "bootstrap-info", 200, []string{
		`"xds_address":"127.0.0.1:8502"`, `"xds_server_name":"xds.c1"`, `"xds_ca_pem":"-----BEGIN`, `"trust_domain":"c1.consul"`,
	})
}

func TestExports(t *testing.T) {
	l := newLab(t)
	l.must("POST", "/v1/peering/token", `{"PeerName":"east"}`)
	l.must("PUT", "/v1/agent/service/register", webRegistration)
	l.must("PUT", "/v1/config", `{"Kind":"exported-services","Name":"default","Services":[{"Name":"*","Consumers":[{"Peer":"east"}]}]}`)
	importDB(l, "passing")
	l.run([]step{
		{"GET", "/v1/exported-services", "", 200, []string{`[{"Service":"web","Consumers":{"Peers":["east"]}}]`}},
		{"GET", "/v1/internal/ui/exported-services?peer=east", "", 200, []string{`"Name":"web"`, `"ConnectedWithProxy":true`, `"ChecksPassing":1`}},
		{"GET", "/v1/internal/ui/exported-services", "", 400, []string{"required query parameter 'peer' not set"}},
		{"GET", "/v1/internal/ui/services", "", 200, []string{`"Name":"web"`, `"Name":"db","Datacenter":""`, `"PeerName":"east"`}},
	})
}
