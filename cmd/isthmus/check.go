package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

func newCheckCommand() *cobra.Command {
	cmd, c := connected(&cobra.Command{
		Use:   "check",
		Short: "Look for what is wrong: exit code 0 nothing, 1 something, 2 error",
		Long: "Looks at what the server says of itself, its peers and its proxies: ✓ is right, ! is worth knowing, × is wrong.\n" +
			"The exit code is 0 without a ×, 1 with one, 2 when the server could not be asked.",
		Args: noArgs,
	})
	out := formatted(cmd)
	var wait time.Duration
	cmd.Flags().DurationVar(&wait, "wait", 0, "look again until nothing is wrong, for at most this `time`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := c.client()
		if err != nil {
			return questionError{err}
		}
		found, err := client.checked(cmd.Context(), wait)
		if err != nil {
			return questionError{err}
		}
		if err := out.value(cmd, found, func(w io.Writer) { found.print(w) }); err != nil {
			return questionError{err}
		}
		if found.failed() > 0 {
			return exitCode(exitFailed)
		}
		return nil
	}
	return cmd
}

// checked looks until nothing is wrong, or until limit is over: then it returns what it saw last.
func (c *client) checked(ctx context.Context, limit time.Duration) (findings, error) {
	until := time.Now().Add(limit)
	for {
		seen, err := c.facts(ctx)
		found := look(seen)
		if err == nil && found.failed() == 0 || !time.Now().Before(until) {
			return found, err
		}
		select {
		case <-ctx.Done():
			return found, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// facts are all that `check` judges: it asks for them and nothing else.
type facts struct {
	notReady string // why the server does not answer yet; then the rest is empty
	status   api.Status
	proxies  []api.Proxy
	roots    rootsAnswer
	now      time.Time
}

func (c *client) facts(ctx context.Context) (facts, error) {
	seen := facts{now: time.Now()}
	err := c.look(ctx, statusPath, nil, &seen.status)
	if hasStatus(err, http.StatusServiceUnavailable) {
		seen.notReady = err.Error()
		return seen, nil
	}
	if err == nil {
		err = c.look(ctx, "/isthmus/v1/proxies", nil, &seen.proxies)
	}
	if err == nil {
		err = c.read(ctx, "/v1/connect/ca/roots", nil, &seen.roots)
	}
	return seen, err
}

// A finding is one thing that was looked at, by a name that does not change.
type finding struct {
	Check   string           `json:"check"`
	Verdict snapshot.Verdict `json:"verdict"`
	Detail  string           `json:"detail,omitempty"`
	Fix     string           `json:"fix,omitempty"`
}

type findings []finding

// is notes that all is well, unless there is a problem.
func (f *findings) is(check, problem, fix string) {
	if problem == "" {
		*f = append(*f, finding{Check: check, Verdict: snapshot.Passed})
		return
	}
	*f = append(*f, finding{check, snapshot.Failed, problem, fix})
}

func (f *findings) warn(check, problem, fix string) {
	*f = append(*f, finding{check, snapshot.Warned, problem, fix})
}

func (f findings) failed() int { return f.count(snapshot.Failed) }

func (f findings) count(verdict snapshot.Verdict) int {
	n := 0
	for _, found := range f {
		if found.Verdict == verdict {
			n++
		}
	}
	return n
}

func (f findings) print(w io.Writer) {
	for _, found := range f {
		mark := marks[found.Verdict]
		fmt.Fprintf(w, " %s %s", colour(w, mark[1], mark[0]), found.Check)
		if found.Detail != "" {
			fmt.Fprintf(w, ": %s", found.Detail)
		}
		fmt.Fprintln(w)
		if found.Fix != "" {
			fmt.Fprintf(w, "   -> %s\n", found.Fix)
		}
	}
	fmt.Fprintf(w, "%d checked, %d wrong, %d worth knowing.\n", len(f), f.failed(), f.count(snapshot.Warned))
}
