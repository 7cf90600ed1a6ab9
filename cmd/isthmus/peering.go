package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

func newPeeringCommand() *cobra.Command {
	cmd, c := connected(group("peering", "Create and manage the connections to other clusters"))
	cmd.AddCommand(
		newGenerateTokenCommand(c), newEstablishCommand(c), newPeeringListCommand(c), newPeeringReadCommand(c),
		newPeeringDeleteCommand(c), newExportedServicesCommand(c), newPeeringTokenCommand(c),
	)
	return cmd
}

// peeringAnswer is one peering as the server describes it; times are absent until there was one.
type peeringAnswer struct {
	ID, Name, State      string
	Meta                 map[string]string
	PeerID               string
	PeerCAPems           []string
	PeerServerName       string
	PeerServerAddresses  []string
	ImportedServiceCount uint64 // only a Consul of 1.13 has these two
	ExportedServiceCount uint64
	StreamStatus         struct {
		ImportedServices, ExportedServices   []string
		LastHeartbeat, LastReceive, LastSend *time.Time
	}
	CreateIndex, ModifyIndex uint64
}

func (p peeringAnswer) imported() string {
	return strconv.FormatUint(max(p.ImportedServiceCount, uint64(len(p.StreamStatus.ImportedServices))), 10)
}

func (p peeringAnswer) exported() string {
	return strconv.FormatUint(max(p.ExportedServiceCount, uint64(len(p.StreamStatus.ExportedServices))), 10)
}

func newGenerateTokenCommand(c *connection) *cobra.Command {
	var name, file string
	var meta map[string]string
	var addresses []string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "generate-token -name PEER",
		Short: "Print a token with which another cluster can connect to this one",
		Long: "Prints a token that the other cluster's operator gives to `peering establish`. It is good once and for a limited time:\n" +
			"send it as you would send a password.",
		Args: atMostOne,
	}
	out := formatted(cmd)
	cmd.Flags().StringVar(&name, "name", "", "what to call the other cluster here")
	cmd.Flags().StringToStringVar(&meta, "meta", nil, "`key=value` to note with the peering; may be repeated")
	cmd.Flags().StringSliceVar(&addresses, "server-external-addresses", nil, "`host:port,…` to put into the token instead of what the server advertises")
	cmd.Flags().StringVar(&file, "out", "", "`file` to write the token to, which only its owner can read then, instead of printing it")
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "how long the token is good (server's default: 24h)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		peer, err := named("name", name, args)
		if err != nil {
			return err
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		body := map[string]any{"PeerName": peer, "Meta": meta, "ServerExternalAddresses": addresses}
		if ttl != 0 {
			body["TTL"] = ttl.String()
		}
		raw, err := client.do(cmd.Context(), request{method: http.MethodPost, path: "/v1/peering/token", body: body})
		if err != nil {
			return fmt.Errorf("peer %s: generate token: %w", peer, err)
		}
		var answer struct{ PeeringToken string }
		if file != "" {
			if err := decode(raw, "generate-token", &answer); err != nil {
				return err
			}
			if err := renameio.WriteFile(file, []byte(answer.PeeringToken+"\n"), 0, renameio.WithStaticPermissions(0o600)); err != nil {
				return fmt.Errorf("file %s: %w; the token was made all the same, see `isthmus peering token list`", file, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Peering token written: %s\n", file)
		} else if err := out.show(cmd, raw, &answer, func(w io.Writer) { fmt.Fprintln(w, answer.PeeringToken) }); err != nil {
			return err
		}
		if *out == pretty {
			remarkReach(cmd, answer.PeeringToken)
			next(cmd, "in the other cluster", "isthmus peering establish --name NAME-OF-THIS-CLUSTER --peering-token "+cmp.Or(atFile(file), "-"))
		}
		return nil
	}
	return cmd
}

// atFile is how a file's content is given to a flag.
func atFile(file string) string {
	if file == "" {
		return ""
	}
	return "@" + file
}

func newPeeringListCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the peerings", Args: noArgs}
	out := formatted(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		raw, err := client.get(cmd.Context(), "/v1/peerings", nil)
		if err != nil {
			return fmt.Errorf("peerings: %w", err)
		}
		var peerings []peeringAnswer
		return out.show(cmd, raw, &peerings, func(w io.Writer) {
			if len(peerings) == 0 {
				fmt.Fprintln(w, "There are no peering connections.")
				return
			}
			rows := [][]string{{"Name", "State", "Imported Svcs", "Exported Svcs", "Meta"}}
			for _, p := range peerings {
				rows = append(rows, []string{p.Name, p.State, p.imported(), p.exported(), keyValues(p.Meta)})
			}
			table(w, rows)
		})
	}
	return cmd
}

