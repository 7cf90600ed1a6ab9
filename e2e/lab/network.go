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

// Host is one machine: LAN is an address that only programs on this host reach (in namespaces), WAN one that all hosts
// reach. Programs on it also have 127.0.0.1 to themselves in namespaces; on loopback they share it, so Local says which
// address stands for it.
type Host struct {
	Name            string
	LAN, WAN, Local string
	namespace       string
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
	return &Host{Name: name, LAN: address(1), WAN: address(2), Local: address(3)}
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
	h := &Host{Name: name, LAN: fmt.Sprintf("10.%d.0.1", n.hosts), WAN: fmt.Sprintf("10.99.0.%d", n.hosts), Local: "127.0.0.1", namespace: ns}
	n.add(t, ns)
	port := fmt.Sprintf("port%d", n.hosts)
	n.ip(t, "-n", ns, "link", "add", "wan0", "type", "veth", "peer", "name", port, "netns", n.wan())
	n.ip(t, "-n", n.wan(), "link", "set", port, "master", "br0", "up")
	n.ip(t, "-n", ns, "address", "add", h.WAN+"/24", "dev", "wan0")
	n.ip(t, "-n", ns, "link", "set", "wan0", "up")
	n.ip(t, "-n", ns, "link", "add", "lan0", "type", "dummy")
	n.ip(t, "-n", ns, "address", "add", h.LAN+"/24", "dev", "lan0")
	n.ip(t, "-n", ns, "link", "set", "lan0", "up")
	return h
}

// Command returns a command that runs on the host.
func (h *Host) Command(name string, args ...string) *exec.Cmd {
	if h.namespace == "" {
		return exec.Command(name, args...)
	}
	return exec.Command("ip", append([]string{"netns", "exec", h.namespace, name}, args...)...)
}

// Dial connects from the host.
func (h *Host) Dial(ctx context.Context, address string) (net.Conn, error) {
	var conn net.Conn
	err := h.inside(func() (err error) {
		conn, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
		return err
	})
	return conn, err
}

// Listen listens on the host.
func (h *Host) Listen(address string) (net.Listener, error) {
	var listener net.Listener
	err := h.inside(func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	})
	return listener, err
}

// inside runs f on a thread that is in the host's namespace. A socket belongs to the namespace in which it was made.
func (h *Host) inside(f func() error) error {
	if h.namespace == "" {
		return f()
	}
	failed := make(chan error, 1)
	go func() {
		// The thread is not unlocked: it ends with the goroutine, and its namespace with it.
		runtime.LockOSThread()
		ns, err := os.Open("/run/netns/" + h.namespace)
		if err != nil {
			failed <- err
			return
		}
		defer func() { _ = ns.Close() }()
		if err := unix.Setns(int(ns.Fd()), syscall.CLONE_NEWNET); err != nil {
			failed <- fmt.Errorf("enter %s: %w", h.namespace, err)
			return
		}
		failed <- f()
	}()
	return <-failed
}

// dial is http.Transport's DialContext from the cluster's host.
func (c *Cluster) dial(ctx context.Context, _, address string) (net.Conn, error) {
	return c.Host.Dial(ctx, address)
}

func dialUnix(name string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", name)
	}
}
