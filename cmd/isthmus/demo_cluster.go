package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// demoCluster is one operator: a server, a gateway and one sidecar, all on loopback ports that were free.
type demoCluster struct {
	demo                   *demo
	name, data             string
	http, xds, peering     string // host:port
	ingress, egress        string // host:port
	app, inbound, upstream string // ports
}

func newDemoCluster(d *demo, name string) *demoCluster {
	c := &demoCluster{demo: d, name: name, data: filepath.Join(d.dir, name)}
	ports := freePorts(8)
	for i, address := range []*string{&c.http, &c.xds, &c.peering, &c.ingress, &c.egress} {
		*address = "127.0.0.1:" + ports[i]
	}
	c.app, c.inbound, c.upstream = ports[5], ports[6], ports[7]
	return c
}

// freePorts returns ports of 127.0.0.1 that nobody listens on. They are held together until all are known, so that they
// differ.
func freePorts(n int) []string {
	ports := make([]string, n)
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			ports[i] = "0" // whoever is to listen there says what is wrong
			continue
		}
		defer func() { _ = listener.Close() }()
		_, ports[i], _ = net.SplitHostPort(listener.Addr().String()) // an address of the kernel's
	}
	return ports
}

// words returns the command line that a person would type.
func (c *demoCluster) words(args ...string) string {
	return "isthmus " + strings.Join(append(args, "--http-addr", c.http, "--token-file", c.data+"/operator.token"), " ")
}

// cli runs one of our verbs against the cluster and returns what it printed.
func (c *demoCluster) cli(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.demo.self, append(args, "--http-addr", c.http, "--token-file", c.data+"/operator.token")...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %s: %w: %s", c.name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// run is a step that runs one verb.
func (c *demoCluster) run(title, result string, args ...string) demoStep {
	return demoStep{title: title, command: c.words(args...), do: func(ctx context.Context) (string, error) {
		_, err := c.cli(ctx, args...)
		return result, err
	}}
}

// write is a step that writes a file and gives it to a verb.
func (c *demoCluster) write(title, name, text string, verb ...string) demoStep {
	path := filepath.Join(c.demo.dir, name)
	step := c.run(title, "", append(verb, path)...)
	do := step.do
	step.do = func(ctx context.Context) (string, error) {
		if _, err := c.demo.file(name, text); err != nil {
			return "", err
		}
		return do(ctx)
	}
	return step
}

// serve is the step that starts the server.
func (c *demoCluster) serve() demoStep {
	args := []string{
		"serve", "--data-dir", c.data, "--datacenter", "dc1", "--node-name", c.name, "--http-addr", c.http, "--xds-addr", c.xds,
		"--peering-addr", c.peering, "--allow-peer-addresses", "127.0.0.0/8", "--log-level", "warn",
	}
	return demoStep{
		title:   c.name + " starts its control plane (loopback peers are allowed because both live on this machine)",
		command: "isthmus " + strings.Join(args, " "),
		do: func(ctx context.Context) (string, error) {
			if err := c.demo.procs.start(c.name, exec.Command(c.demo.self, args...)); err != nil {
				return "", err
			}
			return c.demo.poll(ctx, func(ctx context.Context) (string, error) {
				return "its own CA, datacenter dc1", c.probe(ctx, "/readyz")
			})
		},
	}
}

func (c *demoCluster) probe(ctx context.Context, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.http+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, response.Status)
	}
	return joinClose(err, response.Body)
}

// gateway is the step that registers and starts the mesh gateway.
func (c *demoCluster) gateway() demoStep {
	return c.envoy(c.name+" starts its mesh gateway", "gateway",
		"--gateway=mesh", "--name", "mesh-gateway", "--register", "--address", c.ingress, "--wan-address", c.ingress, "--egress-address", c.egress)
}

// sidecar is the step that starts the sidecar of a registered service.
func (c *demoCluster) sidecar(service string) demoStep {
	return c.envoy(c.name+" starts the sidecar of "+service, service, "--sidecar-for", service)
}

func (c *demoCluster) envoy(title, name string, args ...string) demoStep {
	admin := filepath.Join(c.demo.dir, c.name+"-"+name+".sock")
	args = append([]string{"envoy-bootstrap"}, args...)
	args = append(args, "--admin-socket", admin, "--envoy-binary", c.demo.envoy, "--concurrency", "1")
	return demoStep{
		title: title, command: c.words(args...) + " -- --log-level error",
		do: func(ctx context.Context) (string, error) {
			typed := append(args, "--http-addr", c.http, "--token-file", c.data+"/operator.token", "--", "--log-level", "error")
			if err := c.demo.procs.start("envoy "+name+" of "+c.name, exec.Command(c.demo.self, typed...)); err != nil {
				return "", err
			}
			return c.demo.poll(ctx, func(ctx context.Context) (string, error) { return "Envoy is live", envoyReady(ctx, admin) })
		},
	}
}

// envoyReady asks an Envoy's admin socket whether it serves.
func envoyReady(ctx context.Context, socket string) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", socket)
	}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://admin/ready", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		err = fmt.Errorf("envoy: %s", response.Status)
	}
	return joinClose(err, response.Body)
}

// active tells that both ends of the peering are ACTIVE.
func (d *demo) active(ctx context.Context) (string, error) {
	for c, peer := range map[*demoCluster]string{d.alpha: "beta", d.beta: "alpha"} {
		text, err := c.cli(ctx, "peering", "read", "--name", peer, "--format", "json")
		if err != nil {
			return "", err
		}
		var answer struct{ State string }
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			return "", err
		}
		if answer.State != "ACTIVE" {
			return "", fmt.Errorf("%s: peering %s is %s", c.name, peer, answer.State)
		}
	}
	return "one TCP connection, alpha to beta", nil
}
