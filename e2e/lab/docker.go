package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// engine is the container engine of a whole test run: the one that runs, or one that we start.
type engine struct {
	once sync.Once
	err  error
	dir  string    // of an engine of our own, else empty
	cmd  *exec.Cmd // of an engine of our own
}

var docker engine

// StopEngine ends the container engine if this run started it. TestMain calls it.
func StopEngine() {
	if docker.cmd != nil {
		_ = docker.cmd.Process.Signal(os.Interrupt) // it may have ended
		_ = docker.cmd.Wait()                       // how it ended does not matter any more
		_ = os.RemoveAll(docker.dir)
	}
}

// image is built from the Envoy binary and the libraries that it names: no image has to be pulled.
const image = "isthmus-e2e-envoy:test"

// NewDocker returns a lab whose Envoys run in containers. Each host has a bridge network, isolated from the others;
// gateways are in one more, which is where they meet and
// where sidecars dial them. Control planes and applications run beside the engine, which
// reaches all networks. No engine is a failure.
func NewDocker(t *testing.T) *Lab {
	t.Helper()
	l := New(t)
	docker.once.Do(func() { docker.err = docker.start(l) })
	if docker.err != nil {
		t.Fatalf("container engine: %v", docker.err)
	}
	d := &containers{lab: l, prefix: fmt.Sprintf("isthmus-%d-%d", os.Getpid(), namespaceCount.Add(1)), pods: map[string]string{}}
	d.network(d.prefix+"-wan", "10.98.99")
	l.net, l.runner = d, d
	return l
}

func (e *engine) start(l *Lab) error {
	if _, err := run("docker", "info"); err != nil {
		if e.dir, err = os.MkdirTemp("", "isthmus-docker"); err != nil {
			return err
		}
		socket := "unix://" + e.dir + "/docker.sock"
		e.cmd = exec.Command("dockerd", "--data-root", e.dir+"/data", "--exec-root", e.dir+"/exec", "--pidfile", e.dir+"/pid", "--host", socket, "--bridge", "none")
		if err := e.cmd.Start(); err != nil {
			return err
		}
		if err := os.Setenv("DOCKER_HOST", socket); err != nil {
			return err
		}
		l.Eventually("the container engine answers", func() error {
			_, err := run("docker", "info")
			return err
		})
	}
	return e.build(l)
}

// build imports an image that holds Envoy and the shared libraries that it is linked with.
func (e *engine) build(l *Lab) error {
	root := l.Path("image")
	libraries, err := run("ldd", l.Envoy)
	if err != nil {
		return err
	}
	files := map[string]string{l.Envoy: "/usr/local/bin/envoy"}
	for _, word := range strings.Fields(libraries) {
		if strings.HasPrefix(word, "/") {
			files[word] = word
		}
	}
	for from, to := range files {
		if err := os.MkdirAll(filepath.Dir(root+to), 0o755); err != nil {
			return err
		}
		if _, err := run("cp", "--dereference", from, root+to); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(root+"/tmp", 0o777); err != nil {
		return err
	}
	_, err = run("sh", "-c", fmt.Sprintf("tar -C %q -c . | docker import -c 'ENTRYPOINT [\"/usr/local/bin/envoy\"]' - %s", root, image))
	return err
}

// containers is both the network and the runner of a lab with an engine.
type containers struct {
	lab    *Lab
	prefix string
	hosts  int
	pods   map[string]string // host to the container whose network its sidecars share
}

func (d *containers) isolated() bool { return true }

// network makes a bridge network whose addresses start with prefix.
func (d *containers) network(name, prefix string) {
	d.lab.T.Helper()
	if _, err := run("docker", "network", "create", "--subnet", prefix+".0/24", "--gateway", prefix+".1", name); err != nil {
		d.lab.T.Fatal(err)
	}
	d.lab.T.Cleanup(func() {
		if _, err := run("docker", "network", "rm", name); err != nil {
			d.lab.T.Log(err)
		}
	})
}

func (d *containers) host(_ *testing.T, name string) *Host {
	d.hosts++
	prefix := fmt.Sprintf("10.98.%d", d.hosts)
	d.network(d.prefix+"-"+name, prefix)
	own := prefix + ".1" // the engine's own end of the bridge
	return &Host{
		Name: name, API: fmt.Sprintf("127.98.%d.1", d.hosts), XDS: own, Peering: own, App: own,
		Upstream: "127.0.0.1", Sidecar: prefix + ".10", Egress: prefix + ".2", WAN: fmt.Sprintf("10.98.99.%d", 1+d.hosts),
	}
}

// envoy runs an Envoy in a container: a gateway on its cluster's network and on the one between gateways, sidecars
// together in one network namespace, as in a pod.
func (d *containers) envoy(e *Envoy, args []string) *Process {
	t, host := d.lab.T, e.cluster.Host
	t.Helper()
	dir := filepath.Dir(e.admin)
	e.cluster.CLI(append(args, "--out", dir+"/envoy.json", "--drain-time-s", "8")...)
	name := fmt.Sprintf("%s-%s-%s", d.prefix, host.Name, e.Name)
	network := []string{"--network", d.prefix + "-" + host.Name, "--ip", host.Egress}
	gateway := e.Name == "gateway"
	pod, joined := d.pods[host.Name]
	switch {
	case joined && !gateway:
		network = []string{"--network", "container:" + pod}
	case !gateway:
		network[3] = host.Sidecar
	}
	create := append([]string{"create", "--rm", "--name", name, "--volume", dir + ":" + dir}, network...)
	create = append(append(create, image, "--config-path", dir+"/envoy.json", "--drain-strategy", "immediate", "--drain-time-s", "8", "--parent-shutdown-time-s", "12", "--disable-hot-restart", "--concurrency", "1"), envoyFlags...)
	d.run(create...)
	t.Cleanup(func() { _, _ = run("docker", "rm", "--force", name) }) // it is gone when all went well
	switch {
	case gateway:
		d.run("network", "connect", "--ip", host.WAN, d.prefix+"-wan", name)
	case !joined:
		// Callers dial other clusters' gateways from here; what listens here does so on the cluster's network only.
		d.run("network", "connect", "--ip", fmt.Sprintf("10.98.99.%d", 100+len(d.pods)), d.prefix+"-wan", name)
	}
	p := d.lab.start("container "+e.Name+"@"+host.Name, exec.Command("docker", "start", "--attach", name))
	if !gateway && !joined {
		d.pods[host.Name] = name
		d.enter(host, name)
	}
	return p
}

// enter lets callers on a host dial from a container's network.
func (d *containers) enter(host *Host, container string) {
	d.lab.Eventually(container+" runs", func() error {
		pid, err := run("docker", "inspect", "--format", "{{.State.Pid}}", container)
		if err == nil && strings.TrimSpace(pid) == "0" {
			err = fmt.Errorf("it does not")
		}
		host.callers = "/proc/" + strings.TrimSpace(pid) + "/ns/net"
		return err
	})
}

func (d *containers) run(args ...string) {
	d.lab.T.Helper()
	if _, err := run("docker", args...); err != nil {
		d.lab.T.Fatal(err)
	}
}
