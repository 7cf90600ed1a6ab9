package main

import (
	"net/http"
	"testing"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// TestMetricsAddressAsksWhoScrapes: the address of the metrics is no way around who may see them, and shows nothing else.
func TestMetricsAddressAsksWhoScrapes(t *testing.T) {
	cfg := planeConfig(t)
	cfg.MetricsAddr = "127.0.0.1:0"
	p := opened(t, cfg)
	running(t, p)
	secret, _, err := p.store.CreateToken(t.Context(), snapshot.Credential{Role: snapshot.RoleMetrics})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := http.Header{"X-Forwarded-For": {"192.0.2.1"}}
	withToken := elsewhere.Clone()
	withToken.Set("X-Consul-Token", secret.Reveal())
	for name, c := range map[string]struct {
		path   string
		header http.Header
		want   int
	}{
		"this machine":            {"/metrics", nil, http.StatusOK},
		"a bogus token":           {"/metrics", http.Header{"X-Consul-Token": {"bogus"}}, http.StatusForbidden},
		"elsewhere":               {"/metrics", elsewhere, http.StatusForbidden},
		"elsewhere, with a token": {"/metrics", withToken, http.StatusOK},
		"a page":                  {"/metrics", http.Header{"Origin": {"https://evil.example"}}, http.StatusForbidden},
		"something else":          {"/v1/status/leader", nil, http.StatusNotFound},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.listeners.metrics.Addr().String()+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.header != nil {
			request.Header = c.header
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != c.want {
			t.Errorf("%s: status %d, want %d", name, response.StatusCode, c.want)
		}
	}
}
