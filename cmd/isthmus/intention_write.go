package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/config"
)

func newIntentionCreateCommand(c *connection) *cobra.Command {
	var allow, deny, replace bool
	var description string
	cmd := &cobra.Command{
		Use:   "create [-allow|-deny] [-replace] SRC DST",
		Short: "Allow or deny a service of this cluster to call another",
		Long: "Adds SRC to the service-intentions entry of DST. A source in another cluster (SRC@PEER) belongs into that entry itself:\n" +
			"the server then answers with the entry to write.",
		Args: exactly(2, "a source and a destination"),
	}
	cmd.Flags().BoolVar(&allow, "allow", false, "allow it (the default)")
	cmd.Flags().BoolVar(&deny, "deny", false, "deny it")
	cmd.Flags().BoolVar(&replace, "replace", false, "also where there is an intention for the two already")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		action, err := action(allow, deny)
		if err != nil {
			return err
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		name := args[0] + " => " + args[1]
		if !replace {
			if err := client.noIntention(cmd.Context(), args[0], args[1]); err != nil {
				return fmt.Errorf("intention %s: %w%s", name, err, peerHint(err, args[0], args[1], action))
			}
		}
		body := map[string]any{"SourceType": "consul", "Action": action}
		if description != "" {
			body["Description"] = description
		}
		_, err = client.do(cmd.Context(), request{method: http.MethodPut, path: intentionsPath + "/exact", query: pairQuery(args[0], args[1]), body: body})
		if err != nil {
			return fmt.Errorf("intention %s: %w%s", name, err, peerHint(err, args[0], args[1], action))
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Created: %s (%s)\n", name, action)
		next(cmd, "to see what holds now", "isthmus intention check "+args[0]+" "+args[1])
		return nil
	}
	return cmd
}

// peerHint says what to write instead of an intention with a source in another cluster, where the server did not.
func peerHint(err error, source, destination string, action config.Action) string {
	name, peer, elsewhere := strings.Cut(source, "@")
	if !elsewhere || strings.Contains(err.Error(), "service-intentions") {
		return ""
	}
	return fmt.Sprintf("; add the source to the entry, with isthmus config write: "+
		`Kind = "service-intentions", Name = %q, Sources = [{ Name = %q, Peer = %q, Action = %q }]`, destination, name, peer, action)
}

// noIntention returns an error when there is one for the two.
func (c *client) noIntention(ctx context.Context, source, destination string) error {
	var old intentionAnswer
	err := c.read(ctx, intentionsPath+"/exact", pairQuery(source, destination), &old)
	switch {
	case hasStatus(err, http.StatusNotFound):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("is there already, with action %s; -replace changes it", orL7(old.Action))
}

func newIntentionDeleteCommand(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "delete SRC DST | ID",
		Short: "Delete an intention for a service of this cluster",
		Args:  oneIntention,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			path, query, name := intentionPath(args)
			if len(args) == 2 {
				// The server deletes what is not there without a word.
				if _, err := client.get(cmd.Context(), path, query); err != nil {
					return fmt.Errorf("intention %s: %w", name, err)
				}
			}
			if _, err := client.do(cmd.Context(), request{method: http.MethodDelete, path: path, query: query}); err != nil {
				return fmt.Errorf("intention %s: %w", name, err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), "Intention deleted.")
			return nil
		},
	}
}
