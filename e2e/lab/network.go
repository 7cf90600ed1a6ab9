package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// network makes hosts.
type network interface {
	host(t *testing.T, name string) *Host
	isolated() bool
}

// Host is where one cluster lives: the addresses at which its parts are found, and a way to be there.
type Host struct {
	Name              string
	API, XDS, Peering string // of the control plane
	App, Upstream     string // of applications, and of what sidecars offer them: only programs on this host reach it
	Sidecar, Egress   string // inside the cluster: another host has no way to it, when isolated
	WAN               string // of the gateway: all hosts reach it
	programs, callers string // network namespaces of commands, and of applications; empty: the test's own
	names             string // file in the place of /etc/hosts; empty: the machine's
}

// Host returns a new machine.
func (l *Lab) Host(name string) *Host {
	l.T.Helper()
	return l.net.host(l.T, name)
}

// loopbacks gives each host addresses of its own in 127.0.0.0/8.
type loopbacks struct{ hosts atomic.Int32 }

var loopbackRange = 64 + os.Getpid()%128

func (n *loopbacks) isolated() bool { return false }

func (n *loopbacks) host(_ *testing.T, name string) *Host {
	i := n.hosts.Add(1)
	address := func(last int) string { return fmt.Sprintf("127.%d.%d.%d", loopbackRange, i, last) }
	local, lan, wan := address(1), address(2), address(3)
	return &Host{Name: name, API: local, XDS: local, App: local, Upstream: local, Sidecar: lan, Egress: lan, Peering: wan, WAN: wan}
}

// namespaces gives each host a network namespace, all linked to a bridge in one more.
type namespaces struct {
	prefix string
	hosts  int
}

var namespaceCount atomic.Int32

func newNamespaces(t *testing.T) *namespaces {
	t.Helper()
	n := &namespaces{prefix: fmt.Sprintf("ist%d-%d", os.Getpid(), namespaceCount.Add(1))}
	n.add(t, n.wan())
	n.ip(t, "-n", n.wan(), "link", "add", "br0", "type", "bridge")
	n.ip(t, "-n", n.wan(), "link", "set", "br0", "up")
	return n
}

func (n *namespaces) isolated() bool { return true }
func (n *namespaces) wan() string    { return n.prefix + "-wan" }

func (n *namespaces) ip(t *testing.T, args ...string) {
	t.Helper()
	if _, err := run("ip", args...); err != nil {
		t.Fatal(err)
	}
}

func (n *namespaces) add(t *testing.T, name string) {
	t.Helper()
	n.ip(t, "netns", "add", name)
	t.Cleanup(func() {
		if _, err := run("ip", "netns", "delete", name); err != nil {
			t.Log(err)
		}
	})
	n.ip(t, "-n", name, "link", "set", "lo", "up")
}

func (n *namespaces) host(t *testing.T, name string) *Host {
	t.Helper()
	n.hosts++
	ns := n.prefix + "-" + name
	local, lan, wan := "127.0.0.1", fmt.Sprintf("10.%d.0.1", n.hosts), fmt.Sprintf("10.99.0.%d", n.hosts)
	h := &Host{Name: name, API: local, XDS: local, App: local, Upstream: local, Sidecar: lan, Egress: lan, Peering: wan, WAN: wan}
	h.programs, h.callers = "/run/netns/"+ns, "/run/netns/"+ns
	n.add(t, ns)
	port := fmt.Sprintf("port%d", n.hosts)
	n.ip(t, "-n", ns, "link", "add", "wan0", "type", "veth", "peer", "name", port, "netns", n.wan())
	n.ip(t, "-n", n.wan(), "link", "set", port, "master", "br0", "up")
	n.ip(t, "-n", ns, "address", "add", wan+"/24", "dev", "wan0")
	n.ip(t, "-n", ns, "link", "set", "wan0", "up")
	n.ip(t, "-n", ns, "link", "add", "lan0", "type", "bridge")
	n.ip(t, "-n", ns, "address", "add", lan+"/24", "dev", "lan0")
	n.ip(t, "-n", ns, "link", "set", "lan0", "up")
	return h
}

// Command returns a command that runs on the host.
func (h *Host) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	if h.programs != "" {
		cmd = exec.Command("nsenter", append([]string{"--net=" + h.programs, name}, args...)...)
	}
	return h.named(cmd)
}

// Dial connects as an application of the host does.
func (h *Host) Dial(ctx context.Context, address string) (net.Conn, error) {
	return dialFrom(ctx, h.callers, address)
}

// DialOutside connects from where the host's gateway meets others.
func (h *Host) DialOutside(ctx context.Context, address string) (net.Conn, error) {
	return dialFrom(ctx, h.programs, address)
}

func dialFrom(ctx context.Context, namespace, address string) (net.Conn, error) {
	var conn net.Conn
	err := inside(namespace, func() (err error) {
		conn, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
		return err
	})
	return conn, err
}

// Listen listens on the host.
func (h *Host) Listen(address string) (net.Listener, error) {
	var listener net.Listener
	err := inside(h.programs, func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	})
	return listener, err
}

// inside runs f on a thread that is in a network namespace. A socket belongs to the namespace in which it was made.
func inside(namespace string, f func() error) error {
	if namespace == "" {
		return f()
	}
	failed := make(chan error, 1)
	go func() {
		// The thread is not unlocked: it ends with the goroutine, and its namespace with it.
		runtime.LockOSThread()
		ns, err := os.Open(namespace)
		if err != nil {
			failed <- err
			return
		}
		defer func() { _ = ns.Close() }()
		if err := unix.Setns(int(ns.Fd()), syscall.CLONE_NEWNET); err != nil {
			failed <- fmt.Errorf("enter %s: %w", namespace, err)
			return
		}
		failed <- f()
	}()
	return <-failed
}

// dialAlways is an http.Transport's DialContext that connects to one address from a host.
func dialAlways(h *Host, address string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return h.DialOutside(ctx, address) }
}

func dialUnix(name string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", name)
	}
}
