package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func newEstablishCommand(c *connection) *cobra.Command {
	var name, token string
	var meta map[string]string
	var wait bool
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "establish -name PEER -peering-token TOKEN|-|@FILE",
		Short: "Connect to the cluster that made a token",
		Long: "Connects to the cluster that made the token with `peering generate-token`. The token is best read from stdin (-) or from\n" +
			"a file (@FILE): others on the machine see a command's arguments, and the shell remembers them.",
		Args: atMostOne,
	}
	cmd.Flags().StringVar(&name, "name", "", "what to call the other cluster here")
	cmd.Flags().StringVar(&token, "peering-token", "", "the `token`, - for stdin or @file (ISTHMUS_PEERING_TOKEN)")
	cmd.Flags().StringToStringVar(&meta, "meta", nil, "`key=value` to note with the peering; may be repeated")
	cmd.Flags().BoolVar(&wait, "wait", false, "end only once the peering is ACTIVE")
	cmd.Flags().DurationVar(&limit, "wait-timeout", 30*time.Second, "how long --wait waits")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		peer, err := named("name", name, args)
		if err != nil {
			return err
		}
		secret, err := secretInput("peering-token", token, cmd.InOrStdin(), "ISTHMUS_PEERING_TOKEN")
		if err != nil {
			return err
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		body := map[string]any{"PeerName": peer, "PeeringToken": secret.Reveal(), "Meta": meta}
		if _, err := client.do(cmd.Context(), request{method: http.MethodPost, path: "/v1/peering/establish", body: body}); err != nil {
			return fmt.Errorf("peer %s: establish: %w", peer, err)
		}
		if wait {
			if err := client.waitActive(cmd.Context(), cmd.ErrOrStderr(), peer, limit); err != nil {
				return err
			}
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Successfully established peering connection with %s\n", peer)
		next(cmd, "to see its state", "isthmus peering read --name "+peer)
		return nil
	}
	return cmd
}

// waitActive asks for a peering until it is ACTIVE, and says on w what it still waits for.
func (c *client) waitActive(ctx context.Context, w io.Writer, peer string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	var last, said string
	for {
		var p peeringAnswer
		err := c.look(ctx, "/v1/peering/"+segment(peer), nil, &p)
		switch {
		case err == nil && p.State == "ACTIVE":
			return nil
		case err == nil:
			last = p.State
			if reason := c.peerStatus(ctx, peer).Reason; reason != "" {
				last += ": " + reason
			}
		case ctx.Err() == nil:
			return peerError(peer, err)
		}
		if last != said {
			said = last
			fmt.Fprintf(w, "waiting for peer %s to be ACTIVE: it is %s\n", peer, last)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("peer %s: not ACTIVE after %s: it is %s", peer, limit, last)
		case <-again.C:
		}
	}
}
