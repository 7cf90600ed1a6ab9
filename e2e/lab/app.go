package lab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// App is a TCP application that says its name and then echoes lines: "db> hello".
type App struct {
	Name        string
	Connections atomic.Int64 // accepted since start
	listener    net.Listener
	banner      bool
	mu          sync.Mutex
	open        map[net.Conn]struct{}
}

// App starts an application on a host. A banner is sent before the client says anything: a server-first protocol.
func (l *Lab) App(h *Host, name, address string, banner bool) *App {
	l.T.Helper()
	listener, err := h.Listen(address)
	if err != nil {
		l.T.Fatalf("app %s: %v", name, err)
	}
	a := &App{Name: name, listener: listener, banner: banner, open: map[net.Conn]struct{}{}}
	go a.serve()
	l.T.Cleanup(a.Close)
	return a
}

// Close ends the application and its connections.
func (a *App) Close() {
	_ = a.listener.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	for conn := range a.open {
		_ = conn.Close()
	}
}

func (a *App) serve() {
	for {
		conn, err := a.listener.Accept()
		if err != nil {
			return
		}
		a.Connections.Add(1)
		a.mu.Lock()
		a.open[conn] = struct{}{}
		a.mu.Unlock()
		go a.talk(conn)
	}
}

func (a *App) talk(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.open, conn)
	}()
	if a.banner {
		fmt.Fprintf(conn, "%s is here\n", a.Name)
	}
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		if strings.HasPrefix(line, "bulk ") {
			_, _ = io.Copy(conn, lines) // ends with the client
			return
		}
		fmt.Fprintf(conn, "%s> %s", a.Name, line)
	}
}

// Call is one open connection through the mesh.
type Call struct {
	net.Conn
	lines *bufio.Reader
}

// Open dials address from a host. The mesh may still refuse: Say tells.
func (h *Host) Open(ctx context.Context, address string) (*Call, error) {
	conn, err := h.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	return &Call{conn, bufio.NewReader(conn)}, nil
}

// Say sends a line and returns the answer to it.
func (c *Call) Say(line string) (string, error) {
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintln(c.Conn, line); err != nil {
		return "", err
	}
	return c.Line()
}

// Line returns the next line that the other end sends.
func (c *Call) Line() (string, error) {
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	answer, err := c.lines.ReadString('\n')
	return strings.TrimSpace(answer), err
}

// Ended waits until the other end closes, for at most limit, and returns how long that took.
func (c *Call) Ended(limit time.Duration) (time.Duration, error) {
	start := time.Now()
	_ = c.SetDeadline(start.Add(limit))
	_, err := io.Copy(io.Discard, c.lines)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		return 0, fmt.Errorf("still open after %v", limit)
	}
	return time.Since(start), nil
}

// Answer opens a connection, says hello, and returns nil when want says so in its answer.
func (h *Host) Answer(ctx context.Context, address, want string) error {
	call, err := h.Open(ctx, address)
	if err != nil {
		return err
	}
	defer func() { _ = call.Close() }()
	answer, err := call.Say("hello")
	if err == nil && answer == want+" is here" {
		answer, err = call.Line()
	}
	if err != nil {
		return err
	}
	if answer != want+"> hello" {
		return fmt.Errorf("answer is %q: want %q", answer, want+"> hello")
	}
	return nil
}
