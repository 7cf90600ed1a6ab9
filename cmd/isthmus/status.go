package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api"
)

const statusPath = "/isthmus/v1/status"

// peerStatus is what our server knows of a peering beyond what Consul's answers hold.
type peerStatus struct {
	Reason, TrustDomain string
	RoundTrip           string
	NotExported         map[string]string
	NotRoutable         map[string]string
}

// peerStatus asks for it. A Consul does not have it, and then there is nothing to show.
func (c *client) peerStatus(ctx context.Context, peer string) peerStatus {
	var answer api.Status
	if err := c.look(ctx, statusPath, nil, &answer); err != nil {
		return peerStatus{}
	}
	more := peerStatus{NotExported: map[string]string{}, NotRoutable: map[string]string{}}
	for _, p := range answer.Peers {
		if p.Name == peer {
			more.TrustDomain, more.Reason, more.RoundTrip = p.TrustDomain, p.Reason, roundTrip(p)
			if p.Problem != "" {
				more.Reason = p.Problem
			}
		}
	}
	for _, e := range answer.Exports {
		if e.Peer == peer && !e.Exported {
			more.NotExported[e.Service] = e.Reason
		}
	}
	for _, i := range answer.Imports {
		if i.Peer == peer && !i.Routable {
			more.NotRoutable[i.Service] = i.Reason
		}
	}
	return more
}

func newStatusCommand() *cobra.Command {
	cmd, c := connected(&cobra.Command{Use: "status", Short: "Show what this cluster is, and what is wrong", Args: noArgs})
	out := formatted(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		body, err := client.get(cmd.Context(), statusPath, nil)
		if err != nil {
			return fmt.Errorf("status: %w", err)
		}
		var answer api.Status
		return out.show(cmd, body, &answer, func(w io.Writer) { printStatus(w, answer) })
	}
	return cmd
}

func printStatus(w io.Writer, s api.Status) {
	lines := [][2]string{
		{"Version", s.Version}, {"Source", s.Source}, {"Trust Domain", s.TrustDomain}, {"Datacenter", s.Datacenter}, {"Node", s.Node},
		{"Default Intention Policy", s.DefaultPolicy}, {"Proxies", proxyCounts(s.Proxies)},
	}
	if at := s.Proxies.LeafNotAfter; at != nil {
		lines = append(lines, [2]string{"Works Without Server", fmt.Sprintf("until %s (%s)", moment(*at), s.Proxies.LeafOf)})
	}
	pairs(w, lines)
	section(w, "Problems", len(s.Problems))
	for _, problem := range s.Problems {
		fmt.Fprintf(w, "  %s %s\n", colour(w, "31", "!"), problem)
	}
	peers := [][]string{{"Name", "State", "Role", "Imported", "Exported", "Last Round Trip", "Last Heartbeat", "Reason"}}
	for _, p := range s.Peers {
		peers = append(peers, []string{
			p.Name, string(p.State), string(p.Role), strconv.Itoa(p.Imported), strconv.Itoa(p.Exported), roundTrip(p), past(p.LastHeartbeat), peerReason(p),
		})
	}
	sectionTable(w, "Peers", peers)
	exports := [][]string{{"Service", "Peer", "Exported", "Healthy", "Reason"}}
	for _, e := range s.Exports {
		exports = append(exports, []string{e.Service, e.Peer, yesNo(e.Exported), fmt.Sprintf("%d of %d", e.Healthy, e.Sidecars), exportReason(e)})
	}
	sectionTable(w, "Exports", exports)
	imports := [][]string{{"Service", "Peer", "Routable", "Gateways", "Dialled", "Reason"}}
	for _, i := range s.Imports {
		imports = append(imports, []string{i.Service, i.Peer, yesNo(i.Routable), strconv.Itoa(i.Gateways), strconv.Itoa(i.Dialled), importReason(i)})
	}
	sectionTable(w, "Imports", imports)
	sectionTable(w, "Left out of proxies' configuration", skippedRows(s.Skipped))
	kept := [][]string{{"Object", "Kept, no effect"}}
	for _, k := range s.Kept {
		kept = append(kept, []string{k.Kind + "/" + k.Name, strings.Join(k.Fields, ", ")})
	}
	sectionTable(w, "Fields without effect", kept)
}

// roundTrip says when a peer last proved that it reads what we send, and how long it took.
func roundTrip(p api.PeerStatus) string {
	if p.LastRoundTrip == nil {
		return "never"
	}
	return fmt.Sprintf("%s (%.1f ms)", ago(p.LastRoundTrip), p.RoundTripMS)
}

