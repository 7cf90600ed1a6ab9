// Package lab makes hosts, clusters, applications and Envoys for black-box tests out of what a user has: the isthmus
// binary, its CLI and real Envoys. It turns a few words of a test into processes on separate networks, and ends them.
package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience is how long anything may take before a test gives up on it: five times the longest promise.
const Patience = 50 * time.Second

// Lab is the world of one test. All that it starts ends with the test.
type Lab struct {
	T      *testing.T
	Dir    string // of files that the test needs; gone afterwards
	Binary string // of isthmus
	Envoy  string // of Envoy
	net    network
	runner runner
	mu     sync.Mutex
	procs  []*Process
}

// New returns an empty lab. Hosts are network namespaces when root, whose only link is a network between gateways, and
// loopback addresses otherwise.
func New(t *testing.T) *Lab {
	t.Helper()
	test, _, _ := strings.Cut(t.Name(), "/")
	ran.Store(test, true)
	l := &Lab{T: t, Dir: shortDir(t), Binary: binary(t), Envoy: EnvoyBinary(t), runner: processes{}}
	if os.Geteuid() == 0 {
		l.net = newNamespaces(t)
	} else {
		l.net = &loopbacks{}
	}
	return l
}

var ran sync.Map // names of the tests that made a lab

// Ran tells whether a test has made a lab.
func Ran(test string) bool {
	_, ok := ran.Load(test)
	return ok
}

// shortDir is t.TempDir with a name that leaves room: the path of a unix socket has 107 bytes at most.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // what a test leaves behind does not fail it
	return dir
}

// Isolated tells whether hosts are separate networks, so that "cannot be reached" can be tested.
func (l *Lab) Isolated() bool { return l.net.isolated() }

// Path returns the name of a file of the test.
func (l *Lab) Path(name string) string { return filepath.Join(l.Dir, name) }

// Write writes a file of the test and returns its name.
func (l *Lab) Write(name, text string) string {
	l.T.Helper()
	if err := os.WriteFile(l.Path(name), []byte(text), 0o600); err != nil {
		l.T.Fatal(err)
	}
	return l.Path(name)
}

// binary returns $ISTHMUS_BINARY, else bin/isthmus of this tree, which `make build` makes.
func binary(t *testing.T) string {
	t.Helper()
	if name := os.Getenv("ISTHMUS_BINARY"); name != "" {
		return name
	}
	name, err := filepath.Abs(filepath.Join(Root(t), "bin", "isthmus"))
	if err == nil {
		_, err = os.Stat(name)
	}
	if err != nil {
		t.Fatalf("no isthmus to test: %v: run `make build`", err)
	}
	return name
}

// Root returns the root folder of this tree.
func Root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "structure_test.go")); err == nil {
			return dir
		}
	}
	t.Fatal("not inside the source tree")
	return ""
}

// EnvoyBinary returns $ISTHMUS_ENVOY, else envoy on PATH, else the newest under the user's cache. None is a failure.
func EnvoyBinary(t *testing.T) string {
	t.Helper()
	if name := os.Getenv("ISTHMUS_ENVOY"); name != "" {
		return name
	}
	if name, err := exec.LookPath("envoy"); err == nil {
		return name
	}
	cache, _ := os.UserCacheDir()
	found, _ := filepath.Glob(filepath.Join(cache, "isthmus", "envoy", "*", "envoy"))
	if len(found) == 0 {
		t.Fatal("no Envoy: run `make envoy`, or set ISTHMUS_ENVOY")
	}
	return found[len(found)-1]
}

// Process is a running program of the lab.
type Process struct {
	Name   string
	cmd    *exec.Cmd
	output *log
	done   chan struct{}
}

// start runs cmd until the test ends. Its output is shown when the test failed.
func (l *Lab) start(name string, cmd *exec.Cmd) *Process {
	l.T.Helper()
	p := &Process{Name: name, cmd: cmd, output: &log{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	if err := cmd.Start(); err != nil {
		l.T.Fatalf("%s: %v", name, err)
	}
	go func() {
		_ = cmd.Wait() // how it ended is in its output
		close(p.done)
	}()
	l.mu.Lock()
	l.procs = append(l.procs, p)
	l.mu.Unlock()
	l.T.Cleanup(func() {
		p.Stop()
		if l.T.Failed() {
			l.T.Logf("--- output of %s ---\n%s", name, p.output.tail(6000))
		}
	})
	return p
}

// Stop asks the process to end, and kills it when it has not after ten seconds.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(os.Interrupt) // it may have ended
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.Kill()
	}
}

// Kill is kill -9.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// Signal sends a signal, for tests that stop and continue a process.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// PID returns the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Running tells whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Output returns all that the process has written.
func (p *Process) Output() string { return p.output.tail(1 << 30) }

type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.text.String()
	return text[max(0, len(text)-n):]
}

// Eventually waits until what is true, and returns how long that took. It fails the test after Patience with what it
// waited for and the last reason.
func (l *Lab) Eventually(what string, check func() error) time.Duration {
	l.T.Helper()
	return l.within(what, Patience, check)
}

// Promise is Eventually for a promise with a time: it prints the time that it took, writes OVER when that was above
// the promise, and fails the test at five times of it.
func (l *Lab) Promise(what string, promise time.Duration, check func() error) {
	l.T.Helper()
	took := l.within(what, 5*promise, check)
	over := ""
	if took > promise {
		over = " OVER"
	}
	l.T.Logf("promise: %s: %v of %v%s", what, took.Round(time.Millisecond), promise, over)
}

func (l *Lab) within(what string, limit time.Duration, check func() error) time.Duration {
	l.T.Helper()
	took, err := Wait(limit, check)
	if err != nil {
		l.T.Fatalf("%s: not after %v: %v", what, limit, err)
	}
	return took
}

// Wait waits until check returns nil, or for limit, and returns how long that took and the last error.
func Wait(limit time.Duration, check func() error) (time.Duration, error) {
	start := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if took := time.Since(start); err == nil || took > limit {
			return took, err
		}
		<-tick.C
	}
}

// Step runs f as a sub-test, which is what fails when something in f does, and then the test ends. Processes that f starts
// end with it.
func (l *Lab) Step(name string, f func()) {
	whole := l.T
	whole.Helper()
	ok := whole.Run(name, func(t *testing.T) {
		l.T = t
		f()
	})
	l.T = whole
	if !ok {
		whole.FailNow()
	}
}

// Context returns a context that ends with the test, or after Patience.
func (l *Lab) Context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	l.T.Cleanup(cancel)
	return ctx
}

// run runs a short command and returns its output.
func run(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
