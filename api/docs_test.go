package api

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// docs/http-api.md lists the paths that there are. UPDATE_GOLDEN=1 writes it.
func TestDocument(t *testing.T) {
	const file = "../docs/http-api.md"
	want := document()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the code serves: run UPDATE_GOLDEN=1 go test ./api -run TestDocument", file)
	}
}

func document() string {
	var text strings.Builder
	text.WriteString(`# The HTTP API

Generated from the code by ` + "`UPDATE_GOLDEN=1 go test ./api -run TestDocument`" + `. Paths under /v1 take and answer what Consul's do, with
its statuses, headers and blocking queries (?index, ?wait, ?filter, ?pretty); those under /isthmus/v1 are ours. An error is plain
text, or with ` + "`Accept: application/problem+json`" + ` a document with code, object, field and hint.

**Spelling** is a contract. Under /isthmus/v1, and in what ` + "`--format json`" + ` of our own verbs prints (audit, check, ca, config apply, config
validate, demo, peering token, proxies, status, token, version, why), each field is lower case with underscores: ` + "`last_ack`" + `. Under /v1, and of the
verbs that Consul has too, it is Consul's: ` + "`ModifyIndex`" + `. A config entry has Consul's wherever it stands, so that what was read can be
written again. Fields may be added; none changes its name or meaning within a version of the path.

Who may: **anybody**; **metrics**: a token of role metrics, read or operator, or whoever is on this machine; **proxy**: as read, and a
proxy's token, which is shown that proxy only; **read**: a token of role read or operator, or whoever is on this machine; **operator**: an operator token, or with --http-open whoever is on this machine.
"On this machine" is a loopback address under a loopback name: not a browser on behalf of a page, not a proxy on behalf of others.

## Served

The last column names the parameters of the query string that a path takes besides those of every path; what becomes of each is below.

| method | path | who may | parameters |
| --- | --- | --- | --- |
`)
	var refusals strings.Builder
	for _, e := range Endpoints() {
		switch {
		case e.Refused != "":
			hint := refused[e.Path].hint
			fmt.Fprintf(&refusals, "| %s | %s | %s |\n", e.Path, e.Refused, hint)
		case e.Method != anyMethod:
			fmt.Fprintf(&text, "| %s | %s | %s | %s |\n", e.Method, strings.TrimSuffix(e.Path, "{$}"), e.Access, strings.Join(e.Parameters, ", "))
		}
	}
	text.WriteString(parameterDocument())
	text.WriteString(`
## Refused, by name

Any method answers 501 with the feature's name. A path that is in neither table answers 404 and says that it is no path of this API.

| path, and below it where it ends in / | there is no | instead |
| --- | --- | --- |
`)
	text.WriteString(refusals.String())
	return text.String()
}

func parameterDocument() string {
	var text strings.Builder
	text.WriteString(`
## Query parameters

No parameter is accepted and ignored. One that a path does not take is refused with status 400, and the answer names those that it
takes. Every path takes ` + strings.Join(everywhere, ", ") + `.

| parameter | what becomes of it |
| --- | --- |
`)
	for _, name := range slices.Sorted(maps.Keys(parameterMeanings)) {
		fmt.Fprintf(&text, "| %s | %s |\n", name, parameterMeanings[name])
	}
	for _, name := range slices.Sorted(maps.Keys(refusedParameters)) {
		fmt.Fprintf(&text, "| %s | refused: %s |\n", name, refusedParameters[name])
	}
	text.WriteString("| token | refused: it would end up in logs; send the header X-Consul-Token |\n| any other | refused as unknown |\n")
	return text.String()
}

// Every parameter that a route takes has its line in the document, and every line its route.
func TestParametersAreDocumented(t *testing.T) {
	known := map[string]bool{}
	taken := map[string]bool{}
	for _, e := range Endpoints() {
		known[e.Method+" "+e.Path] = true
		for _, name := range e.Parameters {
			taken[name] = true
		}
	}
	for _, name := range everywhere {
		taken[name] = true
	}
	for pattern := range parameters {
		if !known[pattern] {
			t.Errorf("%s: there is no such route", pattern)
		}
	}
	for name := range taken {
		if parameterMeanings[name] == "" {
			t.Errorf("%s: says nowhere what becomes of it", name)
		}
	}
	for name := range parameterMeanings {
		if !taken[name] {
			t.Errorf("%s: is taken by no route", name)
		}
	}
}

// No route is open by oversight: what changes something, or shows a secret, is an operator's.
func TestWritesAreOperators(t *testing.T) {
	for _, e := range Endpoints() {
		if e.Refused != "" || e.Method == anyMethod || e.Method == "GET" || e.Path == "/v1/agent/connect/authorize" {
			continue
		}
		if e.Access != operate.String() {
			t.Errorf("%s %s: %s may: want operator", e.Method, e.Path, e.Access)
		}
	}
}