// exportReason is why an export is of no use, or not yet.
func exportReason(e api.ExportStatus) string {
	if !e.Admits {
		return cmp.Or(e.Reason, e.Down, "no intention lets anybody of "+e.Peer+" in")
	}
	return cmp.Or(e.Reason, e.Down)
}

// importReason is why an import is of no use, or not by each gateway.
func importReason(i api.ImportStatus) string {
	return cmp.Or(i.Reason, i.Down, strings.Join(i.Refused, "; "))
}

func skippedRows(skipped []api.SkippedStatus) [][]string {
	rows := [][]string{{"Proxy", "Object", "Peer", "Reason"}}
	for _, s := range skipped {
		if s.Expected {
			continue
		}
		rows = append(rows, []string{string(s.Proxy), s.Kind + "/" + s.Name, orDash(s.Peer), s.Reason})
	}
	return rows
}

func peerReason(p api.PeerStatus) string {
	reason := p.Reason
	if p.Problem != "" {
		reason = p.Problem
	}
	if p.Stale {
		reason = strings.TrimPrefix(reason+"; imports are from an earlier session", "; ")
	}
	return reason
}

func proxyCounts(p api.ProxySummary) string {
	text := fmt.Sprintf("%d registered, %d connected", p.Registered, p.Connected)
	if p.Rejecting > 0 {
		text += fmt.Sprintf(", %d refuse something", p.Rejecting)
	}
	return text
}

// section prints a heading where something follows.
func section(w io.Writer, title string, n int) {
	if n > 0 {
		fmt.Fprintf(w, "\n%s:\n", title)
	}
}

// sectionTable prints a heading and a table, unless the table has no rows but its head.
func sectionTable(w io.Writer, title string, rows [][]string) {
	section(w, title, len(rows)-1)
	if len(rows) > 1 {
		table(w, rows)
	}
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func newProxiesCommand() *cobra.Command {
	cmd, c := connected(&cobra.Command{Use: "proxies", Short: "List the sidecars and gateways, and whether their Envoys follow", Args: noArgs})
	out := formatted(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		body, err := client.get(cmd.Context(), "/isthmus/v1/proxies", nil)
		if err != nil {
			return fmt.Errorf("proxies: %w", err)
		}
		var proxies []api.Proxy
		return out.show(cmd, body, &proxies, func(w io.Writer) { printProxies(w, proxies) })
	}
	return cmd
}

func printProxies(w io.Writer, proxies []api.Proxy) {
	if len(proxies) == 0 {
		fmt.Fprintln(w, "There are no proxies.")
		return
	}
	rows := [][]string{{"ID", "Kind", "Service", "State", "Since", "Last Ack", "Envoy", "Address"}}
	var remarks []string
	for _, p := range proxies {
		rows = append(rows, []string{
			string(p.ID), orDash(string(p.Kind)), orDash(p.Service), proxyState(p), ago(p.Since), ago(p.LastAck), orDash(p.Envoy), orDash(p.Address),
		})
		for _, r := range p.Rejected {
			remarks = append(remarks, fmt.Sprintf("%s: refused %s: %s%s", p.ID, r.Name, r.Error, nextTry(p, r)))
		}
		for _, s := range p.Skipped {
			if !s.Expected {
				remarks = append(remarks, fmt.Sprintf("%s: left out %s/%s: %s", p.ID, s.Kind, s.Name, s.Reason))
			}
		}
		for _, warning := range p.Warnings {
			remarks = append(remarks, fmt.Sprintf("%s: %s", p.ID, warning))
		}
	}
	table(w, rows)
	section(w, "Remarks", len(remarks))
	for _, remark := range remarks {
		fmt.Fprintf(w, "  %s %s\n", colour(w, "33", "!"), remark)
	}
}

// nextTry says what becomes of what an Envoy refused.
func nextTry(p api.Proxy, r api.Rejected) string {
	switch {
	case r.NextTry == nil:
		return ""
	case !p.Connected:
		return fmt.Sprintf(" (tried %d times; again when it connects anew)", r.Tries)
	}
	return fmt.Sprintf(" (tried %d times; again at %s, when it changes, or when Envoy is restarted)", r.Tries, r.NextTry.Local().Format(time.TimeOnly))
}

func proxyState(p api.Proxy) string {
	switch {
	case !p.Connected:
		return "NOT CONNECTED"
	case len(p.Rejected) > 0:
		return "REJECTED"
	case !p.Synced:
		return "STALE"
	}
	return "SYNCED"
}

func ago(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return time.Since(*t).Round(time.Second).String() + " ago"
}
