package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/config"
)

// exitChanges is the exit code of a dry run that found changes.
const exitChanges = 3

func newConfigApplyCommand(c *connection) *cobra.Command {
	var prune, dryRun bool
	cmd := &cobra.Command{
		Use:   "apply FOLDER|FILE… [--prune] [--dry-run]",
		Short: "Make the server's config entries those of a folder, all at once or not at all",
		Long: "Reads every .hcl, .json, .yaml and .yml file in the folders and below, shows what is different at the server, and writes\n" +
			"that in one step. Entries that no file has stay, unless --prune is given. A dry run ends with exit code 3 when there are\n" +
			"changes and 0 when there are none.",
		Args: atLeastOne("folders or files of config entries"),
	}
	out := formatted(cmd)
	cmd.Flags().BoolVar(&prune, "prune", false, "delete the entries that no file has")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change, and change nothing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		wanted, err := entriesIn(args, cmd.InOrStdin())
		if err != nil {
			return err
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		request := api.ApplyRequest{Entries: []json.RawMessage{}, Prune: prune, DryRun: dryRun}
		var peers []string
		for _, entry := range wanted {
			peers = append(peers, peersOf(entry)...)
			text, err := json.Marshal(config.EncodeEntry(entry))
			if err != nil {
				return err
			}
			request.Entries = append(request.Entries, text)
		}
		result, err := client.apply(cmd.Context(), request)
		if err != nil {
			return fmt.Errorf("config apply: %w", err)
		}
		err = out.value(cmd, result, func(w io.Writer) { printChanges(w, result) })
		notePeers(cmd, client, peers)
		if err == nil && dryRun && len(result.Changes) > 0 {
			return exitCode(exitChanges)
		}
		return err
	}
	return cmd
}

// entriesIn reads all entries of files and folders, and returns every error of theirs at once.
func entriesIn(paths []string, stdin io.Reader) ([]config.Entry, error) {
	files, err := entryFiles(paths)
	if err != nil {
		return nil, err
	}
	var all []config.Entry
	var wrong []error
	from := map[string]string{}
	for _, file := range files {
		name, text, err := readInput(file, stdin)
		if err != nil {
			return nil, err
		}
		entries, err := config.ParseEntries(name, text)
		wrong = append(wrong, err)
		for _, entry := range entries {
			object := entry.EntryKind() + "/" + entry.EntryName()
			if other, twice := from[object]; twice {
				wrong = append(wrong, fmt.Errorf("%s: %s: is also in %s; want it once", name, object, other))
			}
			from[object] = name
			all = append(all, entry)
		}
	}
	return all, errors.Join(wrong...)
}

// entryFiles returns the files that paths name: a folder stands for what is in it and below and looks like entries.
func entryFiles(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		if info, err := os.Stat(path); path == "-" || err == nil && !info.IsDir() {
			files = append(files, path)
			continue
		} else if err != nil {
			return nil, err
		}
		before := len(files)
		err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() && name != path && strings.HasPrefix(entry.Name(), "."):
				return fs.SkipDir
			case !entry.IsDir() && slices.Contains([]string{".hcl", ".json", ".yaml", ".yml"}, filepath.Ext(name)):
				files = append(files, name)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(files) == before {
			return nil, fmt.Errorf("folder %s: holds no .hcl, .json, .yaml or .yml file", path)
		}
	}
	return files, nil
}

// apply has the server compare and write in one step, so that nobody else's write is lost.
func (c *client) apply(ctx context.Context, wanted api.ApplyRequest) (api.ApplyResult, error) {
	var result api.ApplyResult
	body, err := c.do(ctx, request{method: http.MethodPost, path: "/isthmus/v1/config/apply", body: wanted})
	if err != nil {
		return result, err
	}
	return result, decode(body, "config apply", &result)
}

// printChanges shows each change as a diff.
func printChanges(w io.Writer, result api.ApplyResult) {
	if len(result.Changes) == 0 {
		fmt.Fprintln(w, "No changes.")
		return
	}
	counts := map[string]int{}
	for _, c := range result.Changes {
		counts[c.Action]++
		fmt.Fprintf(w, "%s %s/%s\n", c.Action, c.Kind, c.Name)
		for _, line := range around(diffLines(indentedJSON(c.Before), indentedJSON(c.After)), 2) {
			switch line[0] {
			case '+':
				line = colour(w, "32", line)
			case '-':
				line = colour(w, "31", line)
			}
			fmt.Fprintf(w, "    %s\n", line)
		}
	}
	done := "Would apply"
	if result.Applied {
		done = "Applied"
	}
	fmt.Fprintf(w, "%s: %d to create, %d to update, %d to delete.\n", done, counts["create"], counts["update"], counts["delete"])
}

func indentedJSON(v map[string]any) string {
	if v == nil {
		return ""
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err) // it came from JSON
	}
	return string(text)
}
