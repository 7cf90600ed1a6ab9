// Package session is what the scripts of sessions at a command line share, in whichever folder they lie: it starts servers
// that end with their script, and waits for what must happen. It is test support, and knows no program of ours.
package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// ending is how long a server may take to end when it is told to.
const ending = 10 * time.Second

// A Command is one that scripts can use.
type Command = func(ts *testscript.TestScript, neg bool, args []string)

// Exits runs a command that must end with an exit code: exits CODE COMMAND….
func Exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// Eventually returns a command that runs another until it prints what matches: eventually REGEX COMMAND….
func Eventually(patience time.Duration) Command {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < 2 {
			ts.Fatalf("usage: eventually REGEX COMMAND…")
		}
		wanted, err := regexp.Compile("(?m)" + args[0])
		ts.Check(err)
		Poll(ts, patience, strings.Join(args[1:], " ")+" to print "+args[0], func(context.Context) error {
			err := ts.Exec(args[1], args[2:]...)
			if err == nil && !wanted.MatchString(ts.ReadFile("stdout")) {
				err = fmt.Errorf("it prints\n%s", ts.ReadFile("stdout"))
			}
			return err
		})
	}
}

// Poll tries until it works. When patience is over the script fails with what was waited for and the last error.
func Poll(ts *testscript.TestScript, patience time.Duration, what string, try func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("waited %s for %s: %v", patience, what, err)
		case <-again.C:
		}
	}
}

// Start starts a server that writes to the file NAME.log of the script and ends with the script. It returns what a waiter
// asks: nil once ready, a URL, answers 200. A server that has ended fails the script.
func Start(ts *testscript.TestScript, name string, server *exec.Cmd, ready string) func(context.Context) error {
	log, err := os.Create(ts.MkAbs(name + ".log"))
	ts.Check(err)
	server.Stdout, server.Stderr = log, log
	ts.Check(server.Start())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Wait() }() // how it ended is in its log
	ts.Defer(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(ending):
			_ = server.Process.Kill()
			<-ended
		}
		_ = log.Close()
	})
	return func(ctx context.Context) error {
		select {
		case <-ended:
			text, _ := os.ReadFile(log.Name()) // what can be had of it
			ts.Fatalf("%s has ended:\n%s", name, text)
		default:
		}
		return Answers(ctx, ready)
	}
}

// Answers returns nil when a URL answers 200.
func Answers(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, text)
	}
	return err
}
