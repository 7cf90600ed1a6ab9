package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/config"
)

func newConfigCommand() *cobra.Command {
	cmd, c := connected(group("config", "Write and read config entries: what is exported, who may call whom"))
	cmd.AddCommand(newConfigWriteCommand(c), newConfigReadCommand(c), newConfigListCommand(c), newConfigDeleteCommand(c), newConfigValidateCommand(), newConfigApplyCommand(c))
	return cmd
}

// entryPath returns where entries of a kind are: what Consul does not know has a place of its own.
func entryPath(kind string, name ...string) string {
	path := "/v1/config/" + segment(kind)
	if kind == config.KindPeerPolicy {
		path = "/isthmus" + path
	}
	for _, n := range name {
		path += "/" + segment(n)
	}
	return path
}

// casFlags are Consul's flags for "only if nobody has changed it since".
type casFlags struct {
	cas   bool
	index uint64
}

func (f *casFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.cas, "cas", false, "only if the entry is still at --modify-index")
	cmd.Flags().Uint64Var(&f.index, "modify-index", 0, "the `index` that `config read` showed; 0: only if there is none")
}

func (f *casFlags) query() (url.Values, error) {
	switch {
	case f.cas:
		return url.Values{"cas": {strconv.FormatUint(f.index, 10)}}, nil
	case f.index != 0:
		return nil, usagef("--modify-index without --cas has no effect")
	}
	return nil, nil
}

// stored tells whether a compare-and-set was done: the answer of one that was not is false.
func stored(body []byte) bool { return string(bytes.TrimSpace(body)) != "false" }

func newConfigWriteCommand(c *connection) *cobra.Command {
	var cas casFlags
	cmd := &cobra.Command{
		Use:   "write FILE|-",
		Short: "Create or replace one config entry, in HCL, JSON or YAML",
		Args:  exactly(1, "one file, or - for stdin"),
	}
	cas.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		query, err := cas.query()
		if err != nil {
			return err
		}
		name, text, err := readInput(args[0], cmd.InOrStdin())
		if err != nil {
			return err
		}
		entry, err := config.ParseEntry(name, text)
		if err != nil {
			return err
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		object := entry.EntryKind() + "/" + entry.EntryName()
		path := "/v1/config"
		if entry.EntryKind() == config.KindPeerPolicy {
			path = "/isthmus/v1/config/" + config.KindPeerPolicy
		}
		body, err := client.do(cmd.Context(), request{method: http.MethodPut, path: path, query: query, body: config.EncodeEntry(entry)})
		if err != nil {
			return fmt.Errorf("config entry %s: %w", object, err)
		}
		if !stored(body) {
			return fmt.Errorf("config entry %s: not written: it is no longer at index %d; read it again", object, cas.index)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Config entry written: %s\n", object)
		notePeers(cmd, client, peersOf(entry))
		return nil
	}
	return cmd
}

// entryFlags are the kind and name of one entry, which may also be one argument KIND/NAME.
type entryFlags struct{ kind, name string }

func (f *entryFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.kind, "kind", "", "the entry's kind")
	cmd.Flags().StringVar(&f.name, "name", "", "the entry's name")
}

func (f *entryFlags) check() error {
	switch {
	case f.kind == "":
		return usagef("missing --kind")
	case f.name == "":
		return usagef("missing --name")
	}
	return nil
}

func newConfigReadCommand(c *connection) *cobra.Command {
	var entry entryFlags
	cmd := &cobra.Command{Use: "read -kind KIND -name NAME", Short: "Print one config entry as JSON", Args: noArgs}
	entry.add(cmd)
	formatted(cmd) // for symmetry with the other reading verbs: an entry is JSON anyway
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := entry.check(); err != nil {
			return err
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		body, err := client.get(cmd.Context(), entryPath(entry.kind, entry.name), nil)
		if err != nil {
			return fmt.Errorf("config entry %s/%s: %w", entry.kind, entry.name, err)
		}
		return printJSON(cmd.OutOrStdout(), body)
	}
	return cmd
}

