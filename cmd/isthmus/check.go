package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// leafWarning is how long before the first proxy stops without a server `check` says so.
const leafWarning = 24 * time.Hour

// A finding is one thing that was looked at, by a name that does not change.
type finding struct {
	Check   string
	Verdict snapshot.Verdict
	Detail  string `json:",omitempty"`
	Fix     string `json:",omitempty"`
}

func newCheckCommand() *cobra.Command {
	cmd, c := connected(&cobra.Command{
		Use:   "check",
		Short: "Look for what is wrong: exit code 0 nothing, 1 something, 2 error",
		Args:  noArgs,
	})
	out := formatted(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := c.client()
		if err != nil {
			return questionError{err}
		}
		var found findings
		if err := found.look(cmd.Context(), client); err != nil {
			return questionError{err}
		}
		if err := out.value(cmd, found, func(w io.Writer) { found.print(w) }); err != nil {
			return questionError{err}
		}
		for _, f := range found {
			if f.Verdict == snapshot.Failed {
				return exitCode(exitFailed)
			}
		}
		return nil
	}
	return cmd
}

type findings []finding

// add notes a failure or, with an empty problem, that all is well.
func (f *findings) add(check, problem, fix string) {
	if problem == "" {
		*f = append(*f, finding{Check: check, Verdict: snapshot.Passed})
		return
	}
	*f = append(*f, finding{check, snapshot.Failed, problem, fix})
}

func (f *findings) warn(check, problem, fix string) {
	*f = append(*f, finding{check, snapshot.Warned, problem, fix})
}

// look asks the server for everything that is judged.
func (f *findings) look(ctx context.Context, client *client) error {
	var status api.Status
	var proxies []api.Proxy
	err := client.read(ctx, statusPath, nil, &status)
	if hasStatus(err, http.StatusServiceUnavailable) {
		f.add("server is ready", err.Error(), "isthmus status")
		return nil
	}
	if err != nil {
		return err
	}
	if err := client.read(ctx, "/isthmus/v1/proxies", nil, &proxies); err != nil {
		return err
	}
	f.add("server is ready", "", "")
	f.server(status)
	f.peers(status)
	f.services(status)
	f.proxies(proxies)
	return nil
}

func (f *findings) server(s api.Status) {
	if s.HTTPOpen {
		f.warn("writes need a token", "whoever is on this machine may write", "start isthmus serve without --http-open")
	} else {
		f.add("writes need a token", "", "")
	}
	if s.DefaultPolicy != string(config.Deny) {
		f.warn("calls need an intention", "the default policy is "+s.DefaultPolicy, "start isthmus serve with --default-intention-policy deny")
	} else {
		f.add("calls need an intention", "", "")
	}
	if at := s.Proxies.LeafNotAfter; at != nil && time.Until(*at) < leafWarning {
		f.add("certificates are renewed", fmt.Sprintf("that of %s ends at %s", s.Proxies.LeafOf, moment(*at)), "isthmus proxies")
	} else {
		f.add("certificates are renewed", "", "")
	}
}

func (f *findings) peers(s api.Status) {
	for _, p := range s.Peers {
		check := "peer " + p.Name + " is ACTIVE"
		switch {
		case p.State == snapshot.Pending:
			f.warn(check, "nobody has used its token yet", "isthmus peering establish in the other cluster")
		case p.State != snapshot.Active:
			f.add(check, string(p.State)+": "+orDash(peerReason(p)), "isthmus peering read --name "+p.Name)
		default:
			f.add(check, "", "")
		}
	}
}

func (f *findings) services(s api.Status) {
	for _, e := range s.Exports {
		f.judge(fmt.Sprintf("%s is exported to %s", e.Service, e.Peer), e.Exported, e.Reason, "isthmus config read --kind exported-services --name default")
	}
	for _, i := range s.Imports {
		f.judge(fmt.Sprintf("%s of peer %s is routable", i.Service, i.Peer), i.Routable, i.Reason, "")
	}
}

func (f *findings) judge(check string, ok bool, reason, fix string) {
	if ok {
		reason = ""
	} else if reason == "" {
		reason = "the server does not say why"
	}
	f.add(check, reason, fix)
}

func (f *findings) proxies(proxies []api.Proxy) {
	for _, p := range proxies {
		check := fmt.Sprintf("proxy %s follows", p.ID)
		switch {
		case !p.Connected:
			f.add(check, "it is not connected", "isthmus envoy-bootstrap --proxy-id "+string(p.ID)+" --")
		case len(p.Rejected) > 0:
			f.add(check, "it refused "+p.Rejected[0].Name+": "+p.Rejected[0].Error, "isthmus proxies")
		default:
			f.add(check, "", "")
		}
		for _, warning := range p.Warnings {
			f.warn(check, warning, "")
		}
	}
}

func (f *findings) print(w io.Writer) {
	failed := 0
	for _, found := range *f {
		mark := marks[found.Verdict]
		fmt.Fprintf(w, " %s %s", colour(w, mark[1], mark[0]), found.Check)
		if found.Detail != "" {
			fmt.Fprintf(w, ": %s", found.Detail)
		}
		fmt.Fprintln(w)
		if found.Fix != "" {
			fmt.Fprintf(w, "   -> %s\n", found.Fix)
		}
		if found.Verdict == snapshot.Failed {
			failed++
		}
	}
	fmt.Fprintf(w, "%d checked, %d wrong.\n", len(*f), failed)
}
