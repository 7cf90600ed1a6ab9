package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	bootstrap "github.com/isthmus-mesh/isthmus/envoy-bootstrap"
)

// demoLimit is how long the demo may take before it gives up on whatever it waits for.
const demoLimit = 2 * time.Minute

// newDemoCommand returns `isthmus demo`. It runs this binary as two operators would: each step is a command that a
// person could type, and is printed.
func newDemoCommand() *cobra.Command {
	var once bool
	var format string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run two clusters, four Envoys and one peered TCP service on this machine",
		Args:  noArgs,
	}
	cmd.Flags().BoolVar(&once, "once", false, "end after the last step instead of staying up")
	cmd.Flags().StringVar(&format, "format", "pretty", "pretty, or json for one line a step")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if format != "pretty" && format != "json" {
			return usagef("--format %s: want pretty or json", format)
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		d := &demo{out: demoOutput{w: cmd.OutOrStdout(), json: format == "json"}}
		err := d.run(ctx, once)
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return nil
		}
		return err
	}
	return cmd
}

// demo is two operators on one machine.
type demo struct {
	out         demoOutput
	dir         string // of everything that the demo writes; gone afterwards
	self, envoy string // the binaries
	alpha, beta *demoCluster
	db          *demoApp
	procs       demoProcesses
}

// run runs the steps, and unless once stays up until ctx ends.
func (d *demo) run(ctx context.Context, once bool) (err error) {
	if d.envoy, err = bootstrap.Find(""); err != nil {
		return err
	}
	if d.self, err = os.Executable(); err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "isthmus-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	started := time.Now()
	limited, cancel := context.WithTimeoutCause(ctx, demoLimit, fmt.Errorf("the demo took more than %v", demoLimit))
	defer cancel()
	for _, step := range d.steps() {
		if err := d.out.step(limited, step); err != nil {
			if ctx.Err() == nil {
				err = errors.Join(err, d.procs.ended())
			}
			return err
		}
	}
	d.out.done(time.Since(started), d, once)
	if once {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-d.procs.failed():
		return err
	}
}

func (d *demo) close() error {
	d.procs.stop()
	if d.db != nil {
		d.db.close()
	}
	return os.RemoveAll(d.dir)
}

// file writes a file of the demo and returns its name.
func (d *demo) file(name, text string) (string, error) {
	path := filepath.Join(d.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}
