package health

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

var realProber = prober{dial: (&net.Dialer{}).DialContext}

func probeOnce(t *testing.T, d config.CheckDefinition) result {
	t.Helper()
	return realProber.probe(t.Context(), &snapshot.Check{Definition: d})
}

func TestTCPProbe(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if got := probeOnce(t, config.CheckDefinition{TCP: address}); got != (result{config.HealthPassing, "TCP connect " + address + ": Success"}) {
		t.Errorf("open port: %+v", got)
	}
	listener.Close()
	first, second := probeOnce(t, config.CheckDefinition{TCP: address}), probeOnce(t, config.CheckDefinition{TCP: address})
	if first.status != config.HealthCritical || !strings.Contains(first.output, "connection refused") {
		t.Errorf("closed port: %+v", first)
	}
	if first != second {
		t.Errorf("one failure in two wordings: %q, %q", first.output, second.output)
	}
}

func TestHTTPProbe(t *testing.T) {
	var seen *http.Request
	mux := http.NewServeMux()
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { seen = r; w.WriteHeader(code); w.Write([]byte("body")) }
	}
	mux.Handle("/ok", status(204))
	mux.Handle("/busy", status(429))
	mux.Handle("/broken", status(503))
	mux.Handle("/moved", http.RedirectHandler("/ok", http.StatusFound))
	mux.Handle("/large", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1<<20)) }))
	server := httptest.NewServer(mux)
	defer server.Close()
	secure := httptest.NewUnstartedServer(mux)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	for name, c := range map[string]struct {
		definition config.CheckDefinition
		want       string
		output     string
	}{
		"2xx":             {config.CheckDefinition{HTTP: server.URL + "/ok"}, config.HealthPassing, ": 204 No Content\n"},
		"429":             {config.CheckDefinition{HTTP: server.URL + "/busy"}, config.HealthWarning, ": 429 Too Many Requests\nbody"},
		"5xx":             {config.CheckDefinition{HTTP: server.URL + "/broken"}, config.HealthCritical, ": 503 Service Unavailable\nbody"},
		"redirect":        {config.CheckDefinition{HTTP: server.URL + "/moved"}, config.HealthPassing, ": 204"},
		"redirect itself": {config.CheckDefinition{HTTP: server.URL + "/moved", DisableRedirects: true}, config.HealthCritical, ": 302"},
		"not trusted":     {config.CheckDefinition{HTTP: secure.URL + "/ok"}, config.HealthCritical, "certificate"},
		"any certificate": {config.CheckDefinition{HTTP: secure.URL + "/ok", TLSSkipVerify: true}, config.HealthPassing, ": 204"},
		"no URL":          {config.CheckDefinition{HTTP: "http://a b"}, config.HealthCritical, "HTTP GET"},
		"nobody there":    {config.CheckDefinition{HTTP: "http://127.0.0.1:1/"}, config.HealthCritical, "connection refused"},
	} {
		if got := probeOnce(t, c.definition); got.status != c.want || !strings.Contains(got.output, c.output) {
			t.Errorf("%s: %+v: want %s and %q", name, got, c.want, c.output)
		}
	}
	probeOnce(t, config.CheckDefinition{HTTP: server.URL + "/ok", Method: "POST", Body: "x", Header: map[string][]string{"host": {"a.example"}, "x-k": {"1", "2"}}})
	if seen.Method != "POST" || seen.Host != "a.example" || len(seen.Header["X-K"]) != 2 || seen.ContentLength != 1 {
		t.Errorf("request: %s %s %v", seen.Method, seen.Host, seen.Header)
	}
	if got := probeOnce(t, config.CheckDefinition{HTTP: server.URL + "/large"}); len(got.output) > maxBody+200 {
		t.Errorf("kept %d bytes of an answer", len(got.output))
	}
	secret := probeOnce(t, config.CheckDefinition{HTTP: "http://user:canary@127.0.0.1:1/"})
	if strings.Contains(secret.output, "canary") {
		t.Errorf("output shows a password: %s", secret.output)
	}
}

func TestProbeTimesOut(t *testing.T) {
	p := prober{dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	for _, d := range []config.CheckDefinition{{TCP: "a:1", Timeout: time.Millisecond}, {HTTP: "http://a:1/", Timeout: time.Millisecond}} {
		if got := p.probe(t.Context(), &snapshot.Check{Definition: d}); got.status != config.HealthCritical || !strings.HasSuffix(got.output, ": timed out") {
			t.Errorf("%+v", got)
		}
	}
}
