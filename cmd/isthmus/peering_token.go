package main

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/peering"
)

const peeringTokensPath = "/isthmus/v1/peering/tokens"

func newPeeringTokenCommand(c *connection) *cobra.Command {
	return group("token", "Inspect, list and revoke peering tokens",
		newTokenInspectCommand(), newPeeringTokenListCommand(c), newPeeringTokenRevokeCommand(c))
}

func newTokenInspectCommand() *cobra.Command {
	var token string
	cmd := &cobra.Command{
		Use:   "inspect -|@FILE|TOKEN",
		Short: "Show what a token says, without its secret and without asking any server",
		Args:  atMostOne,
	}
	out := formatted(cmd)
	cmd.Flags().StringVar(&token, "peering-token", "", "the `token`, - for stdin or @file (ISTHMUS_PEERING_TOKEN)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		value := token
		if len(args) == 1 {
			value = args[0]
		}
		secret, err := secretInput("peering-token", value, cmd.InOrStdin(), "ISTHMUS_PEERING_TOKEN")
		if err != nil {
			return err
		}
		contents, err := peering.InspectToken(secret)
		if err != nil {
			return err
		}
		return out.value(cmd, inspectedToken(contents), func(w io.Writer) { printContents(w, contents) })
	}
	return cmd
}

// remarkReach tells who will not be able to dial the addresses in a token. They are what the server advertises, which is
// where it listens unless it was told better: on loopback, at first.
func remarkReach(cmd *cobra.Command, token string) {
	contents, err := peering.InspectToken(redact.NewString(token))
	if err != nil {
		return // of a server whose tokens are not ours to judge
	}
	addresses := contents.ManualAddresses
	if len(addresses) == 0 {
		addresses = contents.ServerAddresses
	}
	for _, address := range addresses {
		at, err := netip.ParseAddrPort(address)
		if err != nil || !at.Addr().IsLoopback() && !at.Addr().IsUnspecified() && !at.Addr().IsLinkLocalUnicast() {
			continue
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "Note: the token says %s, which other machines cannot dial: start the server with --peering-advertise host:port, or give --server-external-addresses\n", address)
	}
}

// inspectedToken is what a token says, as JSON. Peering's own type may change with what it needs.
type inspectedToken struct {
	ID              string    `json:"id,omitempty"`
	Expires         time.Time `json:"expires,omitzero"`
	PeerID          string    `json:"peer_id"`
	ServerName      string    `json:"server_name,omitempty"`
	TrustDomain     string    `json:"trust_domain,omitempty"`
	Datacenter      string    `json:"datacenter,omitempty"`
	ServerAddresses []string  `json:"server_addresses"`
	ManualAddresses []string  `json:"manual_addresses,omitempty"`
	CAPEMs          []string  `json:"ca_pems"`
	Dialect         string    `json:"dialect"`
}

func printContents(w io.Writer, t peering.TokenContents) {
	expires := "the token does not say"
	if !t.Expires.IsZero() {
		expires = moment(t.Expires)
	}
	addresses, origin := t.ServerAddresses, ""
	if len(t.ManualAddresses) > 0 {
		addresses, origin = t.ManualAddresses, " (set by hand)"
	}
	pairs(w, [][2]string{
		{"Token ID", orDash(t.ID)}, {"Expires", expires}, {"Peering ID", t.PeerID}, {"Server Name", orDash(t.ServerName)},
		{"Trust Domain", orDash(t.TrustDomain)}, {"Datacenter", orDash(t.Datacenter)},
		{"Server Addresses", strings.Join(addresses, ", ") + origin}, {"CA Pems", strconv.Itoa(len(t.CAPEMs))},
	})
}

func newPeeringTokenListCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the peering tokens that were made here", Args: noArgs}
	out := formatted(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		body, err := client.get(cmd.Context(), peeringTokensPath, nil)
		if err != nil {
			return fmt.Errorf("peering tokens: %w", err)
		}
		var tokens []api.PeeringToken
		return out.show(cmd, body, &tokens, func(w io.Writer) {
			rows := [][]string{{"ID", "Peer", "State", "Created", "Expires", "Used", "Used By"}}
			for _, t := range tokens {
				rows = append(rows, []string{t.ID, t.Peer, t.State, moment(t.Created), moment(t.Expires), past(t.Used), orDash(t.UsedBy)})
			}
			table(w, rows)
		})
	}
	return cmd
}

func newPeeringTokenRevokeCommand(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Make a peering token worthless before it is used",
		Args:  exactly(1, "the ID that `isthmus peering token list` shows"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			if _, err := client.do(cmd.Context(), request{method: http.MethodDelete, path: peeringTokensPath + "/" + segment(args[0])}); err != nil {
				return fmt.Errorf("peering token %s: %w", args[0], err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Revoked peering token: %s\n", args[0])
			return nil
		},
	}
}
