package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/redact"
)

// maxInput bounds what is read from a file or stdin in whole.
const maxInput = 16 << 20

// readInput returns a file's contents, or stdin's for "-", with the name to use in errors.
func readInput(name string, stdin io.Reader) (string, []byte, error) {
	if name == "-" {
		text, err := io.ReadAll(io.LimitReader(stdin, maxInput))
		return "stdin", text, err
	}
	file, err := os.Open(name)
	if err != nil {
		return name, nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxInput))
	return name, text, err
}

// secretInput returns a secret that the command line names without holding it: "-" is stdin, "@name" a file. Without any,
// it is read from the variables, the first that is set.
func secretInput(what, value string, stdin io.Reader, variables ...string) (redact.String, error) {
	for _, variable := range variables {
		if value == "" {
			value = os.Getenv(variable)
		}
	}
	name, isFile := strings.CutPrefix(value, "@")
	switch {
	case value == "":
		return redact.String{}, usagef("missing --%s: the token, - for stdin, @file for a file, or %s", what, strings.Join(variables, ", "))
	case value != "-" && !isFile:
		return redact.NewString(strings.TrimSpace(value)), nil
	}
	if !isFile {
		name = "-"
	}
	source, text, err := readInput(name, stdin)
	if err != nil {
		return redact.String{}, fmt.Errorf("%s: %w", what, err)
	}
	secret := strings.TrimSpace(string(text))
	if secret == "" {
		return redact.String{}, fmt.Errorf("%s: %s is empty", what, source)
	}
	return redact.NewString(secret), nil
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
