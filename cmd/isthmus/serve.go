package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/config"
)

// newServeCommand returns `isthmus serve`. Its flags are the options of config.Server, each also in the file that --config
// names and in a variable ISTHMUS_SERVE_…; a flag wins over a variable, and that over the file.
func newServeCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane",
		Long: "Runs the control plane until SIGINT or SIGTERM. Every flag is also an option of the file that --config names,\n" +
			"with _ for -, and a variable: ISTHMUS_SERVE_DATA_DIR is --data-dir. A flag wins over a variable, and that over the file.",
		Args: noArgs,
	}
	cmd.Flags().StringVar(&file, "config", "", "`file` with the server's configuration, in HCL, JSON or YAML")
	options := serverFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		read := func() (config.Server, error) { return serverConfig(file, options, cmd.Flags(), os.LookupEnv) }
		cfg, err := read()
		if err != nil {
			return usageError{err}
		}
		log := newLogger(cfg, cmd.ErrOrStderr())
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = serve(ctx, cfg, read, log)
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			log.Info("server stopped")
			return nil
		}
		return err
	}
	return cmd
}

func newLogger(cfg config.Server, w interface{ Write([]byte) (int, error) }) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(w)
	if level, err := logrus.ParseLevel(cfg.LogLevel); err == nil { // config has checked it
		log.SetLevel(level)
	}
	if cfg.LogFormat == "json" {
		log.SetFormatter(&logrus.JSONFormatter{})
	}
	return log
}

// serve runs the embedded control plane, anew after a restore, until ctx ends, and returns when all its parts have ended. read returns the
// configuration as it is now.
func serve(ctx context.Context, cfg config.Server, read func() (config.Server, error), log *logrus.Logger) error {
	if cfg.Source != config.SourceEmbedded {
		return fmt.Errorf("source %s: want %s", cfg.Source, config.SourceEmbedded)
	}
	held := sockets{}
	defer held.close()
	for {
		p, err := newPlane(ctx, cfg, log, held)
		if err != nil {
			return err
		}
		if err = p.Run(ctx, read); !errors.Is(err, errRestored) {
			return err
		}
		log.Warn("state restored: the server starts anew")
		if newer, err := read(); err == nil { // what was reloaded since the start stays in force
			cfg = newer
		}
	}
}
