package lab

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The versions of Consul that tests run: one for each dialect of the stream.
const (
	Consul115 = "1.15.3"
	Consul113 = "1.13.9"
)

// Consul is one operator's Consul server on one host, with a durable data directory.
type Consul struct {
	Lab     *Lab
	Name    string
	Version string
	Host    *Host
	HTTP    string // host:port of the API
	Server  *Process
	config  string // file
	admins  int    // admin ports given away
}

// Consul starts a Consul server on a new host and waits until it has a leader and a CA. Its datacenter is dc1, like all
// others; what others reach of it is at the host's WAN address.
func (l *Lab) Consul(name, version string) *Consul {
	l.T.Helper()
	h := l.Host(name)
	c := &Consul{Lab: l, Name: name, Version: version, Host: h, HTTP: h.API + ":" + HTTPPort}
	c.configure()
	c.Start()
	return c
}

// Upgrade ends the server and starts another version with the state that it had, out of a snapshot: the log of the one is
// not that of the other.
func (c *Consul) Upgrade(version string) {
	c.Lab.T.Helper()
	snapshot := c.Lab.Path(c.Name + ".snapshot")
	c.CLI("snapshot", "save", snapshot)
	c.Server.Kill()
	if err := os.RemoveAll(c.data() + "/raft"); err != nil {
		c.Lab.T.Fatal(err)
	}
	c.Version = version
	c.configure()
	c.Start()
	c.CLI("snapshot", "restore", snapshot)
	c.Server.Kill() // what it holds in memory is of the empty state, and its own row in the catalog is the old version's
	c.Start()
}

func (c *Consul) data() string { return c.Lab.Path(c.Name + "-consul") }

// configure writes the server's configuration. Version 1.13 has one gRPC port for proxies and peers, and later ones keep
// that one open for peers that know no other.
func (c *Consul) configure() {
	c.Lab.T.Helper()
	h := c.Host
	addresses := map[string]string{"http": h.API, "grpc": h.XDS + " " + h.Peering}
	ports := map[string]int{"http": 8500, "grpc": 8502, "dns": -1, "serf_wan": -1}
	if c.Version != Consul113 {
		addresses["grpc_tls"], ports["grpc_tls"] = h.Peering, 8503
	}
	text, err := json.Marshal(map[string]any{
		"datacenter": "dc1", "node_name": c.Name, "data_dir": c.data(),
		"server": true, "bootstrap_expect": 1, "performance": map[string]int{"raft_multiplier": 1},
		"bind_addr": h.WAN, "advertise_addr": h.WAN, "client_addr": h.API, "addresses": addresses, "ports": ports,
		"connect": map[string]bool{"enabled": true}, "peering": map[string]bool{"enabled": true},
		"disable_update_check": true, "log_level": "DEBUG",
	})
	if err != nil {
		c.Lab.T.Fatal(err)
	}
	c.config = c.Lab.Write(c.Name+"-consul.json", string(text))
}

// consulBinary returns the program of a version, which is built when it is not there.
func (l *Lab) consulBinary(version string) string {
	l.T.Helper()
	cmd := exec.Command(filepath.Join(Root(l.T), "e2e", "get-consul.sh"), version)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		l.T.Fatalf("consul %s: %v", version, err)
	}
	return strings.TrimSpace(string(out))
}

// Start starts the server again after it was ended, and waits until it serves.
func (c *Consul) Start() {
	c.Lab.T.Helper()
	c.Server = c.Lab.start("consul "+c.Name, c.Host.Command(c.Lab.consulBinary(c.Version), "agent", "-config-file", c.config))
	c.Lab.Eventually("consul "+c.Name+" has a leader and a CA", func() error {
		if !c.Server.Running() {
			c.Lab.T.Fatalf("consul %s has ended: %s", c.Name, c.Server.output.tail(1000))
		}
		var roots struct{ Roots []struct{ Active bool } }
		if err := c.JSON("/v1/connect/ca/roots", &roots); err != nil {
			return err
		}
		var servers []struct{ ServiceName string }
		if err := c.JSON("/v1/catalog/service/consul", &servers); err != nil {
			return err
		}
		if len(roots.Roots) == 0 || len(servers) == 0 {
			return fmt.Errorf("%d roots, %d servers in the catalog", len(roots.Roots), len(servers))
		}
		return nil
	})
}

