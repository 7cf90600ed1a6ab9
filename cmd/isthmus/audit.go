package main

import (
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api"
)

const auditPath = "/isthmus/v1/audit"

func newAuditCommand() *cobra.Command {
	cmd, c := connected(group("audit", "Show who did what, and whether that record is whole"))
	cmd.AddCommand(newAuditListCommand(c), newAuditVerifyCommand(c))
	return cmd
}

func newAuditListCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the newest records of the audit trail, the newest first", Args: noArgs}
	limit := cmd.Flags().Uint("limit", 100, "how many `records`, at most 10000")
	before := cmd.Flags().Uint64("before", 0, "only records older than this `number`")
	out := formatted(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		query := url.Values{"limit": {strconv.FormatUint(uint64(*limit), 10)}}
		if *before > 0 {
			query.Set("before", strconv.FormatUint(*before, 10))
		}
		body, err := client.get(cmd.Context(), auditPath, query)
		if err != nil {
			return fmt.Errorf("audit trail: %w", err)
		}
		var records []api.AuditRecord
		return out.show(cmd, body, &records, func(w io.Writer) {
			rows := [][]string{{"Number", "Time", "Actor", "Action", "Object", "Detail"}}
			for _, r := range records {
				rows = append(rows, []string{strconv.FormatUint(r.Number, 10), moment(r.Time), orDash(r.Actor), r.Action, r.Object, r.Detail})
			}
			table(w, rows)
		})
	}
	return cmd
}

func newAuditVerifyCommand(c *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Verify that no record of the audit trail was changed, left out or cut off",
		Long: "Verifies that no record of the audit trail was changed, left out or cut off; exit code 1 if one was. Who can write the data directory can\n" +
			"write a whole trail anew: note the number and hash that this prints elsewhere, and a later `isthmus audit list` must still show them.",
		Args: noArgs,
	}
	out := formatted(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		body, err := client.get(cmd.Context(), auditPath+"/verify", nil)
		if err != nil {
			return fmt.Errorf("audit trail: %w", err)
		}
		var extent api.AuditExtent
		if err := decode(body, auditPath, &extent); err != nil {
			return err
		}
		err = out.show(cmd, body, &extent, func(w io.Writer) {
			pairs(w, [][2]string{
				{"Records", fmt.Sprintf("%d to %d", extent.First, extent.Newest)}, {"SHA-256 of the newest", orDash(extent.Hash)},
				{"Whole", yesNo(extent.Problem == "")},
			})
		})
		if err == nil && extent.Problem != "" {
			return fmt.Errorf("audit trail: %s", extent.Problem)
		}
		return err
	}
	return cmd
}
