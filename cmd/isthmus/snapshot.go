package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/state"
)

// snapshotTimeout bounds how long a snapshot may take on the wire.
const snapshotTimeout = 15 * time.Minute

const snapshotPath = "/v1/snapshot"

func newSnapshotCommand() *cobra.Command {
	cmd, c := connected(group("snapshot", "Back up and restore the whole state, keys included"))
	cmd.AddCommand(newSnapshotSaveCommand(c), newSnapshotRestoreCommand(c), newSnapshotInspectCommand())
	return cmd
}

// stream sends a request whose body or answer may be large, as the operator where that can be.
func (c *client) stream(ctx context.Context, method string, body io.Reader) (io.ReadCloser, error) {
	c.becomeOperator(ctx)
	return c.open(ctx, request{method: method, path: snapshotPath}, body)
}

func newSnapshotSaveCommand(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "save FILE",
		Short: "Save the state to a file that only you can read",
		Args:  exactly(1, "the file to write"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), snapshotTimeout)
			defer cancel()
			said, err := client.saveSnapshot(ctx, args[0])
			if err != nil {
				return fmt.Errorf("snapshot %s: %w", args[0], err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), said)
			next(cmd, "to see what it holds", "isthmus snapshot inspect "+args[0])
			return nil
		},
	}
}

// saveSnapshot writes a snapshot beside the file's place, reads it again, and only then puts it there.
func (c *client) saveSnapshot(ctx context.Context, name string) (said string, err error) {
	answer, err := c.stream(ctx, http.MethodGet, nil)
	if err != nil {
		return "", err
	}
	defer answer.Close()
	file, err := renameio.NewPendingFile(name, renameio.WithStaticPermissions(0o600))
	if err != nil {
		return "", err
	}
	defer file.Cleanup()
	if _, err := io.Copy(file, answer); err != nil {
		return "", err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	info, err := state.InspectSnapshot(file.File)
	switch {
	case errors.Is(err, state.ErrConsulSnapshot):
		said = "Saved snapshot of a Consul"
	case err != nil:
		return "", err
	default:
		said = fmt.Sprintf("Saved and verified snapshot to index %d", info.Index)
	}
	return said, file.CloseAtomicallyReplace()
}

func newSnapshotRestoreCommand(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE",
		Short: "Replace the server's state by a snapshot's",
		Args:  exactly(1, "the file to restore"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			client, err := c.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), snapshotTimeout)
			defer cancel()
			answer, err := client.stream(ctx, http.MethodPut, file)
			if err != nil {
				return fmt.Errorf("snapshot %s: %w", args[0], err)
			}
			if err := answer.Close(); err != nil {
				return fmt.Errorf("snapshot %s: %w", args[0], err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), "Restored snapshot")
			client.showOperators(ctx, cmd.OutOrStdout())
			return nil
		},
	}
}

// showOperators says who is an operator now: a backup brings its credentials with it, and may be from before they were taken back.
func (c *client) showOperators(ctx context.Context, w io.Writer) {
	var tokens []api.Token
	err := c.read(ctx, tokensPath, nil, &tokens)
	switch {
	case hasStatus(err, http.StatusForbidden) || hasStatus(err, http.StatusUnauthorized):
		fmt.Fprintln(w, "The token that you used is good no more: it is none of the snapshot's.")
		return
	case err != nil: // a Consul, or a server that went away: what was asked for is done
		return
	}
	rows, others := [][]string{{"Accessor", "Created", "Description"}}, 0
	for _, t := range tokens {
		if t.Role != snapshot.RoleOperator {
			others++
			continue
		}
		rows = append(rows, []string{t.Accessor, moment(t.Created), t.Description})
	}
	fmt.Fprintf(w, "\nOperators' tokens that are good now (others: %d, isthmus token list; unused peering tokens: revoked):\n", others)
	table(w, rows)
	fmt.Fprintln(w, "\nNext, for each that is not wanted: isthmus token revoke ACCESSOR")
}

func newSnapshotInspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Verify a snapshot and say what it holds, without asking any server",
		Args:  exactly(1, "the file to inspect"),
	}
	out := formatted(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		file, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer file.Close()
		info, err := state.InspectSnapshot(file)
		if err != nil {
			return fmt.Errorf("snapshot %s: %w", args[0], err)
		}
		about := struct {
			state.SnapshotInfo
			Checksum string `json:"checksum"`
		}{info, info.Checksum}
		return out.value(cmd, about, func(w io.Writer) {
			pairs(w, [][2]string{
				{"Index", strconv.FormatUint(info.Index, 10)}, {"Created", moment(info.Created)}, {"Trust Domain", orDash(info.TrustDomain)},
				{"Datacenter", orDash(info.Datacenter)}, {"Size", strconv.FormatInt(info.Size, 10)}, {"SHA-256", info.Checksum},
			})
			fmt.Fprintln(w)
			rows := [][]string{{"Type", "Count"}}
			for _, table := range sortedKeys(info.Objects) {
				rows = append(rows, []string{table, strconv.Itoa(info.Objects[table])})
			}
			table(w, rows)
		})
	}
	return cmd
}