func newPeeringReadCommand(c *connection) *cobra.Command {
	var name string
	cmd := &cobra.Command{Use: "read -name PEER", Short: "Show one peering", Args: atMostOne}
	out := formatted(cmd)
	cmd.Flags().StringVar(&name, "name", "", "the peer")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		peer, err := named("name", name, args)
		if err != nil {
			return err
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		raw, err := client.get(cmd.Context(), "/v1/peering/"+segment(peer), nil)
		if err != nil {
			return peerError(peer, err)
		}
		var p peeringAnswer
		return out.show(cmd, raw, &p, func(w io.Writer) { p.print(w, client.peerStatus(cmd.Context(), peer)) })
	}
	return cmd
}

// peerError names the peer in front of what the server said.
func peerError(peer string, err error) error {
	if hasStatus(err, http.StatusNotFound) {
		return fmt.Errorf("peer %s: no such peering; `isthmus peering list` shows all", peer)
	}
	return fmt.Errorf("peer %s: %w", peer, err)
}

// print shows a peering in the blocks that Consul's users know.
func (p peeringAnswer) print(w io.Writer, more peerStatus) {
	lines := [][2]string{{"Name", p.Name}, {"ID", p.ID}, {"State", p.State}}
	if more.Reason != "" {
		lines = append(lines, [2]string{"Reason", more.Reason})
	}
	pairs(w, lines)
	if len(p.Meta) > 0 {
		fmt.Fprintln(w, "Meta:")
		for _, key := range sortedKeys(p.Meta) {
			fmt.Fprintf(w, "    %s=%s\n", key, p.Meta[key])
		}
	}
	fmt.Fprintln(w)
	lines = [][2]string{{"Peer ID", p.PeerID}, {"Peer Server Name", p.PeerServerName}, {"Peer CA Pems", strconv.Itoa(len(p.PeerCAPems))}}
	if more.TrustDomain != "" {
		lines = append(lines, [2]string{"Peer Trust Domain", more.TrustDomain})
	}
	pairs(w, lines)
	if len(p.PeerServerAddresses) > 0 {
		fmt.Fprintln(w, "Peer Server Addresses:")
		for _, address := range p.PeerServerAddresses {
			fmt.Fprintf(w, "    %s\n", address)
		}
	}
	fmt.Fprintln(w)
	pairs(w, [][2]string{
		{"Imported Services", p.imported()}, {"Exported Services", p.exported()},
		{"Last Round Trip", orDash(more.RoundTrip)}, {"Last Heartbeat", past(p.StreamStatus.LastHeartbeat)},
	})
	for _, service := range sortedKeys(more.NotExported) {
		fmt.Fprintf(w, "%s: %s: %s\n", p.leftOut(service), service, more.NotExported[service])
	}
	for _, service := range sortedKeys(more.NotRoutable) {
		fmt.Fprintf(w, "Not routable: %s: %s\n", service, more.NotRoutable[service])
	}
	fmt.Fprintln(w)
	pairs(w, [][2]string{{"Create Index", strconv.FormatUint(p.CreateIndex, 10)}, {"Modify Index", strconv.FormatUint(p.ModifyIndex, 10)}})
}

// leftOut says what a peer cannot do with a service: it is told of some that it cannot dial.
func (p peeringAnswer) leftOut(service string) string {
	if slices.Contains(p.StreamStatus.ExportedServices, service) {
		return "Not reachable"
	}
	return "Not exported"
}

// past prints when something last was, and "never".
func past(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "never"
	}
	return moment(*t)
}

func newPeeringDeleteCommand(c *connection) *cobra.Command {
	var name string
	cmd := &cobra.Command{Use: "delete -name PEER", Short: "End a peering and forget all that was imported from it", Args: atMostOne}
	cmd.Flags().StringVar(&name, "name", "", "the peer")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		peer, err := named("name", name, args)
		if err != nil {
			return err
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		if _, err := client.do(cmd.Context(), request{method: http.MethodDelete, path: "/v1/peering/" + segment(peer)}); err != nil {
			return peerError(peer, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Successfully submitted peering connection, %s, for deletion\n", peer)
		next(cmd, "to see it gone", "isthmus peering list")
		return nil
	}
	return cmd
}

func newExportedServicesCommand(c *connection) *cobra.Command {
	var name string
	cmd := &cobra.Command{Use: "exported-services -name PEER", Short: "List the services that a peer may import from here", Args: atMostOne}
	out := formatted(cmd)
	cmd.Flags().StringVar(&name, "name", "", "the peer")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		peer, err := named("name", name, args)
		if err != nil {
			return err
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		var p peeringAnswer
		if err := client.look(cmd.Context(), "/v1/peering/"+segment(peer), url.Values{}, &p); err != nil {
			return peerError(peer, err)
		}
		more := client.peerStatus(cmd.Context(), peer)
		services := append([]string{}, p.StreamStatus.ExportedServices...)
		return out.value(cmd, services, func(w io.Writer) {
			if len(services) > 0 {
				fmt.Fprintln(w, strings.Join(services, "\n"))
			} else {
				fmt.Fprintf(w, "No services are exported to %s.\n", peer)
			}
			for _, service := range sortedKeys(more.NotExported) {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s: %s\n", p.leftOut(service), service, more.NotExported[service])
			}
		})
	}
	return cmd
}
