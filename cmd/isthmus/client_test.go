package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A server that wants a token and says where the operator's lies, as it or an impostor would.
func wantsToken(t *testing.T, whoami string) (address string, sent *[]string) {
	t.Helper()
	sent = &[]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token := r.Header.Get("X-Consul-Token"); token != "" {
			*sent = append(*sent, token)
			fmt.Fprint(w, "{}")
			return
		}
		if r.URL.Path == "/isthmus/v1/whoami" {
			fmt.Fprint(w, whoami)
			return
		}
		http.Error(w, "Permission denied", http.StatusForbidden)
	}))
	t.Cleanup(server.Close)
	return server.URL, sent
}

func clearVariables(t *testing.T) {
	t.Helper()
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "ISTHMUS_") || strings.HasPrefix(name, "CONSUL_") {
			t.Setenv(name, "")
		}
	}
}

func TestOperatorTokenIsFound(t *testing.T) {
	clearVariables(t)
	folder := t.TempDir()
	file := filepath.Join(folder, operatorTokenName)
	for _, tt := range []struct {
		name, file, mode string
		dataDir          bool
		want             string
	}{
		{name: "where the server says", file: file, mode: "0600", want: "secret"},
		{name: "in ISTHMUS_DATA_DIR", dataDir: true, mode: "0600", want: "secret"},
		{name: "open to others", file: file, mode: "0644"},
		{name: "another file", file: filepath.Join(folder, "id_rsa"), mode: "0600"},
		{name: "relative", file: operatorTokenName, mode: "0600"},
		{name: "nowhere", mode: "0600"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var mode os.FileMode
			if _, err := fmt.Sscanf(tt.mode, "%o", &mode); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{file, filepath.Join(folder, "id_rsa")} {
				if err := os.WriteFile(name, []byte("secret\n"), mode); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(name, mode); err != nil {
					t.Fatal(err)
				}
			}
			if tt.dataDir {
				t.Setenv("ISTHMUS_DATA_DIR", folder)
			}
			address, sent := wantsToken(t, fmt.Sprintf(`{"operator_token_file": %q}`, tt.file))
			client, err := (&connection{address: address}).client()
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.get(t.Context(), "/v1/peerings", nil)
			if got := strings.Join(*sent, ","); got != tt.want {
				t.Errorf("sent %q, want %q", got, tt.want)
			}
			if (err == nil) != (tt.want != "") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestTokensAreNotSentElsewhere(t *testing.T) {
	clearVariables(t)
	elsewhere, sent := wantsToken(t, "{}")
	here := httptest.NewServer(http.RedirectHandler(elsewhere, http.StatusTemporaryRedirect))
	t.Cleanup(here.Close)
	client, err := (&connection{address: here.URL, token: "secret"}).client()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.get(t.Context(), "/v1/peerings", nil); !hasStatus(err, http.StatusTemporaryRedirect) {
		t.Errorf("error %v, want the redirect refused", err)
	}
	if len(*sent) > 0 {
		t.Errorf("sent %q to where it was redirected", *sent)
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
