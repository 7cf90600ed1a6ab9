package bootstrap

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/isthmus-mesh/isthmus/internal/redact"
)

func sidecarConfig(t *testing.T) Config {
	t.Helper()
	_, roots, _ := serveXDS(t)
	return Config{
		Node: Node{ID: "web-sidecar-proxy", Cluster: "web", Families: []string{"ipv4"}},
		XDS: XDS{
			Addresses: []string{"127.0.0.1:8502"},
			CAPEM:     roots,
			SAN:       serverID,
			Token:     redact.NewString("proxy-token"),
		},
		Admin:   Endpoint{Path: filepath.Join(t.TempDir(), "admin.sock")},
		Metrics: Endpoint{Host: "127.0.0.1", Port: freePort(t)},
	}
}

func gatewayConfig(t *testing.T) Config {
	t.Helper()
	cfg := sidecarConfig(t)
	cfg.Node = Node{ID: "gw", Cluster: "gw", Zone: "a", DrainSeconds: 20, Families: []string{"ipv4", "ipv6"}}
	cfg.XDS.Addresses = []string{"isthmus.example:8502", "[2001:db8::1]:8502"}
	cfg.XDS.SAN = "isthmus.example"
	cfg.Admin = Endpoint{Host: "127.0.0.1", Port: freePort(t)}
	cfg.Limits = Limits{Connections: 1000, HeapBytes: 1 << 30}
	return cfg
}

