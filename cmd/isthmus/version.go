package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	bootstrap "github.com/isthmus-mesh/isthmus/envoy-bootstrap"
)

// version is set by the linker for a release.
var version = "dev"

// aboutBinary is what the binary knows of itself.
type aboutBinary struct {
	Version    string `json:"version"`
	Revision   string `json:"revision"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
	EnvoyFloor string `json:"envoy_floor"` // the oldest Envoy that works with it
}

func newVersionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "Print this binary's version", Args: noArgs}
	out := formatted(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		about := aboutBinary{
			version, revision(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, bootstrap.Floor.String(),
		}
		return out.value(cmd, about, func(w io.Writer) {
			fmt.Fprintf(w, "Isthmus %s\n", about.Version)
			pairs(w, [][2]string{{"Revision", about.Revision}, {"Go", about.Go}, {"Platform", about.Platform}, {"Envoy", about.EnvoyFloor + " or newer"}})
		})
	}
	return cmd
}

// revision returns the commit that the binary was built from, as the Go tool noted it.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	commit, dirty := "unknown", ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			commit = setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true":
			dirty = "+changes"
		}
	}
	return commit + dirty
}
