package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// hostile are bodies that keep some parser busy, or blow up what it makes of them. None is longer than a file may be.
var hostile = map[string]string{
	"brackets":           strings.Repeat("[", 200_000),
	"brackets in hcl":    "a = " + strings.Repeat("[", 200_000),
	"braces in hcl":      "a = " + strings.Repeat("{", 200_000),
	"blocks in hcl":      strings.Repeat("a {", 60_000),
	"closed brackets":    "a = " + strings.Repeat("[", 90_000) + strings.Repeat("]", 90_000),
	"keys in hcl":        strings.Repeat("a ", 100_000) + "{}",
	"objects in json":    strings.Repeat(`{"a":`, 40_000),
	"illegal in hcl":     strings.Repeat("%", 200_000),
	"heredocs":           strings.Repeat("a=<<E\nE\n", 25_000),
	"unterminated":       `a = "` + strings.Repeat("${", 100_000),
	"yaml brackets":      "---\n" + strings.Repeat("[", 200_000),
	"yaml dashes":        strings.Repeat("- ", 100_000),
	"yaml alias bomb":    aliasBomb(),
	"yaml alias to self": "---\na: &a\n  b: *a\n",
	"too many bytes":     "# " + strings.Repeat("x", maxBytes),
	"too many values":    `{"a":[` + strings.Repeat("1,", maxNodes) + `1]}`,
	"nul":                "a = \x00",
	"bad utf-8":          "a = \"\xff\"",
}

func aliasBomb() string {
	var b strings.Builder
	b.WriteString("---\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	return b.String()
}

// TestHostileBodies: each is refused with one short error, and long before anybody would notice. 200 kB of brackets take
// hcl more than a minute and a half.
func TestHostileBodies(t *testing.T) {
	for name, body := range hostile {
		t.Run(name, func(t *testing.T) {
			var err error
			took := quickest(5, func() { _, err = ParseEntries("", []byte(body)) })
			var refusal *Error
			if !errors.As(err, &refusal) {
				t.Fatalf("got %v: want an *Error", err)
			}
			if text := err.Error(); len(text) > 500 || strings.Count(text, "\n") > 2 {
				t.Errorf("the error is %d bytes: %.200s…", len(text), text)
			}
			limit := 50 * time.Millisecond
			if strings.HasPrefix(name, "too many") || strings.HasPrefix(name, "yaml alias") {
				limit = 500 * time.Millisecond // a body that is as large as it may be
			}
			if took > limit*slack {
				t.Errorf("took %v: want at most %v", took, limit)
			}
		})
	}
}

// quickest returns the shortest of several times that f takes: the others are somebody else's.
func quickest(times int, f func()) time.Duration {
	shortest := time.Hour
	for range times {
		start := time.Now()
		f()
		shortest = min(shortest, time.Since(start))
	}
	return shortest
}

// TestDepth: as deep as may be is read, one deeper is not, in each language.
func TestDepth(t *testing.T) {
	for name, write := range map[string]func(depth int) string{
		"a.json": func(n int) string { return strings.Repeat(`{"a":`, n-1) + "1" + strings.Repeat("}", n-1) },
		"a.hcl":  func(n int) string { return strings.Repeat("a {", n-2) + "a = 1" + strings.Repeat("}", n-2) },
		"a.yaml": func(n int) string { return strings.Repeat(`{a: `, n-1) + "1" + strings.Repeat("}", n-1) },
	} {
		if _, err := parseFile(name, []byte(write(maxDepth))); err != nil {
			t.Errorf("%s: %d levels: %v", name, maxDepth, err)
		}
		if _, err := parseFile(name, []byte(write(maxDepth+1))); err == nil || !strings.Contains(err.Error(), "deeper than 64") {
			t.Errorf("%s: %d levels: got %v", name, maxDepth+1, err)
		}
	}
}

// TestGuardSeesWhatTheParserSees: brackets in strings, comments and heredocs are no nesting.
func TestGuardSeesWhatTheParserSees(t *testing.T) {
	many := strings.Repeat("[{", 100)
	for _, body := range []string{
		`a = "` + many + `"`, "# " + many + "\na = 1", "// " + many + "\na = 1", "/* " + many + "\n" + many + " */ a = 1",
		"a = <<EOF\n" + many + "\nEOF\n", "a = <<-EOF\n  " + many + "\n  EOF\n", `a = "${` + strings.Repeat("{", 100) + strings.Repeat("}", 100) + `}"`,
		`a = "\"` + many + `"`,
	} {
		if _, err := parseFile("a.hcl", []byte(body)); err != nil {
			t.Errorf("%.60s…: %v", body, err)
		}
	}
	for _, body := range []string{
		`a = "" ` + many, "a = 1 # x\n b = " + many, `a = "\\" b = ` + many, "a = <<EOF\nEOF\nb = " + many,
	} {
		if line, err := guardHCL([]byte(body)); err == nil || line == 0 {
			t.Errorf("%.60s…: line %d, %v: want it refused", body, line, err)
		}
	}
}

func TestLanguage(t *testing.T) {
	for _, known := range []struct{ file, body, want string }{
		{"a.yaml", `{"a": 1}`, "yaml"}, {"a.YML", "a: 1", "yaml"}, {"a.json", "a: 1", "json"}, {"a.hcl", "a: 1", "hcl"},
		{"a.hcl", ` {"a": 1}`, "json"}, {"-", `[1]`, "json"}, {"-", "# x\n\nKind: mesh", "yaml"}, {"-", "Kind = \"mesh\"", "hcl"},
		{"-", "---\n", "yaml"}, {"-", "- a", "yaml"}, {"-", `"Kind": x`, "yaml"}, {"-", "Peering {\n a: b", "hcl"}, {"-", "", "hcl"},
		{"-", "// x\nKind = 1", "hcl"}, {"-", "kind = \"a: b\"", "hcl"},
	} {
		if got := language(known.file, []byte(known.body)); got != known.want {
			t.Errorf("%s %q: is %s, want %s", known.file, known.body, got, known.want)
		}
	}
}

func TestByteOrderMarkAndCarriageReturns(t *testing.T) {
	for _, body := range []string{"\ufeffKind = \"mesh\"\r\nName = \"mesh\"\r\n", "\ufeffKind: mesh\r\nName: mesh\r\n", "\ufeff{\"Kind\":\r\n\"mesh\"}"} {
		if entry, err := ParseEntry("", []byte(body)); err != nil || entry.EntryName() != "mesh" {
			t.Errorf("%q: %v", body, err)
		}
	}
}

// TestManyWrongFields: what is wrong in many places of a file costs no more than what is right.
func TestManyWrongFields(t *testing.T) {
	var fields, checks strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&fields, `"Descripton%d":1,`, i)
	}
	for range 10_000 {
		checks.WriteString(`{"TTL":"1s","OutputMaxSize":1},`)
	}
	start := time.Now()
	_, err := ParseEntry("", []byte(`{"Kind":"mesh",`+strings.TrimSuffix(fields.String(), ",")+`}`))
	if err == nil || !strings.HasSuffix(err.Error(), "and 9900 more errors") {
		t.Errorf("got %.300v", err)
	}
	if service, err := ParseRegistration([]byte(`{"Name":"a","Check":[` + strings.TrimSuffix(checks.String(), ",") + `]}`)); err != nil || len(service.Kept) != 10_000 {
		t.Errorf("got %.300v", err)
	}
	if took := time.Since(start); took > time.Second*slack {
		t.Errorf("took %v", took)
	}
}
