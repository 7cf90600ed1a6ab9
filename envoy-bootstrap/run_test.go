package bootstrap

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestRunEndsWithTheProcessCode(t *testing.T) {
	for body, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -9 $$": 137} {
		binary := script(t, filepath.Join(t.TempDir(), "envoy"), body)
		code, err := Process{Binary: binary, Stdout: io.Discard, Stderr: io.Discard}.Run(t.Context())
		if err != nil || code != want {
			t.Errorf("%s: code %d, %v; want %d", body, code, err, want)
		}
	}
	if _, err := (Process{Binary: filepath.Join(t.TempDir(), "none")}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error %v, want the missing file", err)
	}
}

// waiting is a process that says so and ends on a signal with a code of its own.
const waiting = `trap 'exit 3' TERM
trap 'exit 4' HUP
echo ready
while :; do sleep 0.01; done`

func TestRunHandsOnSignals(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(cancel context.CancelFunc) error
		want int
	}{
		{"the context ends", func(cancel context.CancelFunc) error { cancel(); return nil }, 3},
		{"a signal of ours", func(context.CancelFunc) error { return syscall.Kill(os.Getpid(), syscall.SIGHUP) }, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			binary := script(t, filepath.Join(t.TempDir(), "envoy"), waiting)
			reader, writer := io.Pipe()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			type ending struct {
				code int
				err  error
			}
			ended := make(chan ending, 1)
			go func() {
				code, err := Process{Binary: binary, Stdout: writer, Stderr: io.Discard}.Run(ctx)
				ended <- ending{code, err}
			}()
			if _, err := bufio.NewReader(reader).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			if err := tt.end(cancel); err != nil {
				t.Fatal(err)
			}
			if got := <-ended; got.err != nil || got.code != tt.want {
				t.Errorf("code %d, %v; want %d", got.code, got.err, tt.want)
			}
		})
	}
}
