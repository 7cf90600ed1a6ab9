package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// format is the value of --format: how a reading verb prints its answer.
type format string

const (
	pretty format = "pretty"
	asJSON format = "json"
)

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "pretty|json" }

// Set implements pflag.Value.
func (f *format) Set(value string) error {
	switch format(value) {
	case pretty, asJSON:
		*f = format(value)
		return nil
	}
	return fmt.Errorf("want %s or %s", pretty, asJSON)
}

// formatted adds --format to a command.
func formatted(cmd *cobra.Command) *format {
	f := pretty
	cmd.Flags().Var(&f, "format", "how to print the answer; json is stable")
	return &f
}

// show prints a server's answer: as it came, or with print after it was decoded into v with everything in it made visible.
func (f *format) show(cmd *cobra.Command, answer []byte, v any, print func(io.Writer)) error {
	if *f == asJSON {
		return printJSON(cmd.OutOrStdout(), answer)
	}
	if err := decodeVisible(answer, cmd.CommandPath(), v); err != nil {
		return err
	}
	print(cmd.OutOrStdout())
	return nil
}

// value prints what we know ourselves in the same two ways.
func (f *format) value(cmd *cobra.Command, v any, print func(io.Writer)) error {
	if *f != asJSON {
		print(cmd.OutOrStdout())
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return printJSON(cmd.OutOrStdout(), text)
}

func printJSON(w io.Writer, text []byte) error {
	var indented bytes.Buffer
	if err := json.Indent(&indented, bytes.TrimSpace(text), "", "  "); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	_, err := fmt.Fprintln(w, indented.String())
	return err
}

// table prints rows in columns, the first row being the head.
func table(w io.Writer, rows [][]string) {
	var text strings.Builder
	columns := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(columns, strings.Join(row, "\t"))
	}
	_ = columns.Flush() // of text, which takes everything
	// A cell at the end of a row is part of its column only if something follows it in every row: what is empty is cut now.
	for line := range strings.Lines(text.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

// pairs prints "Name:  value" lines with the values in one column.
func pairs(w io.Writer, lines [][2]string) {
	columns := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	for _, line := range lines {
		fmt.Fprintf(columns, "%s:\t%s\n", line[0], line[1])
	}
	_ = columns.Flush() // as above
}

// keyValues prints a map as k=v,k=v in the order of its keys.
func keyValues(m map[string]string) string {
	parts := make([]string, 0, len(m))
	for _, key := range sortedKeys(m) {
		parts = append(parts, key+"="+m[key])
	}
	return strings.Join(parts, ",")
}

// moment prints a time, and "-" for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// colour wraps text in an ANSI colour where a person looks at it.
func colour(w io.Writer, code, text string) string {
	if os.Getenv("NO_COLOR") != "" || !isTerminal(w) {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// next tells a person what to type now. It goes to stderr, so that stdout holds the answer alone.
func next(cmd *cobra.Command, when, command string) {
	fmt.Fprintf(cmd.ErrOrStderr(), "Next, %s: %s\n", when, command)
}
