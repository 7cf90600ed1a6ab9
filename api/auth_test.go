package api

import (
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/redact"
)

// Who may do what: as each role, without a token from this machine, and without one from elsewhere.
func TestAccess(t *testing.T) {
	l := newLab(t)
	who := map[string][]string{
		"operator": {"X-Consul-Token: " + operatorToken}, "bearer": {"Authorization: Bearer " + operatorToken},
		"read": {"X-Consul-Token: " + readToken}, "metrics": {"X-Consul-Token: " + metricsToken, "X-Forwarded-For: 9.9.9.9"},
		"proxy": {"X-Consul-Token: " + proxyToken, "X-Forwarded-For: 9.9.9.9"},
		"local": nil, "remote": {"X-Forwarded-For: 9.9.9.9"},
	}
	l.token = ""
	for _, test := range []struct {
		method, path string
		allowed      []string
	}{
		{"GET", "/healthz", []string{"operator", "bearer", "read", "metrics", "proxy", "local", "remote"}},
		{"GET", "/isthmus/v1/whoami", []string{"operator", "bearer", "read", "metrics", "proxy", "local", "remote"}},
		{"GET", "/metrics", []string{"operator", "bearer", "read", "metrics", "local"}},
		{"GET", "/v1/agent/self", []string{"operator", "bearer", "read", "proxy", "local"}},
		{"GET", "/v1/agent/services", []string{"operator", "bearer", "read", "proxy", "local"}},
		{"GET", "/v1/catalog/services", []string{"operator", "bearer", "read", "local"}},
		{"GET", "/isthmus/v1/status", []string{"operator", "bearer", "read", "local"}},
		{"GET", "/isthmus/v1/bootstrap-info", []string{"operator", "bearer", "read", "local"}},
		{"PUT", "/v1/agent/maintenance?enable=false", []string{"operator", "bearer"}},
		{"GET", "/v1/agent/connect/ca/leaf/web", []string{"operator", "bearer"}},
		{"GET", "/v1/snapshot", []string{"operator", "bearer"}},
		{"GET", "/isthmus/v1/tokens", []string{"operator", "bearer"}},
		{"GET", "/isthmus/v1/peering/tokens", []string{"operator", "bearer"}},
	} {
		for name, headers := range who {
			want := http.StatusForbidden
			if slices.Contains(test.allowed, name) {
				want = http.StatusOK
			}
			if a := l.ask(test.method, test.path, "", headers...); a.status != want {
				t.Errorf("%s %s as %s: status %d: want %d: %s", test.method, test.path, name, a.status, want, a.text)
			}
		}
	}
}

// A proxy's token shows that proxy, which is what Consul's command needs for its bootstrap, and nobody else.
func TestProxySeesItself(t *testing.T) {
	l := newLab(t)
	register := func(body string) {
		t.Helper()
		if a := l.ask("PUT", "/v1/agent/service/register", body); a.status != http.StatusOK {
			t.Fatal(a.text)
		}
	}
	register(`{"Name": "web", "Port": 80, "Connect": {"SidecarService": {"Port": 21000}}}`)
	register(`{"Name": "db", "Port": 81, "Connect": {"SidecarService": {"Port": 21001}}}`)
	l.token = proxyToken
	if a := l.ask("GET", "/v1/agent/services", ""); a.status != http.StatusOK || !strings.Contains(a.text, "web-sidecar-proxy") || strings.Contains(a.text, "db") {
		t.Errorf("services: %d %s", a.status, a.text)
	}
	for id, want := range map[string]int{"web-sidecar-proxy": http.StatusOK, "db-sidecar-proxy": http.StatusForbidden, "web": http.StatusForbidden} {
		if a := l.ask("GET", "/v1/agent/service/"+id, ""); a.status != want {
			t.Errorf("%s: %d, want %d: %s", id, a.status, want, a.text)
		}
	}
}

// With --http-open this machine is an operator: but not a page in its browser, nor whom a proxy here forwards.
func TestOpenModeTrustsOnlyThisMachine(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Server.HTTPOpen = true })
	l.token = ""
	const write = "/v1/agent/maintenance?enable=false"
	for _, test := range []struct {
		header string
		status int
		want   string
	}{
		{"User-Agent: curl", 200, ""},
		{"Host: localhost:8500", 200, ""},
		{"Host: [::1]:8500", 200, ""},
		{"Sec-Fetch-Site: same-origin", 200, ""},
		{"Host: evil.example:8500", 403, "its Host is not localhost"},
		{"Host: 10.0.0.1", 403, "its Host is not localhost"},
		{"Origin: http://evil.example", 403, "header Origin"},
		{"Origin: null", 403, "header Origin"},
		{"Sec-Fetch-Site: cross-site", 403, "for another site"},
		{"Forwarded: for=9.9.9.9", 403, "header Forwarded"},
		{"X-Forwarded-For: 9.9.9.9", 403, "header X-Forwarded-For"},
		{"X-Real-Ip: 9.9.9.9", 403, "header X-Real-Ip"},
		{"X-Consul-Token: " + readToken, 403, "this one has role read"},
		{"X-Consul-Token: wrong", 403, "ACL not found"},
		{"Authorization: Basic dXNlcjpwdw==", 200, ""}, // not a token
	} {
		check(t, l.ask("PUT", write, "", test.header), test.header, test.status, []string{test.want})
	}
	// Nor does the browser's page read: the same holds where loopback only reads.
	check(t, l.ask("GET", "/v1/catalog/services", "", "Origin: http://evil.example"), "read", 403, []string{"needs a token of role read or operator"})
}

