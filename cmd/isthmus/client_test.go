package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

func clearVariables(t *testing.T) {
	t.Helper()
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "ISTHMUS_") || strings.HasPrefix(name, "CONSUL_") {
			t.Setenv(name, "")
		}
	}
}

func TestTokensAreNotSentElsewhere(t *testing.T) {
	clearVariables(t)
	elsewhere := listen(t, &eavesdropper{whoami: "{}"})
	here := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	t.Cleanup(here.Close)
	client, err := (&connection{address: here.URL, token: "secret"}).client()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.get(t.Context(), "/v1/peerings", nil); !hasStatus(err, http.StatusTemporaryRedirect) {
		t.Errorf("error %v, want the redirect refused", err)
	}
	if elsewhere.has("secret") {
		t.Error("sent to where it was redirected")
	}
}

func TestPathsAreEscapedOnce(t *testing.T) {
	clearVariables(t)
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.RequestURI
		fmt.Fprint(w, "{}")
	}))
	t.Cleanup(server.Close)
	client, err := (&connection{address: server.URL + "/behind/", datacenter: "dc2"}).client()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.get(t.Context(), "/v1/peering/"+segment("../a b/%2f"), nil); err != nil {
		t.Fatal(err)
	}
	if want := "/behind/v1/peering/..%2Fa%20b%2F%252f?dc=dc2"; asked != want {
		t.Errorf("asked %s, want %s", asked, want)
	}
}

func TestNamespacesAreRefused(t *testing.T) {
	clearVariables(t)
	t.Setenv("CONSUL_NAMESPACE", "team")
	if _, err := (&connection{}).client(); err == nil || err.Error() != `namespace "team": is not supported: want default or none` {
		t.Errorf("error %v", err)
	}
}
