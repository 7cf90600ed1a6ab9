package main

import (
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

func newWhyCommand() *cobra.Command {
	cmd, c := connected(&cobra.Command{
		Use:   "why SRC[@PEER] DST[@PEER]",
		Short: "Explain step by step what lets a call through or stops it: exit code 0 through, 1 stopped, 2 error",
		Args:  exactly(2, "a source and a destination"),
	})
	out := formatted(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := c.client()
		if err != nil {
			return questionError{err}
		}
		destination, peer, _ := strings.Cut(args[1], "@")
		query := url.Values{"source": {sourceParam(args[0])}, "destination": {destination}}
		if peer != "" {
			query.Set("peer", peer)
		}
		body, err := client.get(cmd.Context(), "/isthmus/v1/why", query)
		if err != nil {
			return questionError{fmt.Errorf("why %s => %s: %w", args[0], args[1], err)}
		}
		var answer snapshot.Explanation
		if err := decode(body, "why", &answer); err != nil {
			return questionError{err}
		}
		if err := out.show(cmd, body, &answer, func(w io.Writer) { explain(w, args[0]+" => "+args[1], answer) }); err != nil {
			return questionError{err}
		}
		if !answer.Allowed {
			return exitCode(exitFailed)
		}
		return nil
	}
	return cmd
}

// marks are how each verdict looks: the sign, and its colour.
var marks = map[snapshot.Verdict][2]string{
	snapshot.Passed: {"✓", "32"}, snapshot.Failed: {"×", "31"}, snapshot.Warned: {"!", "33"}, snapshot.Unknown: {"?", "33"},
}

func explain(w io.Writer, call string, x snapshot.Explanation) {
	half := ""
	if x.Allowed && slices.ContainsFunc(x.Steps, func(s snapshot.Step) bool { return s.Verdict == snapshot.Unknown }) {
		half = " on this side; the other side decides too"
	}
	fmt.Fprintf(w, "%s: %s%s\n", call, verdict(w, x.Allowed), half)
	for _, step := range x.Steps {
		mark := marks[step.Verdict]
		fmt.Fprintf(w, " %s %s: %s\n", colour(w, mark[1], mark[0]), step.Check, step.Reason)
		if step.Fix != "" {
			fmt.Fprintf(w, "   -> %s\n", step.Fix)
		}
	}
}