// Request sends a request to the API and returns the status and body of the answer.
func (c *Consul) Request(method, path, body string) (int, string, error) {
	return c.Host.request(method, "http://"+c.HTTP+path, "", body)
}

// JSON asks the API and decodes the answer into v.
func (c *Consul) JSON(path string, v any) error {
	status, body, err := c.Request(http.MethodGet, path, "")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: %d: %s", path, status, body)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(body), v)
}

// Try runs Consul's CLI against the server. The one of 1.13 has no verbs for peerings: those are the newer one's.
func (c *Consul) Try(args ...string) Result {
	c.Lab.T.Helper()
	version := c.Version
	if args[0] == "peering" {
		version = Consul115
	}
	cmd := c.Host.Command(c.Lab.consulBinary(version), args...)
	cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+c.HTTP, "CONSUL_GRPC_ADDR="+c.Host.XDS+":"+XDSPort)
	return c.Lab.do(cmd)
}

// CLI runs Consul's CLI against the server, which must succeed, and returns what it printed.
func (c *Consul) CLI(args ...string) string {
	c.Lab.T.Helper()
	r := c.Try(args...)
	if r.Code != 0 {
		c.Lab.T.Fatalf("%s: consul %s: exit %d\n%s%s", c.Name, strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// RotateCA makes a new root, which the old one vouches for, and signs with it from now on.
func (c *Consul) RotateCA() {
	c.Lab.T.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.Lab.T.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		c.Lab.T.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"Provider": "consul", "Config": map[string]string{
		"PrivateKey":  string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})),
		"LeafCertTTL": "72h", "IntermediateCertTTL": "8760h", "RootCertTTL": "87600h",
	}})
	if err != nil {
		c.Lab.T.Fatal(err)
	}
	if status, body, err := c.Request(http.MethodPut, "/v1/connect/ca/configuration", string(text)); err != nil || status != http.StatusOK {
		c.Lab.T.Fatalf("consul %s: rotate: %d: %s: %v", c.Name, status, body, err)
	}
}

// Gateway registers and starts a mesh gateway at the host's WAN address.
func (c *Consul) Gateway() *Envoy {
	c.Lab.T.Helper()
	args := []string{"-gateway=mesh", "-register", "-service", "mesh-gateway", "-address", c.Host.WAN + ":8443", "-wan-address", c.Host.WAN + ":8443"}
	if !c.Lab.Isolated() {
		args = append(args, "-bind-address", "wan="+c.Host.WAN+":8443") // else it wants the address of a network device
	}
	return c.Envoy("gateway", args...)
}

// Sidecar starts the sidecar of a registered service.
func (c *Consul) Sidecar(service string) *Envoy {
	c.Lab.T.Helper()
	return c.Envoy("sidecar-"+service, "-sidecar-for", service)
}

// Envoy starts an Envoy with the bootstrap that args of `consul connect envoy` ask for, as it is printed.
func (c *Consul) Envoy(name string, args ...string) *Envoy {
	c.Lab.T.Helper()
	admin := c.AdminAddress()
	args = append([]string{"connect", "envoy", "-bootstrap", "-admin-bind", admin}, args...)
	if c.Version == Consul115 {
		args = append(args, "-ignore-envoy-compatibility")
	}
	return c.RunEnvoy(name, admin, c.CLI(args...))
}

// AdminAddress returns an address for the admin interface of one more Envoy.
func (c *Consul) AdminAddress() string {
	c.admins++
	return fmt.Sprintf("%s:%d", c.Host.API, 19000+c.admins)
}

// RunEnvoy starts an Envoy on the host with a bootstrap in JSON, whose admin interface is at an address, and waits until
// it is live.
func (c *Consul) RunEnvoy(name, admin, bootstrap string) *Envoy {
	c.Lab.T.Helper()
	e := &Envoy{Name: name, lab: c.Lab, host: c.Name, admin: admin}
	e.dial = dialAlways(c.Host, admin)
	file := c.Lab.Write(name+"-"+c.Name+".json", bootstrap)
	args := append([]string{"--config-path", file, "--disable-hot-restart", "--concurrency", "1"}, envoyFlags...)
	e.Process = c.Lab.start("envoy "+name+"@"+c.Name, c.Host.Command(c.Lab.Envoy, args...))
	e.ready()
	return e
}

// do runs a command to its end.
func (l *Lab) do(cmd *exec.Cmd) Result {
	l.T.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		l.T.Fatalf("%v: %v", cmd.Args, err)
	}
	return Result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}
