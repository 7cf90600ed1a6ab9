package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api"
)

const tokensPath = "/isthmus/v1/tokens"

// tokenRequest is the body that makes a credential.
type tokenRequest struct {
	Role        string `json:"role"`
	Proxy       string `json:"proxy,omitempty"`
	Description string `json:"description,omitempty"`
	Bootstrap   bool   `json:"bootstrap,omitempty"`
}

func (c *client) createToken(ctx context.Context, wanted tokenRequest) (api.Token, error) {
	body, err := c.do(ctx, request{method: http.MethodPost, path: tokensPath, body: wanted})
	if err != nil {
		return api.Token{}, fmt.Errorf("token of role %s: %w", wanted.Role, err)
	}
	var made api.Token
	if err := decode(body, tokensPath, &made); err != nil {
		return api.Token{}, err
	}
	return made, nil
}

func newTokenCommand() *cobra.Command {
	cmd, c := connected(group("token", "Manage who may ask the server for what"))
	cmd.AddCommand(newTokenCreateCommand(c), newTokenListCommand(c), newTokenRevokeCommand(c))
	return cmd
}

func newTokenCreateCommand(c *connection) *cobra.Command {
	var operator, read, metrics bool
	var proxy, description string
	cmd := &cobra.Command{
		Use:   "create --operator | --read | --metrics | --proxy ID",
		Short: "Make a token and print it once",
		Args:  noArgs,
	}
	out := formatted(cmd)
	cmd.Flags().BoolVar(&operator, "operator", false, "may do everything")
	cmd.Flags().BoolVar(&read, "read", false, "may read what holds no secret")
	cmd.Flags().BoolVar(&metrics, "metrics", false, "may read /metrics")
	cmd.Flags().StringVar(&proxy, "proxy", "", "may read the configuration and certificate of the proxy with this `ID`")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := atMostOneOf(cmd, "operator", "read", "metrics", "proxy"); err != nil {
			return err
		}
		wanted := tokenRequest{Proxy: proxy, Description: description}
		switch {
		case operator:
			wanted.Role = "operator"
		case read:
			wanted.Role = "read"
		case metrics:
			wanted.Role = "metrics"
		case proxy != "":
			wanted.Role = "proxy"
		default:
			return usagef("want --operator, --read, --metrics or --proxy ID")
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		made, err := client.createToken(cmd.Context(), wanted)
		if err != nil {
			return err
		}
		if err := out.value(cmd, made, func(w io.Writer) { fmt.Fprintln(w, made.Secret) }); err != nil {
			return err
		}
		next(cmd, "to take it back", "isthmus token revoke "+made.Accessor)
		return nil
	}
	return cmd
}

func newTokenListCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the tokens, without their secrets", Args: noArgs}
	out := formatted(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		body, err := client.get(cmd.Context(), tokensPath, nil)
		if err != nil {
			return fmt.Errorf("tokens: %w", err)
		}
		var tokens []api.Token
		return out.show(cmd, body, &tokens, func(w io.Writer) {
			rows := [][]string{{"Accessor", "Role", "Proxy", "Created", "Last Used", "Description"}}
			for _, t := range tokens {
				rows = append(rows, []string{t.Accessor, string(t.Role), orDash(string(t.Proxy)), moment(t.Created), lastUse(t), t.Description})
			}
			table(w, rows)
		})
	}
	return cmd
}

// lastUse says when a token was used last, or that a proxy lives by it.
func lastUse(t api.Token) string {
	if t.Connected {
		return "connected"
	}
	return past(t.LastUsed)
}

func newTokenRevokeCommand(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ACCESSOR",
		Short: "Make a token worthless",
		Args:  exactly(1, "the accessor that `isthmus token list` shows"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			if _, err := client.do(cmd.Context(), request{method: http.MethodDelete, path: tokensPath + "/" + segment(args[0])}); err != nil {
				return fmt.Errorf("token %s: %w", args[0], err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Revoked token: %s\n", args[0])
			return nil
		},
	}
}
