// Isthmus is a control plane for Envoy that peers clusters of different operators, and the command line for it: every
// verb but serve and demo asks a running server over HTTP, and those that Consul has work against a Consul as well.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// The exit codes. A verb that answers a question has its own: see answered.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// run runs one command line and returns its exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(doubleDashes(args))
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteC()
	var quiet exitCode
	var wrong usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &quiet):
		return int(quiet)
	case errors.As(err, &wrong):
		fmt.Fprintf(stderr, "%v\nSee '%s --help'.\n", err, command.CommandPath())
		return exitUsage
	}
	fmt.Fprintln(stderr, err)
	var question questionError
	if errors.As(err, &question) {
		return exitUsage
	}
	return exitFailed
}

// rootCommand returns the whole tree of commands.
func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "isthmus",
		Short:         "Connects services of clusters that trust each other for nothing else",
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          needsSubcommand,
		Args:          cobra.ArbitraryArgs, // needsSubcommand refuses them
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		newServeCommand(),
		newDemoCommand(),
		newPeeringCommand(),
		newConfigCommand(),
		newServicesCommand(),
		newIntentionCommand(),
		newBootstrapCommand(),
		newConnectCommand(),
		newTokenCommand(),
		newAuditCommand(),
		newCACommand(),
		newSnapshotCommand(),
		newStatusCommand(),
		newProxiesCommand(),
		newWhyCommand(),
		newCheckCommand(),
		newDebugCommand(),
		newVersionCommand(),
	)
	return root
}

// needsSubcommand is what a command that only groups others does by itself.
func needsSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		meant := ""
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			meant = "; did you mean " + strings.Join(near, " or ") + "?"
		}
		return usagef("unknown command %q for %q%s", args[0], cmd.CommandPath(), meant)
	}
	cmd.SetOut(cmd.ErrOrStderr())
	if err := cmd.Help(); err != nil {
		return err
	}
	return exitCode(exitUsage)
}

// group returns a command that only groups others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, RunE: needsSubcommand, Args: cobra.ArbitraryArgs, SuggestionsMinimumDistance: 2}
	cmd.AddCommand(commands...)
	return cmd
}

// doubleDashes makes --name of -name up to the first "--", because Consul's users write long flags with one dash. No flag
// of ours has one letter but -h. A value that starts with a dash must be written as --flag=-value.
func doubleDashes(args []string) []string {
	fixed := make([]string, 0, len(args))
	for i, arg := range args {
		if arg == "--" {
			return append(fixed, args[i:]...)
		}
		if len(arg) > 2 && arg[0] == '-' && (arg[1] >= 'a' && arg[1] <= 'z' || arg[1] >= 'A' && arg[1] <= 'Z') {
			arg = "-" + arg
		}
		fixed = append(fixed, arg)
	}
	return fixed
}

// exitCode is an error that says nothing more: all has been printed.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// usageError is a command line that cannot be understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// atMostOneOf reports flags that were given together and exclude each other.
func atMostOneOf(cmd *cobra.Command, flags ...string) error {
	var given []string
	for _, name := range flags {
		if cmd.Flags().Changed(name) {
			given = append(given, "--"+name)
		}
	}
	if len(given) > 1 {
		return usagef("%s: want one of them", strings.Join(given, " and "))
	}
	return nil
}

// questionError is any error of a command whose exit code answers a question: 0 yes, 1 no, 2 it could not be asked.
type questionError struct{ error }

func (e questionError) Unwrap() error { return e.error }

// exactly refuses all but n arguments, which what names.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("want %s, got %d arguments", what, len(args))
		}
		return nil
	}
}

var noArgs = exactly(0, "no arguments")

func atMostOne(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef("want at most one argument, got %d", len(args))
	}
	return nil
}

func atLeastOne(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("want %s", what)
		}
		return nil
	}
}

// named returns the name that a flag or the one argument gave.
func named(flag, value string, args []string) (string, error) {
	switch {
	case len(args) > 1, value != "" && len(args) == 1:
		return "", usagef("want one name, by --%s or as the argument; got %s", flag, strings.Join(append([]string{value}, args...), " "))
	case len(args) == 1:
		return args[0], nil
	case value == "":
		return "", usagef("missing --%s", flag)
	}
	return value, nil
}
