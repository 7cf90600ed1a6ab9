package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// DrainSeconds is how long Envoy lets a drained connection live, and restartSeconds when a parent that was replaced ends.
// With the strategy "immediate" a revoked connection that moves bytes ends at once, and a silent one after DrainSeconds.
const (
	DrainSeconds   = 8
	restartSeconds = DrainSeconds + 4
)

// Arguments returns Envoy's command line for a bootstrap file. What extra says itself, each flag as --name value or
// --name=value, stands instead of ours.
func Arguments(file string, concurrency int, extra []string) []string {
	arguments := []string{"--config-path", file}
	add := func(flag, value string) {
		if _, said := FlagValue(extra, flag); !said {
			arguments = append(arguments, flag, value)
		}
	}
	add("--drain-strategy", "immediate")
	add("--drain-time-s", strconv.Itoa(DrainSeconds))
	add("--parent-shutdown-time-s", strconv.Itoa(restartSeconds))
	if concurrency > 0 {
		add("--concurrency", strconv.Itoa(concurrency))
	}
	// Several Envoys on one machine would take each other for the parent to replace.
	if !contains(extra, "--disable-hot-restart") && !contains(extra, "--base-id") && !contains(extra, "--use-dynamic-base-id") && !contains(extra, "--restart-epoch") {
		arguments = append(arguments, "--disable-hot-restart")
	}
	return append(arguments, extra...)
}

// FlagValue returns the value of one of Envoy's flags in a command line, and whether it is there.
func FlagValue(arguments []string, flag string) (string, bool) {
	for i, argument := range arguments {
		if value, ok := strings.CutPrefix(argument, flag+"="); ok {
			return value, true
		}
		if argument == flag && i+1 < len(arguments) {
			return arguments[i+1], true
		}
	}
	return "", false
}

func contains(arguments []string, flag string) bool {
	for _, argument := range arguments {
		if argument == flag || strings.HasPrefix(argument, flag+"=") {
			return true
		}
	}
	return false
}

// A Process is one Envoy to run.
type Process struct {
	Binary         string
	Arguments      []string
	Stdout, Stderr io.Writer
}

// forwarded are the signals that mean something to Envoy: end, and open the logs again.
var forwarded = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1}

// Run starts the process, hands it our signals, and returns its exit code once it has ended: 128 and the number for a
// signal, as a shell does. When ctx ends, Envoy gets SIGTERM. An error means that it could not be started or waited for.
func (p Process) Run(ctx context.Context) (int, error) {
	command := exec.Command(p.Binary, p.Arguments...)
	command.Stdout, command.Stderr = p.Stdout, p.Stderr
	command.SysProcAttr = childAttributes()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, forwarded...)
	defer signal.Stop(signals)
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		// The child ends with the thread that started it, so this one stays until then: see childAttributes.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			ended <- command.Wait()
		}
	}()
	if err := <-started; err != nil {
		return 0, fmt.Errorf("envoy %s: %w", p.Binary, err)
	}
	done := ctx.Done()
	for {
		select {
		case s := <-signals:
			_ = command.Process.Signal(s) // it may just have ended: Wait says so
		case <-done:
			_ = command.Process.Signal(syscall.SIGTERM)
			done = nil
		case err := <-ended:
			return exitCode(p.Binary, err)
		}
	}
}

func exitCode(binary string, err error) (int, error) {
	var exit *exec.ExitError
	if err == nil {
		return 0, nil
	}
	if !errors.As(err, &exit) {
		return 0, fmt.Errorf("envoy %s: %w", binary, err)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}
