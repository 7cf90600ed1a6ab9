package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Cluster is one operator's isthmus on one host.
type Cluster struct {
	Lab     *Lab
	Name    string
	Host    *Host
	DataDir string
	HTTP    string // host:port of the API
	Server  *Process
	args    []string
}

// The ports of every cluster. Hosts do not share addresses, so clusters can share ports.
const (
	HTTPPort    = "8500"
	XDSPort     = "8502"
	PeeringPort = "8503"
)

// Cluster starts an isthmus on a new host and waits until it is ready. All datacenters are called dc1. args are further
// flags of `isthmus serve`.
func (l *Lab) Cluster(name string, args ...string) *Cluster {
	l.T.Helper()
	return l.ClusterOn(l.Host(name), args...)
}

// ClusterOn is Cluster on a host that is there, whose name is the cluster's.
func (l *Lab) ClusterOn(h *Host, args ...string) *Cluster {
	l.T.Helper()
	c := &Cluster{Lab: l, Name: h.Name, Host: h, DataDir: l.Path(h.Name + "-data"), HTTP: h.API + ":" + HTTPPort}
	c.args = append([]string{
		"serve", "--data-dir", c.DataDir, "--datacenter", "dc1", "--node-name", h.Name, "--http-addr", c.HTTP,
		"--xds-addr", h.XDS + ":" + XDSPort, "--peering-addr", h.Peering + ":" + PeeringPort,
		"--allow-peer-addresses", "127.0.0.0/8", "--log-level", "debug",
	}, args...)
	c.Start()
	return c
}

// Start starts the server again after it was ended, and waits until it is ready.
func (c *Cluster) Start() {
	c.Lab.T.Helper()
	c.Server = c.Lab.start("isthmus "+c.Name, c.Host.Command(c.Lab.Binary, c.args...))
	c.Lab.Eventually("isthmus "+c.Name+" is ready", func() error {
		if !c.Server.Running() {
			return errors.New("it has ended")
		}
		_, err := c.Get("/readyz")
		return err
	})
}

// Get asks the API as an operator and returns the body of a 200.
func (c *Cluster) Get(path string) (string, error) {
	status, body, err := c.Request(http.MethodGet, path, "")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: %d: %s", path, status, body)
	}
	return body, err
}

// Request sends a request as an operator and returns the status and body of the answer.
func (c *Cluster) Request(method, path, body string) (int, string, error) {
	token, _ := os.ReadFile(c.DataDir + "/operator.token") // there is none before the first start
	return c.Host.request(method, "http://"+c.HTTP+path, strings.TrimSpace(string(token)), body)
}

// request sends a request from a host and returns the status and body of the answer.
func (h *Host) request(method, url, token, body string) (int, string, error) {
	dial := func(ctx context.Context, _, address string) (net.Conn, error) { return h.DialOutside(ctx, address) }
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		request.Header.Set("X-Consul-Token", token)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, string(answer), err
}

// JSON asks the API and decodes the answer into v.
func (c *Cluster) JSON(path string, v any) error {
	body, err := c.Get(path)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(body), v)
}

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Try runs the CLI against the cluster.
func (c *Cluster) Try(args ...string) Result {
	c.Lab.T.Helper()
	return c.Do(c.command(args...))
}

func (c *Cluster) command(args ...string) *exec.Cmd {
	cmd := c.Host.Command(c.Lab.Binary, args...)
	cmd.Env = append(os.Environ(), "ISTHMUS_HTTP_ADDR="+c.HTTP, "ISTHMUS_HTTP_TOKEN_FILE="+c.DataDir+"/operator.token", "ISTHMUS_ENVOY="+c.Lab.Envoy)
	return cmd
}

// Do runs a command to its end.
func (c *Cluster) Do(cmd *exec.Cmd) Result {
	c.Lab.T.Helper()
	return c.Lab.do(cmd)
}

