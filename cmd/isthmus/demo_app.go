package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// demoApp is db: it answers each line with a line.
type demoApp struct{ listener net.Listener }

// startDB is the step that starts the application.
func (d *demo) startDB() demoStep {
	address := "127.0.0.1:" + d.beta.app
	return demoStep{title: "beta starts db, a TCP service that answers lines, on " + address, do: func(ctx context.Context) (string, error) {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return "", err
		}
		d.db = &demoApp{listener}
		go d.db.serve()
		return "", nil
	}}
}

func (a *demoApp) serve() {
	for {
		conn, err := a.listener.Accept()
		if err != nil {
			return // it was closed
		}
		go func() {
			defer func() { _ = conn.Close() }()
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				fmt.Fprintf(conn, "db@beta says: hello, %s\n", lines.Text())
			}
		}()
	}
}

func (a *demoApp) close() { _ = a.listener.Close() }

// call is what web does: it dials its own sidecar, which knows the way.
func (d *demo) call(ctx context.Context) (string, error) {
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", "127.0.0.1:"+d.alpha.upstream)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := fmt.Fprintln(conn, "web@alpha"); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(answer), err
}

func (d *demo) answered(ctx context.Context) (string, error) { return d.call(ctx) }

func (d *demo) refused(ctx context.Context) (string, error) {
	if answer, err := d.call(ctx); err == nil {
		return "", fmt.Errorf("it is answered: %s", answer)
	}
	return "the connection is closed without a byte", nil
}

// demoProcesses are the programs of the demo. When one ends by itself the demo ends.
type demoProcesses struct {
	mu      sync.Mutex
	running []*demoProcess
	failure chan error
	err     error
	stopped bool
}

type demoProcess struct {
	cmd    *exec.Cmd
	ended  chan struct{}
	output strings.Builder
}

func (p *demoProcesses) start(name string, cmd *exec.Cmd) error {
	process := &demoProcess{cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &process.output, &process.output
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	p.mu.Lock()
	p.running = append(p.running, process)
	p.mu.Unlock()
	failed := p.failed()
	go func() {
		_ = cmd.Wait() // how it ended is in its state
		close(process.ended)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.stopped || p.err != nil {
			return
		}
		text := process.output.String()
		p.err = fmt.Errorf("%s has ended: %v\n%s", name, cmd.ProcessState, text[max(0, len(text)-2000):])
		failed <- p.err
	}()
	return nil
}

// failed is sent to once, when a process has ended by itself.
func (p *demoProcesses) failed() chan error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failure == nil {
		p.failure = make(chan error, 1)
	}
	return p.failure
}

// ended returns why a process has ended by itself, and nil while all run.
func (p *demoProcesses) ended() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// stop ends all processes, the last first, and waits for each for at most five seconds.
func (p *demoProcesses) stop() {
	p.mu.Lock()
	p.stopped = true
	running := p.running
	p.mu.Unlock()
	for i := len(running) - 1; i >= 0; i-- {
		_ = running[i].cmd.Process.Signal(os.Interrupt) // it may have ended
	}
	for _, process := range running {
		select {
		case <-process.ended:
		case <-time.After(5 * time.Second):
			_ = process.cmd.Process.Kill() // it may have ended meanwhile
			<-process.ended
		}
	}
}

func joinClose(err error, body io.Closer) error { return errors.Join(err, body.Close()) }
