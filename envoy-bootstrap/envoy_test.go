package bootstrap

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func freePort(t *testing.T) uint16 {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return uint16(listener.Addr().(*net.TCPAddr).Port)
}

// realEnvoy returns the Envoy that tests run. There is no way to go on without one.
func realEnvoy(t *testing.T) string {
	t.Helper()
	binary, err := Find("")
	if err != nil {
		t.Fatalf("%v; `make envoy` gets one", err)
	}
	if _, err := CheckVersion(t.Context(), binary); err != nil {
		t.Fatal(err)
	}
	return binary
}

func TestEnvoyAccepts(t *testing.T) {
	binary := realEnvoy(t)
	for _, tt := range []struct {
		name string
		cfg  Config
		yaml bool
	}{
		{"sidecar", sidecarConfig(t), false},
		{"gateway", gatewayConfig(t), false},
		{"gateway in YAML", gatewayConfig(t), true},
		{"without metrics", func() Config { c := sidecarConfig(t); c.Metrics = Endpoint{}; return c }(), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := writeBootstrap(t, tt.cfg, tt.yaml)
			arguments := append([]string{"--mode", "validate"}, Arguments(file, 1, nil)...)
			output, err := exec.CommandContext(t.Context(), binary, arguments...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, output)
			}
			if warned := regexp.MustCompile(`(?i).*deprecated.*`).Find(output); warned != nil {
				t.Errorf("Envoy warned: %s", warned)
			}
		})
	}
}

func writeBootstrap(t *testing.T, cfg Config, inYAML bool) string {
	t.Helper()
	text, err := Bootstrap(cfg)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if inYAML {
		file = strings.TrimSuffix(file, ".json") + ".yaml"
		if text, err = YAML(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := WriteFile(file, text); err != nil {
		t.Fatal(err)
	}
	return file
}

// A running Envoy reaches its control plane with its token, answers metrics and readiness at the metrics listener and nothing else, and its statistics carry our
// labels under Envoy's own metric names.
func TestMetricsOfRunningEnvoy(t *testing.T) {
	cfg := sidecarConfig(t)
	address, roots, x := serveXDS(t)
	cfg.XDS = XDS{Addresses: []string{address}, CAPEM: roots, SAN: serverID, Token: cfg.XDS.Token}
	text, err := Bootstrap(cfg)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := WriteFile(file, withTraffic(t, text)); err != nil {
		t.Fatal(err)
	}
	log := run(t, realEnvoy(t), Arguments(file, 1, []string{"-l", "warning", "--component-log-level", "config:info"}))
	base := "http://" + cfg.Metrics.String()
	metrics := scrape(t, log, base)
	if c := <-x.callers; len(c.token) != 1 || c.token[0] != "proxy-token" || c.request.GetNode().GetId() != "web-sidecar-proxy" {
		t.Errorf("control plane saw token %q of node %q", c.token, c.request.GetNode().GetId())
	}
	for _, want := range []string{
		`envoy_tcp_downstream_cx_total\{isthmus_dir="in",isthmus_peer="alpha",isthmus_service="db",isthmus_namespace="default",.*\} 0`,
		`envoy_connection_limit_active_connections\{isthmus_dir="in",isthmus_peer="alpha",isthmus_service="db",.*\} 0`,
		`envoy_rbac_denied\{envoy_rbac_prefix=.*,isthmus_dir="in",isthmus_peer="alpha",isthmus_service="db",.*\} 0`,
		`envoy_cluster_upstream_cx_total\{isthmus_dir="out",isthmus_peer="beta",isthmus_service="db",isthmus_namespace="default",.*\} 0`,
		`envoy_cluster_membership_total\{isthmus_dir="svc",isthmus_service="db",isthmus_namespace="default",.*\} 1`,
		`envoy_cluster_membership_total\{envoy_cluster_name="app"\} 1`,
		`envoy_control_plane_connected_state`,
		`envoy_listener_manager_lds_update_rejected`,
		`envoy_server_uptime`,
	} {
		if !regexp.MustCompile("(?m)^" + want).MatchString(metrics) {
			t.Errorf("no metric %s", want)
		}
	}
	if strings.Contains(metrics, "upstream_rq_") || strings.Contains(metrics, "envoy_in_alpha") {
		t.Error("metrics hold what the inclusion list leaves out, or a name of ours outside the labels")
	}
	for path, want := range map[string]int{
		"/metrics?filter=x": 200, "/config_dump": 404, "/": 404, "/metrics/": 404, "/stats": 404,
		"/metrics/../config_dump": 404, "/metrics%2f..%2fconfig_dump": 404, "/quitquitquit": 404,
		"/ready": 200,
	} {
		if status, _ := get(t, http.MethodGet, base+path); status != want {
			t.Errorf("GET %s: %d, want %d", path, status, want)
		}
	}
	if status, _ := get(t, http.MethodPost, base+"/metrics"); status != 404 {
		t.Errorf("POST /metrics: %d, want 404", status)
	}
}

// withTraffic adds what the control plane would send: a listener and clusters with our names.
func withTraffic(t *testing.T, text []byte) []byte {
	t.Helper()
	var b map[string]any
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	static := b["static_resources"].(map[string]any)
	for _, name := range []string{"out~beta~db~default", "svc~db~default", "app"} {
		static["clusters"] = append(static["clusters"].([]any), object(t, fmt.Sprintf(`{"name": %q, "type": "STATIC", "load_assignment":
			{"cluster_name": %q, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 9}}}}]}]}}`, name, name)))
	}
	static["listeners"] = append(static["listeners"].([]any), object(t, fmt.Sprintf(`{"name": "in", "stat_prefix": "in",
		"address": {"socket_address": {"address": "127.0.0.1", "port_value": %d}}, "filter_chains": [{"filters": [
		{"name": "rbac", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC", "stat_prefix": "in~alpha~db~default", "rules": {}}},
		{"name": "limit", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit", "stat_prefix": "in~alpha~db~default", "max_connections": 5}},
		{"name": "tcp", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "in~alpha~db~default", "cluster": "app"}}]}]}`, freePort(t))))
	changed, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func object(t *testing.T, text string) any {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// run starts Envoy, ends it with the test, and returns its log line by line.
func run(t *testing.T, binary string, arguments []string) <-chan string {
	t.Helper()
	reader, writer := io.Pipe()
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(reader); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer writer.Close()
		if _, err := (Process{Binary: binary, Arguments: arguments, Stdout: writer, Stderr: writer}).Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return lines
}

// scrape reads the metrics once Envoy has heard its control plane, which it waits for before it serves anything, and its
// workers listen, which it does not tell.
func scrape(t *testing.T, log <-chan string, base string) string {
	t.Helper()
	var seen bytes.Buffer
	deadline := time.After(30 * time.Second)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case line, ok := <-log:
			if !ok {
				t.Fatalf("Envoy ended:\n%s", seen.String())
			}
			fmt.Fprintln(&seen, line)
		case <-deadline:
			t.Fatalf("Envoy did not start its workers:\n%s", seen.String())
		case <-again.C:
			status, body, err := ask(t, http.MethodGet, base+"/metrics")
			if err == nil && status == http.StatusOK {
				return body
			}
		}
	}
}

func get(t *testing.T, method, url string) (int, string) {
	t.Helper()
	status, body, err := ask(t, method, url)
	if err != nil {
		t.Fatal(err)
	}
	return status, body
}

// ask sends one request as it is written: no redirect is followed, and the path is not cleaned.
func ask(t *testing.T, method, url string) (int, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}
