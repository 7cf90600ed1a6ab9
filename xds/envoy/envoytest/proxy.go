package envoytest

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// A Proxy is a running Envoy that reads its resources from files: what it does is what the set says, without a control
// plane.
type Proxy struct {
	t     testing.TB
	dir   string
	admin string
	Log   *bytes.Buffer // standard output: the access log; read it when Envoy has ended
}

// Start runs an Envoy with the set, this leaf if it needs one, and these endpoints, until the test ends. ok is false
// without an Envoy.
func Start(t testing.TB, set *envoy.Set, leaf tls.Certificate, endpoints ...*envoy.Resource) (proxy *Proxy, ok bool) {
	t.Helper()
	path, ok := Envoy(t)
	if !ok {
		return nil, false
	}
	p := &Proxy{t: t, dir: t.TempDir(), Log: &bytes.Buffer{}}
	if set.LeafIdentity != "" {
		cert, key := leafPEM(t, leaf)
		p.write(envoy.LeafName, envoy.TypeSecret, toJSON(t, &tlsv3.Secret{Name: envoy.LeafName, Type: &tlsv3.Secret_TlsCertificate{
			TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(cert), PrivateKey: inline(key)},
		}}))
	}
	for _, assignment := range Endpoints(t, endpoints) {
		p.write(assignment.ClusterName, envoy.TypeEndpoint, toJSON(t, assignment))
	}
	p.Secrets(set)
	p.Rest(set, 1)
	config, adminFile := filepath.Join(p.dir, "envoy.json"), filepath.Join(p.dir, "admin")
	if err := os.WriteFile(config, p.bootstrap(), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", config, "--admin-address-path", adminFile, "--use-dynamic-base-id", "--concurrency", "1",
		"--log-level", "warn", "--drain-strategy", "immediate", "--drain-time-s", "2", "--parent-shutdown-time-s", "3")
	var problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = p.Log, &problems
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("envoy:\n%s\n%s", &problems, last(p.Log.String(), 20))
		}
	})
	Eventually(t, "envoy is ready", func() bool {
		address, err := os.ReadFile(adminFile)
		p.admin = strings.TrimSpace(string(address))
		return err == nil && p.admin != "" && strings.HasPrefix(p.Admin("/ready"), "LIVE")
	})
	return p, true
}

// Secrets replaces the secrets and extensions by the set's, as SDS and ECDS would.
func (p *Proxy) Secrets(set *envoy.Set) {
	for _, secret := range Secrets(p.t, set) {
		p.write(secret.Name, envoy.TypeSecret, toJSON(p.t, secret))
	}
	for _, extension := range Extensions(p.t, set) {
		p.write(extension.Name, envoy.TypeExtension, toJSON(p.t, extension))
	}
}

// Rest replaces clusters and listeners by the set's, each chain at this epoch.
func (p *Proxy) Rest(set *envoy.Set, epoch uint64) {
	var clusters, listeners []json.RawMessage
	for _, c := range Clusters(p.t, set) {
		clusters = append(clusters, toJSON(p.t, c))
	}
	for _, l := range listenersAt(p.t, set, epoch) {
		listeners = append(listeners, toJSON(p.t, l))
	}
	p.write("cds", envoy.TypeCluster, clusters...)
	p.write("lds", envoy.TypeListener, listeners...)
}

// Admin returns what the admin endpoint answers.
func (p *Proxy) Admin(path string) string {
	response, err := http.Get("http://" + p.admin + path)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// write replaces one file at once, which is what Envoy watches for.
func (p *Proxy) write(name, typeURL string, resources ...json.RawMessage) {
	p.t.Helper()
	typed := make([]map[string]any, len(resources))
	for i, r := range resources {
		if err := json.Unmarshal(r, &typed[i]); err != nil {
			p.t.Fatal(err)
		}
		p.fromFiles(typed[i])
		typed[i]["@type"] = typeURL
	}
	text, err := json.Marshal(map[string]any{"type_url": typeURL, "version_info": fmt.Sprint(time.Now().UnixNano()), "resources": typed})
	if err != nil {
		p.t.Fatal(err)
	}
	next := filepath.Join(p.dir, "next")
	if err := os.WriteFile(next, text, 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(next, p.path(name)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *Proxy) path(name string) string { return filepath.Join(p.dir, name+".json") }

// fromFiles turns every mention of ADS into the file of the resource that is asked for.
func (p *Proxy) fromFiles(object any) {
	switch object := object.(type) {
	case []any:
		for _, o := range object {
			p.fromFiles(o)
		}
	case map[string]any:
		name, _ := object["name"].(string)
		if service, ok := object["serviceName"].(string); ok {
			name = service
		}
		for _, field := range []string{"sdsConfig", "edsConfig"} {
			if _, ok := object[field]; ok {
				object[field] = p.source(name)
			}
		}
		if discovery, ok := object["configDiscovery"].(map[string]any); ok {
			discovery["configSource"] = p.source(name)
		}
		for _, o := range object {
			p.fromFiles(o)
		}
	}
}

func (p *Proxy) source(name string) map[string]any {
	return map[string]any{"pathConfigSource": map[string]any{"path": p.path(name)}, "resourceApiVersion": "V3"}
}

func (p *Proxy) bootstrap() []byte {
	text, err := json.Marshal(map[string]any{
		"node":              map[string]any{"id": "test", "cluster": "test"},
		"admin":             map[string]any{"address": map[string]any{"socket_address": map[string]any{"address": "127.0.0.1", "port_value": 0}}},
		"dynamic_resources": map[string]any{"lds_config": p.source("lds"), "cds_config": p.source("cds")},
		"layered_runtime":   runtime,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

func inline(text []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: string(text)}}
}

// Eventually asks until ok says yes, and fails the test if that takes more than ten seconds.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick, deadline := time.NewTicker(5*time.Millisecond), time.After(10*time.Second)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// last returns the last n lines of text.
func last(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