func newConfigListCommand(c *connection) *cobra.Command {
	var kind, filter string
	cmd := &cobra.Command{Use: "list -kind KIND", Short: "List the names of a kind's config entries", Args: noArgs}
	out := formatted(cmd)
	cmd.Flags().StringVar(&kind, "kind", "", "the kind")
	cmd.Flags().StringVar(&filter, "filter", "", "Consul's filter `expression`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if kind == "" {
			return usagef("missing --kind")
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		query := url.Values{}
		if filter != "" {
			query.Set("filter", filter)
		}
		body, err := client.get(cmd.Context(), entryPath(kind), query)
		if err != nil {
			return fmt.Errorf("config entries %s: %w", kind, err)
		}
		var entries []struct{ Name string }
		return out.show(cmd, body, &entries, func(w io.Writer) {
			for _, entry := range entries {
				// Consul's entries of this kind have no Name, and only one can be.
				if entry.Name == "" {
					entry.Name = kind
				}
				fmt.Fprintln(w, entry.Name)
			}
		})
	}
	return cmd
}

func newConfigDeleteCommand(c *connection) *cobra.Command {
	var entry entryFlags
	var cas casFlags
	var file string
	cmd := &cobra.Command{Use: "delete -kind KIND -name NAME | -filename FILE", Short: "Delete one config entry", Args: noArgs}
	entry.add(cmd)
	cas.add(cmd)
	cmd.Flags().StringVar(&file, "filename", "", "a `file` with the entry, instead of kind and name")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if file != "" {
			name, text, err := readInput(file, cmd.InOrStdin())
			if err != nil {
				return err
			}
			written, err := config.ParseEntry(name, text)
			if err != nil {
				return err
			}
			entry = entryFlags{written.EntryKind(), written.EntryName()}
		}
		if err := entry.check(); err != nil {
			return err
		}
		query, err := cas.query()
		if err != nil {
			return err
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		body, err := client.do(cmd.Context(), request{method: http.MethodDelete, path: entryPath(entry.kind, entry.name), query: query})
		if err != nil {
			return fmt.Errorf("config entry %s/%s: %w", entry.kind, entry.name, err)
		}
		if !stored(body) {
			return fmt.Errorf("config entry %s/%s: not deleted: it is no longer at index %d; read it again", entry.kind, entry.name, cas.index)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Config entry deleted: %s/%s\n", entry.kind, entry.name)
		return nil
	}
	return cmd
}

// validated is what `config validate` says of one file.
type validated struct {
	File    string              `json:"file"`
	Entries []string            `json:"entries,omitempty"`
	Kept    map[string][]string `json:"kept,omitempty"` // by entry: fields without an effect
	Errors  []string            `json:"errors,omitempty"`
}

func newConfigValidateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate FILE|FOLDER|-…",
		Short: "Check files of config entries without asking any server",
		Args:  atLeastOne("files or folders of config entries"),
	}
	out := formatted(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		files, err := entryFiles(args)
		if err != nil {
			return err
		}
		var checked []validated
		bad := 0
		for _, file := range files {
			name, text, err := readInput(file, cmd.InOrStdin())
			if err != nil {
				return err
			}
			result := validated{File: name}
			entries, err := config.ParseEntries(name, text)
			for _, e := range eachError(err) {
				result.Errors = append(result.Errors, e.Error())
				bad++
				if *out == pretty {
					fmt.Fprintln(cmd.ErrOrStderr(), e)
				}
			}
			for _, entry := range entries {
				object := entry.EntryKind() + "/" + entry.EntryName()
				result.Entries = append(result.Entries, object)
				if kept := config.KeptFields(entry); len(kept) > 0 {
					if result.Kept == nil {
						result.Kept = map[string][]string{}
					}
					result.Kept[object] = kept
				}
			}
			checked = append(checked, result)
		}
		if err := out.value(cmd, checked, func(w io.Writer) { printValidated(w, checked) }); err != nil {
			return err
		}
		if bad > 0 {
			return exitCode(exitFailed)
		}
		return nil
	}
	return cmd
}

func printValidated(w io.Writer, checked []validated) {
	for _, file := range checked {
		for _, entry := range file.Entries {
			fmt.Fprintf(w, "%s: %s is valid\n", file.File, entry)
			for _, field := range file.Kept[entry] {
				fmt.Fprintf(w, "%s: %s: %s is kept, and has no effect\n", file.File, entry, field)
			}
		}
	}
}

// eachError takes joined errors apart.
func eachError(err error) []error {
	var joined interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &joined):
		return joined.Unwrap()
	}
	return []error{err}
}