func parsed(t *testing.T, cfg Config) *bootstrapv3.Bootstrap {
	t.Helper()
	text, err := Bootstrap(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := &bootstrapv3.Bootstrap{}
	if err := protojson.Unmarshal(text, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSameConfigSameBytes(t *testing.T) {
	cfg := gatewayConfig(t)
	first, err := Bootstrap(cfg)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Bootstrap(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error(cmp.Diff(string(first), string(second)))
	}
}

func TestNodeSaysHowItDrains(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"nobody knows", sidecarConfig(t), `{"config_schema":1,"families":["ipv4"]}`},
		{"known", gatewayConfig(t), `{"config_schema":1,"drain_s":20,"families":["ipv4","ipv6"]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			node := parsed(t, tt.cfg).GetNode()
			got, err := json.Marshal(node.GetMetadata().AsMap()["isthmus"])
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("metadata isthmus: %s, want %s", got, tt.want)
			}
			if node.GetId() != tt.cfg.Node.ID {
				t.Errorf("node id %q, want the proxy ID %q", node.GetId(), tt.cfg.Node.ID)
			}
		})
	}
}

func TestXDSClusterTrustsOneNameOnly(t *testing.T) {
	for _, tt := range []struct {
		name              string
		cfg               Config
		sanType, sni, san string
		dns               bool
	}{
		{"SPIFFE ID and IP", sidecarConfig(t), "URI", "", serverID, false},
		{"DNS names", gatewayConfig(t), "DNS", "isthmus.example", "isthmus.example", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cluster, err := adsCluster(tt.cfg.XDS)
			if err != nil {
				t.Fatal(err)
			}
			tls := tlsToXDS(tt.cfg.XDS)
			matchers := tls.GetCommonTlsContext().GetValidationContext().GetMatchTypedSubjectAltNames()
			if len(matchers) != 1 || matchers[0].GetSanType().String() != tt.sanType || matchers[0].GetMatcher().GetExact() != tt.san {
				t.Errorf("SAN matchers %v, want exactly %s %s", matchers, tt.sanType, tt.san)
			}
			if tls.GetSni() != tt.sni {
				t.Errorf("SNI %q, want %q", tls.GetSni(), tt.sni)
			}
			if minimum := tls.GetCommonTlsContext().GetTlsParams().GetTlsMinimumProtocolVersion().String(); minimum != "TLSv1_3" {
				t.Errorf("minimum %s, want TLSv1_3", minimum)
			}
			if isDNS := cluster.GetType().String() == "STRICT_DNS"; isDNS != tt.dns {
				t.Errorf("discovery %s, want DNS: %v", cluster.GetType(), tt.dns)
			}
		})
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	for _, tt := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Node.ID = "" }, "no proxy ID"},
		{func(c *Config) { c.XDS.CAPEM = "" }, "bootstrap of web-sidecar-proxy: no roots"},
		{func(c *Config) { c.XDS.SAN = "" }, "no name for the xDS server"},
		{func(c *Config) { c.XDS.Token = redact.String{} }, "no token"},
		{func(c *Config) { c.XDS.Addresses = nil }, "no address"},
		{func(c *Config) { c.XDS.Addresses = []string{"127.0.0.1"} }, `xDS address "127.0.0.1": want host:port`},
		{func(c *Config) { c.XDS.Addresses = []string{"127.0.0.1:0"} }, "want a port from 1 to 65535"},
		{func(c *Config) { c.Admin = Endpoint{} }, "no admin address"},
	} {
		t.Run(tt.want, func(t *testing.T) {
			cfg := sidecarConfig(t)
			tt.change(&cfg)
			if _, err := Bootstrap(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestParseEndpoint(t *testing.T) {
	for _, tt := range []struct{ in, want, err string }{
		{in: "127.0.0.1:19000", want: "127.0.0.1:19000"},
		{in: "localhost:19000", want: "127.0.0.1:19000"},
		{in: "[::1]:19000", want: "[::1]:19000"},
		{in: "unix:///run/a.sock", want: "unix:///run/a.sock"},
		{in: "/run/a.sock", want: "unix:///run/a.sock"},
		{in: "/" + strings.Repeat("x", 200), err: "want at most 103"},
		{in: "example.com:80", err: "want an IP before the port"},
		{in: "127.0.0.1:0", err: "want a port"},
		{in: "19000", err: "want IP:port or unix:///path"},
	} {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseEndpoint(tt.in)
			switch {
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("error %v, want %q in it", err, tt.err)
			case tt.err == "" && (err != nil || got.String() != tt.want):
				t.Errorf("%v, %v; want %s", got, err, tt.want)
			}
		})
	}
}

func TestWriteFileIsPrivate(t *testing.T) {
	name := filepath.Join(t.TempDir(), "b.json")
	if err := os.WriteFile(name, []byte("older, open to all"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(name, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode().Perm())
	}
	if err := WriteFile(filepath.Join(t.TempDir(), "bootstrap"), nil); err == nil || !strings.Contains(err.Error(), "ends in .json or .yaml") {
		t.Errorf("error %v, want the endings that Envoy knows", err)
	}
}

func TestSocketPathIsOurs(t *testing.T) {
	open := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", open)
	path, err := SocketPath("node-1/gw")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(open, "isthmus", "node-1_gw.admin.sock"); path != want {
		t.Errorf("%s, want %s", path, want)
	}
	if err := os.Chmod(filepath.Join(open, "isthmus"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := SocketPath("gw"); err == nil || !strings.Contains(err.Error(), "only we can enter") {
		t.Errorf("error %v, want the folder refused", err)
	}
}

func TestArgumentsYieldToTheUsers(t *testing.T) {
	got := strings.Join(Arguments("b.json", 2, []string{"--drain-time-s=30", "--base-id", "7", "-l", "debug"}), " ")
	want := "--config-path b.json --drain-strategy immediate --parent-shutdown-time-s 12 --concurrency 2 --drain-time-s=30 --base-id 7 -l debug"
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	got = strings.Join(Arguments("b.json", 0, nil), " ")
	want = "--config-path b.json --drain-strategy immediate --drain-time-s 8 --parent-shutdown-time-s 12 --disable-hot-restart"
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestFamilies(t *testing.T) {
	for _, tt := range []struct {
		addresses []string
		want      string
	}{
		{[]string{"127.0.0.1/8", "::1/128"}, "ipv4"},
		{[]string{"127.0.0.1/8", "10.0.0.1/8", "fe80::1/64"}, "ipv4"},
		{[]string{"2001:db8::1/64"}, "ipv6"},
		{[]string{"10.0.0.1/8", "2001:db8::1/64"}, "ipv4,ipv6"},
	} {
		var addresses []net.Addr
		for _, text := range tt.addresses {
			ip, network, err := net.ParseCIDR(text)
			if err != nil {
				t.Fatal(err)
			}
			network.IP = ip
			addresses = append(addresses, network)
		}
		if got := strings.Join(families(addresses), ","); got != tt.want {
			t.Errorf("families of %v: %s, want %s", tt.addresses, got, tt.want)
		}
	}
}
