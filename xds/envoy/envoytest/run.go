package envoytest

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// referenceVersion is the Envoy that tests run when nobody says which.
const referenceVersion = "1.40.0"

// Envoy returns the path of an Envoy: $ISTHMUS_ENVOY, the one in $PATH, or the one that `make envoy` put into the user's
// cache. Without one the test fails in CI; elsewhere it says so and ok is false.
func Envoy(t testing.TB) (path string, ok bool) {
	t.Helper()
	if path := os.Getenv("ISTHMUS_ENVOY"); path != "" {
		return path, true
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return path, true
	}
	if cache, err := os.UserCacheDir(); err == nil {
		path := filepath.Join(cache, "isthmus", "envoy", referenceVersion, "envoy")
		if _, err := os.Stat(path); err == nil {
			return path, true
		}
	}
	const missing = "no envoy found: want ISTHMUS_ENVOY, PATH, or `make envoy`"
	if os.Getenv("CI") != "" {
		t.Fatal(missing)
	}
	t.Log(missing)
	return "", false
}

// Bootstrap returns a configuration that holds the set as static resources. What the set takes from ADS is asked of a
// control plane that does not answer.
func Bootstrap(t testing.TB, set *envoy.Set) []byte {
	t.Helper()
	var listeners, clusters []json.RawMessage
	for _, l := range Listeners(t, set) {
		listeners = append(listeners, toJSON(t, l))
	}
	for _, c := range Clusters(t, set) {
		clusters = append(clusters, toJSON(t, c))
	}
	clusters = append(clusters, json.RawMessage(adsCluster))
	text, err := json.Marshal(map[string]any{
		"node":             map[string]any{"id": set.Proxy, "cluster": "test"},
		"static_resources": map[string]any{"listeners": listeners, "clusters": clusters},
		"dynamic_resources": map[string]any{"ads_config": map[string]any{
			"api_type": "DELTA_GRPC", "transport_api_version": "V3",
			"grpc_services": []any{map[string]any{"envoy_grpc": map[string]any{"cluster_name": "ISTHMUS/ADS"}}},
		}},
		"layered_runtime": runtime,
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Envoy's default refuses the expressions that stand for identities; every bootstrap of ours raises it.
var runtime = map[string]any{"layers": []any{map[string]any{
	"name": "static", "static_layer": map[string]any{"re2.max_program_size.error_level": 1048576},
}}}

const adsCluster = `{"name": "ISTHMUS/ADS", "type": "STATIC", "connect_timeout": "1s",
	"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
		"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
		"explicit_http_config": {"http2_protocol_options": {}}}},
	"load_assignment": {"cluster_name": "ISTHMUS/ADS", "endpoints": [{"lb_endpoints": [{"endpoint": {
		"address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}}}}]}]}}`

// Accepts runs `envoy --mode validate` on the set.
func Accepts(t testing.TB, set *envoy.Set) {
	t.Helper()
	path, ok := Envoy(t)
	if !ok {
		return
	}
	config := filepath.Join(t.TempDir(), "envoy.json")
	if err := os.WriteFile(config, Bootstrap(t, set), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(path, "--mode", "validate", "-c", config, "--log-level", "warn", "--concurrency", "1")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
}
