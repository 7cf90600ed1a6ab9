package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/redact"
)

// An eavesdropper listens at the server's address, and keeps all that it was sent.
type eavesdropper struct {
	*httptest.Server
	mu    sync.Mutex
	heard strings.Builder
	// proof answers a challenge; whoami is the answer to who sends none. proof nil: to all.
	whoami string
	proof  func(challenge string, at net.Addr) string
}

func listen(t *testing.T, e *eavesdropper) *eavesdropper {
	t.Helper()
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	return e
}

// ServeHTTP wants a token, and then says yes to anything.
func (e *eavesdropper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := httputil.DumpRequest(r, true)
	if err != nil {
		text = []byte(err.Error())
	}
	e.mu.Lock()
	e.heard.Write(text)
	e.mu.Unlock()
	challenge := r.URL.Query().Get("challenge")
	switch {
	case r.URL.Path == whoamiPath && challenge != "" && e.proof != nil:
		fmt.Fprintf(w, `{"proof": %q}`, e.proof(challenge, r.Context().Value(http.LocalAddrContextKey).(net.Addr)))
	case r.URL.Path == whoamiPath:
		fmt.Fprint(w, e.whoami)
	case r.Header.Get("X-Consul-Token") == "":
		http.Error(w, "Permission denied", http.StatusForbidden)
	default:
		fmt.Fprint(w, "{}")
	}
}

func (e *eavesdropper) has(text string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Contains(e.heard.String(), text)
}

// A token file that somebody else made is not taken on a server's word.
func TestTokenFileIsOurs(t *testing.T) {
	file := filepath.Join(t.TempDir(), operatorTokenName)
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(file)
	if err != nil {
		t.Fatal(err)
	}
	if !ownedBy(info, os.Geteuid()) || ownedBy(info, os.Geteuid()+1) {
		t.Error("whose file it is is not known")
	}
	server, err := config.Server{}.Resolve("host")
	if err != nil || server.DataDir != usualDataDir {
		t.Errorf("servers keep their data in %q, %v: want %s", server.DataDir, err, usualDataDir)
	}
}

func provesWith(token string) func(string, net.Addr) string {
	return func(challenge string, at net.Addr) string { return api.Proof(redact.NewString(token), challenge, at) }
}

func TestOperatorTokenIsFound(t *testing.T) {
	clearVariables(t)
	folder := t.TempDir()
	file := filepath.Join(folder, operatorTokenName)
	for _, tt := range []struct {
		name, file, mode string
		dataDir          bool
		want             bool
	}{
		{name: "where the server says", file: file, mode: "0600", want: true},
		{name: "in ISTHMUS_DATA_DIR", dataDir: true, mode: "0600", want: true},
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
			server := listen(t, &eavesdropper{whoami: fmt.Sprintf(`{"operator_token_file": %q}`, tt.file), proof: provesWith("secret")})
			client, err := (&connection{address: server.URL}).client()
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.get(t.Context(), "/v1/peerings", nil)
			if got := server.has("X-Consul-Token: secret"); got != tt.want || (err == nil) != tt.want {
				t.Errorf("sent: %v, want %v; error %v", got, tt.want, err)
			}
		})
	}
}

// challenged returns the server's own proof, as anybody on this machine can have it.
func challenged(t *testing.T, server, challenge string) string {
	t.Helper()
	response, err := http.Get("http://" + server + whoamiPath + "?challenge=" + url.QueryEscape(challenge))
	if err != nil {
		t.Error(err)
		return ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	var answer api.Whoami
	if err != nil || decode(body, "whoami", &answer) != nil || answer.Proof == "" {
		t.Errorf("the server proves nothing: %s, %v", body, err)
	}
	return answer.Proof
}

// Whoever took the server's address while it was away gets neither its operator's token nor what is asked with it, also
// when the server runs elsewhere and answers for it.
func TestSquatterGetsNothing(t *testing.T) {
	clearVariables(t)
	p := opened(t, planeConfig(t))
	running(t, p)
	real := p.listeners.http.Addr().String()
	t.Setenv("ISTHMUS_DATA_DIR", p.cfg.DataDir)
	token, err := p.store.OperatorToken()
	if err != nil {
		t.Fatal(err)
	}
	const old = "an-old-challenge-that-somebody-listened-to"
	for name, proof := range map[string]func(string, net.Addr) string{
		"no proof":      nil,
		"another token": provesWith("isthmus-op-guess"),
		"an old proof":  func(string, net.Addr) string { return challenged(t, real, old) },
		"a relay":       func(challenge string, _ net.Addr) string { return challenged(t, real, challenge) },
	} {
		squatter := listen(t, &eavesdropper{whoami: "{}", proof: proof})
		asks(t, name, squatter.URL, errUnproved.Error())
		if squatter.has(token.Reveal()) || squatter.has("body-secret") {
			t.Errorf("%s: heard %s", name, squatter.heard.String())
		}
	}
	asks(t, "the server itself", "http://"+real, "")
}

// asks writes and reads at an address, as somebody who has no token. want is in each error; empty: there is none.
func asks(t *testing.T, name, address, want string) {
	t.Helper()
	for _, r := range []request{
		{method: http.MethodPut, path: "/v1/config", body: map[string]string{"Kind": "service-defaults", "Name": "web", "Protocol": "tcp"}},
		{method: http.MethodPut, path: "/v1/config", body: map[string]any{"Kind": "service-defaults", "Name": "db", "Meta": map[string]string{"k": "body-secret"}}},
		{method: http.MethodGet, path: tokensPath},
	} {
		client, err := (&connection{address: address}).client()
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.do(t.Context(), r)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %s %s: error %v, want %q", name, r.method, r.path, err, want)
		}
	}
}

// A pipe that hands on every byte to the server is another address, and so no proof.
func TestPipeIsNotTheServer(t *testing.T) {
	clearVariables(t)
	p := opened(t, planeConfig(t))
	running(t, p)
	t.Setenv("ISTHMUS_DATA_DIR", p.cfg.DataDir)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var pipes sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); pipes.Wait() })
	pipes.Go(func() {
		for {
			here, err := listener.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", p.listeners.http.Addr().String())
			if err != nil {
				_ = here.Close()
				continue
			}
			pipes.Go(func() { _, _ = io.Copy(there, here); _ = there.Close() })
			pipes.Go(func() { _, _ = io.Copy(here, there); _ = here.Close() })
		}
	})
	asks(t, "a pipe", "http://"+listener.Addr().String(), errUnproved.Error())
	t.Setenv("ISTHMUS_HTTP_TOKEN_FILE", filepath.Join(p.cfg.DataDir, operatorTokenName))
	asks(t, "a pipe that was chosen", "http://"+listener.Addr().String(), "")
}

// A certificate that nobody looks at is no proof either.
func TestTokenIsNotSentUnverified(t *testing.T) {
	clearVariables(t)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, operatorTokenName), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ISTHMUS_DATA_DIR", folder)
	t.Setenv("ISTHMUS_HTTP_SSL_VERIFY", "false")
	e := &eavesdropper{whoami: "{}", proof: provesWith("secret")}
	e.Server = httptest.NewTLSServer(e)
	t.Cleanup(e.Close)
	asks(t, "unverified", e.URL, "Permission denied")
	if e.has("secret\r") {
		t.Errorf("heard %s", e.heard.String())
	}
}