// CLI runs the CLI against the cluster, which must succeed, and returns what it printed.
func (c *Cluster) CLI(args ...string) string {
	c.Lab.T.Helper()
	r := c.Try(args...)
	if r.Code != 0 {
		c.Lab.T.Fatalf("%s: isthmus %s: exit %d\n%s%s", c.Name, strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// Config writes a config entry, given in HCL.
func (c *Cluster) Config(entry string) {
	c.Lab.T.Helper()
	c.CLI("config", "write", c.Lab.Write(fmt.Sprintf("%s-%d.hcl", c.Name, time.Now().UnixNano()), entry))
}

// Register registers what a service definition in HCL says.
func (c *Cluster) Register(definition string) {
	c.Lab.T.Helper()
	c.CLI("services", "register", c.Lab.Write(fmt.Sprintf("%s-%d.hcl", c.Name, time.Now().UnixNano()), definition))
}

// Envoy starts the Envoy of a registered proxy with the bootstrap that args of `isthmus envoy-bootstrap` ask for, and
// waits until it is live.
func (c *Cluster) Envoy(name string, args ...string) *Envoy {
	c.Lab.T.Helper()
	e := &Envoy{Name: name, lab: c.Lab, host: c.Name, cluster: c, admin: c.Lab.Path(name+"-"+c.Name) + "/admin"}
	e.dial = dialUnix(e.admin)
	if err := os.Mkdir(filepath.Dir(e.admin), 0o777); err != nil {
		c.Lab.T.Fatal(err)
	}
	args = append([]string{"envoy-bootstrap", "--xds-addr", c.Host.XDS + ":" + XDSPort, "--admin-socket", e.admin, "--concurrency", "1"}, args...)
	e.Process = c.Lab.runner.envoy(e, args)
	e.ready()
	return e
}

// envoyFlags are those of every Envoy of the lab, besides what isthmus adds.
var envoyFlags = []string{"--log-level", "info"}

// runner starts Envoys: as processes, or as containers.
type runner interface {
	// envoy starts an Envoy with the bootstrap that args, a command line of isthmus, asks for.
	envoy(e *Envoy, args []string) *Process
}

// processes runs each Envoy as `isthmus envoy-bootstrap … -- flags` does.
type processes struct{}

func (processes) envoy(e *Envoy, args []string) *Process {
	args = append(append(args, "--"), envoyFlags...)
	return e.cluster.Lab.start("envoy "+e.Name+"@"+e.cluster.Name, e.cluster.command(args...))
}

// Gateway registers and starts a mesh gateway: ingress on the host's WAN address, egress on its LAN address.
func (c *Cluster) Gateway() *Envoy {
	c.Lab.T.Helper()
	return c.Envoy("gateway", "--gateway=mesh", "--name", "mesh-gateway", "--register",
		"--address", c.Host.WAN+":8443", "--wan-address", c.Host.WAN+":8443", "--egress-address", c.Host.Egress+":8444")
}

// Sidecar starts the sidecar of a registered service.
func (c *Cluster) Sidecar(service string) *Envoy {
	c.Lab.T.Helper()
	return c.Envoy("sidecar-"+service, "--sidecar-for", service)
}

// Peer peers two clusters: the acceptor makes a token for name, which the dialer establishes as as.
func (c *Cluster) Peer(name string, dialer *Cluster, as string) {
	c.Lab.T.Helper()
	token := c.CLI("peering", "generate-token", "--name", name)
	dialer.CLI("peering", "establish", "--name", as, "--peering-token", token)
	for _, end := range []struct {
		c    *Cluster
		peer string
	}{{c, name}, {dialer, as}} {
		c.Lab.Eventually(end.c.Name+" has "+end.peer+" ACTIVE", func() error {
			var answer struct{ State string }
			if err := end.c.JSON("/v1/peering/"+end.peer, &answer); err != nil {
				return err
			}
			if answer.State != "ACTIVE" {
				return fmt.Errorf("it is %s", answer.State)
			}
			return nil
		})
	}
}

// FreePort returns a port that nobody listens on, on an address of the host.
func (h *Host) FreePort(address string) (string, error) {
	listener, err := h.Listen(net.JoinHostPort(address, "0"))
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return port, errors.Join(err, listener.Close())
}

// With starts another server on the cluster's data directory, whose flags are followed by args: the last one counts.
func (c *Cluster) With(args ...string) *Cluster {
	c.Lab.T.Helper()
	other := *c
	other.args = append(append([]string{}, c.args...), args...)
	other.Start()
	return &other
}
