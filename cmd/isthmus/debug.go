package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

// captures are what a support bundle holds: answers to whoever may read, none of which holds a secret.
var captures = []struct{ file, path string }{
	{"status.json", statusPath},
	{"proxies.json", "/isthmus/v1/proxies"},
	{"config.json", "/isthmus/v1/config"},
	{"peerings.json", "/v1/peerings"},
	{"intentions.json", "/v1/connect/intentions"},
	{"services.json", "/v1/agent/services"},
	{"checks.json", "/v1/agent/checks"},
	{"roots.json", "/v1/connect/ca/roots"},
	{"metrics.txt", "/metrics"},
	{"agent.json", "/v1/agent/self"},
}

func newDebugCommand() *cobra.Command {
	var output string
	cmd, c := connected(&cobra.Command{
		Use:   "debug",
		Short: "Collect what the server says of itself into one archive, without secrets",
		Args:  noArgs,
	})
	cmd.Flags().StringVar(&output, "output", "", "`file` to write (default isthmus-debug-TIME.tar.gz)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		now := time.Now().UTC()
		if output == "" {
			output = "isthmus-debug-" + now.Format("20060102T150405Z") + ".tar.gz"
		}
		file, err := renameio.NewPendingFile(output, renameio.WithStaticPermissions(0o600))
		if err != nil {
			return fmt.Errorf("bundle %s: %w", output, err)
		}
		defer file.Cleanup()
		if err := client.bundle(cmd.Context(), file, cmd.ErrOrStderr(), now); err != nil {
			return fmt.Errorf("bundle %s: %w", output, err)
		}
		if err := file.CloseAtomicallyReplace(); err != nil {
			return fmt.Errorf("bundle %s: %w", output, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Saved debug archive: %s\n", output)
		return nil
	}
	return cmd
}

// bundle writes the archive. What the server refuses is noted on remarks and left out; a server that cannot be reached
// ends it.
func (c *client) bundle(ctx context.Context, w, remarks io.Writer, now time.Time) error {
	zipped := gzip.NewWriter(w)
	archive := tar.NewWriter(zipped)
	put := func(name string, text []byte) error {
		header := &tar.Header{Name: "isthmus-debug/" + name, Mode: 0o600, Size: int64(len(text)), ModTime: now}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		_, err := archive.Write(text)
		return err
	}
	if err := put("version.txt", []byte(version+" "+revision()+"\n")); err != nil {
		return err
	}
	for _, capture := range captures {
		text, err := c.get(ctx, capture.path, url.Values{"pretty": {""}})
		var answered statusError
		if errors.As(err, &answered) {
			fmt.Fprintf(remarks, "%s is left out: %v\n", capture.file, answered)
			continue
		}
		if err == nil {
			err = put(capture.file, text)
		}
		if err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return zipped.Close()
}