func TestTokenInURLIsRefused(t *testing.T) {
	l := newLab(t)
	l.token = ""
	check(t, l.ask("GET", "/v1/peerings?token="+operatorToken, ""), "token=", 400, []string{"X-Consul-Token", "!" + operatorToken})
}

func TestRemoteAddressIsNotTrusted(t *testing.T) {
	l := newLab(t)
	for remote, want := range map[string]int{"127.0.0.1:1": 200, "[::1]:1": 200, "[::ffff:127.0.0.1]:1": 200, "192.0.2.1:1": 403, "@": 403} {
		request := httptest.NewRequest("GET", "http://localhost/v1/peerings", nil)
		request.RemoteAddr = remote
		recorder := httptest.NewRecorder()
		l.server.Config.Handler.ServeHTTP(recorder, request)
		if recorder.Code != want {
			t.Errorf("from %s: status %d: want %d", remote, recorder.Code, want)
		}
	}
}

func TestRateLimit(t *testing.T) {
	l := newLab(t, func(c *Config) {
		c.Server.RequestsPerSecond = 1
		c.Now = func() time.Time { return time.Unix(1000, 0) } // no time passes
	})
	for i, want := range []int{200, 200, 200, 429, 429} {
		a := l.ask("GET", "/healthz", "")
		if a.status != want || want == 429 && a.header.Get("Retry-After") == "" {
			t.Errorf("request %d: status %d: want %d", i+1, a.status, want)
		}
	}
}

func TestTokens(t *testing.T) {
	l := newLab(t)
	l.must("PUT", "/v1/agent/service/register", webRegistration)
	for body, want := range map[string]string{
		`{"role":"boss"}`:                    "want operator, read, proxy or metrics",
		`{"role":"proxy"}`:                   "wants the ID of one",
		`{"role":"read","proxy":"x"}`:        "the others none",
		`{"role":"proxy","proxy":"nope"}`:    "is not registered",
		`{"role":"proxy","proxy":"web1"}`:    "is not registered as a sidecar",
		`{"role":"read","descripton":"odd"}`: "descripton",
		`{"role":"read","bootstrap":true}`:   "is for role proxy",
	} {
		a := l.ask("POST", "/isthmus/v1/tokens", body)
		check(t, a, body, a.status, []string{want})
		if a.status != 400 && a.status != 404 {
			t.Errorf("%s: status %d", body, a.status)
		}
	}
	var made Token
	l.must("POST", "/isthmus/v1/tokens", `{"role":"proxy","proxy":"web1-sidecar-proxy","description":"d","bootstrap":true}`).into(t, &made)
	if made.Secret == "" || made.Accessor == "" || made.Proxy != "web1-sidecar-proxy" || !made.Bootstrap {
		t.Errorf("made %+v", made)
	}
	check(t, l.must("GET", "/isthmus/v1/tokens", ""), "list", 200, []string{made.Accessor, "!" + `"` + made.Secret + `"`})
	l.must("DELETE", "/isthmus/v1/tokens/"+made.Accessor, "")
	check(t, l.ask("DELETE", "/isthmus/v1/tokens/"+made.Accessor, ""), "again", 404, nil)
}

func TestWhoami(t *testing.T) {
	l := newLab(t)
	for _, test := range []struct {
		token   string
		headers []string
		want    Whoami
	}{
		{operatorToken, nil, Whoami{Accessor: "op", Role: "operator", Token: true, OperatorTokenFile: "/data/operator.token"}},
		{"", nil, Whoami{Role: "read", OperatorTokenFile: "/data/operator.token"}},
		{"", []string{"Origin: http://x"}, Whoami{Reason: "it has the header Origin, so a browser sent it for a page"}},
	} {
		l.token = test.token
		var got Whoami
		l.ask("GET", "/isthmus/v1/whoami", "", test.headers...).into(t, &got)
		if got != test.want {
			t.Errorf("whoami %+v: want %+v", got, test.want)
		}
	}
}

func TestWritesCarryTheirActor(t *testing.T) {
	l := newLab(t)
	l.must("PUT", "/v1/config", exportDB)
	if last := l.store.actors[len(l.store.actors)-1]; last != "op" {
		t.Errorf("actor %q: want the token's accessor", last)
	}
}

// A proof is for who is on this machine, asks with something that nobody can guess, and on the server's own address.
func TestProof(t *testing.T) {
	l := newLab(t, func(c *Config) {
		c.Server.OperatorToken = func() (redact.String, error) { return redact.NewString("op"), nil }
	})
	l.token = ""
	const challenge = "0123456789abcdef0123456789abcdef"
	proof := func(query string, headers ...string) string {
		t.Helper()
		var got Whoami
		l.ask("GET", "/isthmus/v1/whoami"+query, "", headers...).into(t, &got)
		return got.Proof
	}
	server := l.server.Listener.Addr()
	got := proof("?challenge=" + challenge)
	if got == "" || got != Proof(redact.NewString("op"), challenge, server) {
		t.Errorf("proof %q: want that of the token, the challenge and %s", got, server)
	}
	for what, other := range map[string]string{
		"token": Proof(redact.NewString("other"), challenge, server), "challenge": Proof(redact.NewString("op"), challenge+"0", server),
		"address": Proof(redact.NewString("op"), challenge, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}),
	} {
		if got == other {
			t.Errorf("another %s has the same proof", what)
		}
	}
	if got := proof("?challenge="+challenge, "X-Forwarded-For: 10.0.0.1") + proof("?challenge="+challenge, "Origin: http://x") + proof(""); got != "" {
		t.Errorf("proof %s: want none for who is elsewhere or did not ask", got)
	}
	check(t, l.ask("GET", "/isthmus/v1/whoami?challenge=short", ""), "short", http.StatusBadRequest, []string{"want at least 32 characters"})
}
