package main

import (
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/config"
)

const intentionsPath = "/v1/connect/intentions"

func newIntentionCommand() *cobra.Command {
	cmd, c := connected(group("intention", "Ask and say who may call whom"))
	cmd.AddCommand(
		newIntentionCheckCommand(c), newIntentionMatchCommand(c), newIntentionListCommand(c), newIntentionGetCommand(c),
		newIntentionCreateCommand(c), newIntentionDeleteCommand(c),
	)
	return cmd
}

// intentionAnswer is one intention as the server describes it.
type intentionAnswer struct {
	ID, Description, SourceName, SourcePeer, DestinationName, Action string
	Meta                                                             map[string]string
	Precedence                                                       int
	CreateIndex, ModifyIndex                                         uint64
}

// source prints a source as it is typed: NAME, or NAME@PEER.
func (i intentionAnswer) source() string {
	if i.SourcePeer != "" {
		return i.SourceName + "@" + i.SourcePeer
	}
	return i.SourceName
}

func (i intentionAnswer) String() string {
	return fmt.Sprintf("%s => %s (%s)", i.source(), i.DestinationName, orL7(i.Action))
}

// orL7 names the action of an intention that has none, as a Consul may have.
func orL7(action string) string {
	if action == "" {
		return "L7 permissions"
	}
	return action
}

// sourceParam writes NAME@PEER as the API wants it. Consul's own peer:PEER/NAME is left alone.
func sourceParam(text string) string {
	if name, peer, ok := strings.Cut(text, "@"); ok {
		return "peer:" + peer + "/" + name
	}
	return text
}

func pairQuery(source, destination string) url.Values {
	return url.Values{"source": {sourceParam(source)}, "destination": {destination}}
}

func newIntentionCheckCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check SRC[@PEER] DST",
		Short: "Tell whether a service may call another: exit code 0 yes, 1 no, 2 error",
		Args:  exactly(2, "a source and a destination"),
	}
	out := formatted(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := c.client()
		if err != nil {
			return questionError{err}
		}
		body, err := client.get(cmd.Context(), intentionsPath+"/check", pairQuery(args[0], args[1]))
		if err != nil {
			return questionError{fmt.Errorf("intention %s => %s: %w", args[0], args[1], err)}
		}
		var answer struct{ Allowed bool }
		if err := decode(body, "intention check", &answer); err != nil {
			return questionError{err}
		}
		if err := out.show(cmd, body, &answer, func(w io.Writer) { fmt.Fprintln(w, verdict(w, answer.Allowed)) }); err != nil {
			return questionError{err}
		}
		if !answer.Allowed {
			return exitCode(exitFailed)
		}
		return nil
	}
	return cmd
}

func verdict(w io.Writer, allowed bool) string {
	if allowed {
		return colour(w, "32", "Allowed")
	}
	return colour(w, "31", "Denied")
}

func newIntentionMatchCommand(c *connection) *cobra.Command {
	var bySource, byDestination bool
	cmd := &cobra.Command{
		Use:   "match [-source|-destination] NAME[@PEER]",
		Short: "List the intentions that apply to a service, the one that decides first",
		Args:  exactly(1, "the name of a service"),
	}
	out := formatted(cmd)
	cmd.Flags().BoolVar(&bySource, "source", false, "as a caller")
	cmd.Flags().BoolVar(&byDestination, "destination", false, "as the one called (the default)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := atMostOneOf(cmd, "source", "destination"); err != nil {
			return err
		}
		by := "destination"
		if !bySource && strings.Contains(args[0], "@") {
			return usagef("%s is of a peer: its intentions as a caller are shown with -source, those as a destination by its own cluster", args[0])
		}
		if bySource {
			by = "source"
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		var answer map[string][]intentionAnswer
		body, err := client.get(cmd.Context(), intentionsPath+"/match", url.Values{"by": {by}, "name": {sourceParam(args[0])}})
		if err != nil {
			return fmt.Errorf("intentions of %s: %w", args[0], err)
		}
		return out.show(cmd, body, &answer, func(w io.Writer) {
			matches := answer[sourceParam(args[0])]
			if len(matches) == 0 {
				fmt.Fprintf(w, "No intention matches %s: the default policy decides.\n", args[0])
			}
			for _, i := range matches {
				fmt.Fprintln(w, i)
			}
		})
	}
	return cmd
}

func newIntentionListCommand(c *connection) *cobra.Command {
	var filter string
	cmd := &cobra.Command{Use: "list", Short: "List all intentions, the most precise first", Args: noArgs}
	out := formatted(cmd)
	cmd.Flags().StringVar(&filter, "filter", "", "Consul's filter `expression`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		query := url.Values{}
		if filter != "" {
			query.Set("filter", filter)
		}
		body, err := client.get(cmd.Context(), intentionsPath, query)
		if err != nil {
			return fmt.Errorf("intentions: %w", err)
		}
		var intentions []intentionAnswer
		return out.show(cmd, body, &intentions, func(w io.Writer) {
			if len(intentions) == 0 {
				fmt.Fprintln(w, "There are no intentions.")
				return
			}
			rows := [][]string{{"ID", "Source", "Action", "Destination", "Precedence"}}
			for _, i := range intentions {
				rows = append(rows, []string{orDash(i.ID), i.source(), orL7(i.Action), i.DestinationName, strconv.Itoa(i.Precedence)})
			}
			table(w, rows)
		})
	}
	return cmd
}

// intentionPath names one intention by its ID, or by source and destination.
func intentionPath(args []string) (path string, query url.Values, name string) {
	if len(args) == 1 {
		return intentionsPath + "/" + segment(args[0]), nil, args[0]
	}
	return intentionsPath + "/exact", pairQuery(args[0], args[1]), args[0] + " => " + args[1]
}

func oneIntention(_ *cobra.Command, args []string) error {
	if len(args) != 1 && len(args) != 2 {
		return usagef("want a source and a destination, or an ID; got %d arguments", len(args))
	}
	return nil
}

func newIntentionGetCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{Use: "get SRC[@PEER] DST | ID", Short: "Show one intention", Args: oneIntention}
	out := formatted(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		path, query, name := intentionPath(args)
		body, err := client.get(cmd.Context(), path, query)
		if err != nil {
			return fmt.Errorf("intention %s: %w", name, err)
		}
		var i intentionAnswer
		return out.show(cmd, body, &i, func(w io.Writer) {
			lines := [][2]string{{"Source", i.SourceName}}
			if i.SourcePeer != "" {
				lines = append(lines, [2]string{"Source Peer", i.SourcePeer})
			}
			lines = append(lines, [][2]string{
				{"Destination", i.DestinationName}, {"Action", orL7(i.Action)}, {"ID", orDash(i.ID)}, {"Precedence", strconv.Itoa(i.Precedence)},
			}...)
			for _, line := range [][2]string{{"Description", i.Description}, {"Meta", keyValues(i.Meta)}} {
				if line[1] != "" {
					lines = append(lines, line)
				}
			}
			pairs(w, append(lines, [2]string{"Create Index", strconv.FormatUint(i.CreateIndex, 10)}, [2]string{"Modify Index", strconv.FormatUint(i.ModifyIndex, 10)}))
		})
	}
	return cmd
}

// action returns what -allow and -deny say.
func action(allow, deny bool) (config.Action, error) {
	switch {
	case allow && deny:
		return "", usagef("-allow and -deny: want one of them")
	case deny:
		return config.Deny, nil
	}
	return config.Allow, nil // as Consul's CLI takes it
}
