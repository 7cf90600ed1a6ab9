package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newCACommand() *cobra.Command {
	cmd, c := connected(group("ca", "See the certificate authority"))
	cmd.AddCommand(newRootsCommand(c))
	return cmd
}

// rootsAnswer is the roots that vouch for our services, as Consul's path answers them.
type rootsAnswer struct {
	ActiveRootID, TrustDomain string
	Roots                     []struct {
		ID, Name, RootCert  string
		NotBefore, NotAfter time.Time
		Active              bool
	}
}

// shownRoots is the same in the spelling of our own verbs.
type shownRoots struct {
	ActiveRootID string      `json:"active_root_id"`
	TrustDomain  string      `json:"trust_domain"`
	Roots        []shownRoot `json:"roots"`
}

type shownRoot struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	RootCert  string    `json:"root_cert"` // PEM
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Active    bool      `json:"active"`
}

func (a rootsAnswer) shown() shownRoots {
	shown := shownRoots{ActiveRootID: a.ActiveRootID, TrustDomain: a.TrustDomain, Roots: []shownRoot{}}
	for _, root := range a.Roots {
		shown.Roots = append(shown.Roots, shownRoot(root))
	}
	return shown
}

func newRootsCommand(c *connection) *cobra.Command {
	var asPEM bool
	cmd := &cobra.Command{Use: "roots", Short: "Show the roots that vouch for this cluster's services", Args: noArgs}
	out := formatted(cmd)
	cmd.Flags().BoolVar(&asPEM, "pem", false, "print their certificates alone")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		body, err := client.get(cmd.Context(), "/v1/connect/ca/roots", nil)
		if err != nil {
			return fmt.Errorf("roots: %w", err)
		}
		var answer rootsAnswer
		if err := decode(body, "roots", &answer); err != nil {
			return err
		}
		if asPEM {
			for _, root := range answer.Roots {
				fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(root.RootCert))
			}
			return nil
		}
		return out.value(cmd, answer.shown(), func(w io.Writer) {
			fmt.Fprintf(w, "Trust Domain: %s\n\n", answer.TrustDomain)
			rows := [][]string{{"ID", "Name", "Active", "Not Before", "Not After"}}
			for _, root := range answer.Roots {
				rows = append(rows, []string{root.ID, root.Name, fmt.Sprint(root.Active), moment(root.NotBefore), moment(root.NotAfter)})
			}
			table(w, rows)
		})
	}
	return cmd
}
