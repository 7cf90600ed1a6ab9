package api

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// Each feature that there is not is named, whatever the method and whoever asks: never a bare 404.
func TestRefusedFeatures(t *testing.T) {
	l := newLab(t)
	l.token = ""
	for pattern, r := range refused {
		path := pattern
		if strings.HasSuffix(pattern, "/") {
			path += "some/thing"
		}
		for _, method := range []string{"GET", "PUT", "POST", "DELETE"} {
			check(t, l.ask(method, path, ""), method+" "+path, http.StatusNotImplemented, []string{r.feature, r.hint})
		}
	}
}

func TestRefusedByName(t *testing.T) {
	l := newLab(t)
	for path, want := range map[string]string{
		"/v1/kv/config/web": "the key/value store", "/v1/session/create": "sessions and locks", "/v1/query": "prepared queries",
		"/v1/acl/policies": "ACL policies", "/v1/acl/token": "isthmus token create", "/v1/event/fire/x": "user events",
		"/v1/agent/members": "gossip membership", "/v1/agent/join/10.0.0.1": "gossip", "/v1/operator/raft/configuration": "raft",
		"/v1/operator/keyring": "keyring", "/v1/txn": "transactions", "/v1/coordinate/nodes": "network coordinates",
		"/v1/discovery-chain/web": "dynamic routing", "/v1/catalog/gateway-services/gw": "ingress and terminating gateways",
		"/v1/health/ingress/web": "ingress gateways", "/v1/connect/ca/configuration": "CA providers",
		"/v1/internal/ui/nodes": "user interface", "/v1/internal/ui/gateway-intentions/x": "user interface",
	} {
		check(t, l.ask("GET", path, ""), path, http.StatusNotImplemented, []string{"not supported: ", want})
	}
	for path, want := range map[string]string{
		"/v1/catalg/services": "not a recognized HTTP API endpoint", "/v1/": "not a recognized", "/isthmus/v1/nope": "not a recognized endpoint of isthmus",
		"/catalog": "ensure the path starts with '/v1/'",
	} {
		check(t, l.ask("GET", path, ""), path, http.StatusNotFound, []string{want})
	}
}

// With a Consul source there is nothing to write to, and it says where to.
func TestConsulSourceRefusesWrites(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Store, c.Backup, c.Peering, c.Leaf = nil, nil, nil, nil })
	for _, s := range []step{
		{"PUT", "/v1/config", exportDB, 0, nil},
		{"POST", "/v1/peering/token", `{"PeerName":"east"}`, 0, nil},
		{"POST", "/v1/peering/establish", `{"PeerName":"east","PeeringToken":"x"}`, 0, nil},
		{"DELETE", "/v1/peering/east", "", 0, nil},
		{"PUT", "/v1/agent/service/register", webRegistration, 0, nil},
		{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2"}`, 0, nil},
		{"PUT", "/v1/connect/intentions/exact?source=web&destination=db", `{"Action":"allow"}`, 0, nil},
		{"POST", "/isthmus/v1/config/apply", apply([]string{exportDB}, ""), 0, nil},
		{"GET", "/v1/agent/connect/ca/leaf/web", "", 0, nil},
		{"GET", "/v1/snapshot", "", 0, nil},
		{"PUT", "/v1/snapshot", "", 0, nil},
		{"GET", "/isthmus/v1/peering/tokens", "", 0, nil},
		{"DELETE", "/isthmus/v1/peering/tokens/t1", "", 0, nil},
	} {
		check(t, l.ask(s.method, s.path, s.body), s.method+" "+s.path, http.StatusNotImplemented, []string{"--source=consul", "Consul's own API"})
	}
	l.must("GET", "/v1/catalog/nodes", "")
}

// Until the source has answered, nobody is told that there is nothing.
func TestNotReady(t *testing.T) {
	synced := false
	l := newLab(t, func(c *Config) { c.Runtime.Synced = func() bool { return synced } })
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/v1/catalog/services": 503, "/isthmus/v1/status": 503, "/isthmus/v1/whoami": 200} {
		check(t, l.ask("GET", path, ""), path, want, nil)
	}
	synced = true
	l.must("GET", "/readyz", "")
	l.must("GET", "/v1/catalog/services", "")
	empty := newLab(t, func(c *Config) { c.Publisher = snapshot.NewPublisher(snapshot.NewWorld()) })
	check(t, empty.ask("GET", "/v1/peerings", ""), "empty world", http.StatusServiceUnavailable, []string{"not ready"})
}

func TestCrashEndsOneRequest(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Runtime.Proxies = func() []Proxy { panic("boom") } })
	check(t, l.ask("GET", "/isthmus/v1/proxies", ""), "crash", http.StatusInternalServerError, []string{"internal error"})
	l.must("GET", "/healthz", "")
}

func TestNewWantsItsParts(t *testing.T) {
	for _, cfg := range []Config{{}, {Publisher: snapshot.NewPublisher(snapshot.NewWorld())}, {Publisher: snapshot.NewPublisher(snapshot.NewWorld()), Credentials: &tokens{}}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v: want an error", cfg)
		}
	}
}

func TestServerHasBounds(t *testing.T) {
	s := NewServer(http.NotFoundHandler())
	if s.ReadHeaderTimeout > time.Minute || s.IdleTimeout == 0 || s.MaxHeaderBytes > 1<<20 || s.WriteTimeout != 0 {
		t.Errorf("server %+v: want bounded headers and idle times, and no write timeout", s)
	}
}
