// Package isthmus_test keeps the shape of the source: who imports whom, and how long things may be. It needs no tool to
// be installed, and a package that its table does not know fails it: a new package is a decision.
package isthmus_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/isthmus-mesh/isthmus/"

// mayImport lists, for each folder, which of our folders its non-test files may import. internal/… is open to all.
var mayImport = map[string][]string{
	"sni":                {},
	"ca":                 {},
	"xds/envoy":          {},
	"envoy-bootstrap":    {},
	"internal/redact":    {},
	"internal/logkey":    {},
	"internal/testcount": {},
	"internal/connlimit": {},
	"internal/session":   {}, // test support: what the scripts of command lines share
	"config":             {"sni"},
	"snapshot":           {"config", "sni"},
	"state":              {"snapshot", "config", "ca", "sni"},
	"consul":             {"snapshot", "config", "ca", "sni"},
	"health":             {"snapshot", "config", "ca", "sni"},
	"peering":            {"snapshot", "config", "sni", "ca", "peering/wire"},
	"peering/wire":       {},
	"gateway":            {"snapshot", "sni", "xds/envoy"},
	"sidecar":            {"snapshot", "sni", "xds/envoy"},
	"xds":                {"xds/envoy"},
	// Test support: shows what a set means, in words and to a real Envoy.
	"xds/envoy/envoytest": {"xds/envoy"},
	"api":                 {"config", "snapshot", "sni"},
	"api/dns":             {"config", "snapshot"},
	"cmd/isthmus":         {"*"},
	"cmd/isthmus/demo":    {"*"},
	"e2e":                 {},
	"e2e/lab":             {},
	".":                   {},
}

// fences lists who may import a third-party path, by its prefix. Tests may import anything.
var fences = map[string][]string{
	"github.com/hashicorp/consul/api":                 {"consul", "cmd/isthmus"},
	"github.com/envoyproxy/go-control-plane/pkg/":     {"xds"},
	"github.com/envoyproxy/go-control-plane/envoy/":   {"xds/envoy", "xds/envoy/envoytest", "gateway", "sidecar", "xds", "envoy-bootstrap"},
	"github.com/cncf/xds/go/":                         {"xds/envoy", "xds/envoy/envoytest", "gateway", "sidecar", "xds", "envoy-bootstrap"},
	"google.golang.org/grpc":                          {"xds", "peering", "peering/wire", "consul"},
	"go.etcd.io/bbolt":                                {"state"},
	"github.com/hashicorp/hcl":                        {"config"},
	"github.com/hashicorp/go-immutable-radix":         {"snapshot"},
	"github.com/spf13/cobra":                          {"cmd/isthmus"},
	"github.com/miekg/dns":                            {"api/dns"},
	"github.com/prometheus/client_golang/prometheus/": {"api", "cmd/isthmus"},
}

// never lists what the pure folders may not import at all.
var never = map[string][]string{
	"gateway":   {"github.com/sirupsen/logrus", "github.com/prometheus/", "net/http", "os"},
	"sidecar":   {"github.com/sirupsen/logrus", "github.com/prometheus/", "net/http", "os"},
	"xds/envoy": {"github.com/sirupsen/logrus", "github.com/prometheus/", "net/http", "os"},
	"sni":       {"github.com/sirupsen/logrus", "github.com/prometheus/", "net/http", "os"},
	"snapshot":  {"github.com/sirupsen/logrus", "github.com/prometheus/", "net/http", "os"},
}

const (
	maxFileLines     = 500
	maxFunctionLines = 70
	maxCaseLines     = 150
)

type source struct {
	path, folder string
	test         bool
	lines        int
	file         *ast.File
	fset         *token.FileSet
}

// sources returns every Go file of ours that a person wrote: generated protobufs and nested modules are not.
func sources(t *testing.T) []source {
	t.Helper()
	var found []source
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if _, err := os.Stat(filepath.Join(name, "go.mod")); name != "." && (err == nil || strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, ".pb.go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		s := source{path: name, folder: path.Dir(filepath.ToSlash(name)), test: strings.HasSuffix(name, "_test.go"), fset: token.NewFileSet()}
		s.lines = strings.Count(string(text), "\n")
		s.file, err = parser.ParseFile(s.fset, name, text, parser.ParseComments)
		found = append(found, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 20 {
		t.Fatalf("found %d files: want the whole source", len(found))
	}
	return found
}

func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		allowed, known := mayImport[s.folder]
		if !known {
			t.Errorf("%s: folder %q is not in the import table: a new package is a decision", s.path, s.folder)
			continue
		}
		if s.test {
			continue
		}
		for _, spec := range s.file.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			if ours, ok := strings.CutPrefix(imported, module); ok {
				if !strings.HasPrefix(ours, "internal/") && !slices.Contains(allowed, ours) && !slices.Contains(allowed, "*") {
					t.Errorf("%s: imports %s: want only %v", s.path, ours, allowed)
				}
				continue
			}
			for prefix, folders := range fences {
				if strings.HasPrefix(imported, prefix) && !slices.Contains(folders, s.folder) {
					t.Errorf("%s: imports %s: only %v may", s.path, imported, folders)
				}
			}
			for _, prefix := range never[s.folder] {
				if imported == prefix || strings.HasSuffix(prefix, "/") && strings.HasPrefix(imported, prefix) {
					t.Errorf("%s: imports %s: this folder is pure", s.path, imported)
				}
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for _, s := range sources(t) {
		if s.lines > maxFileLines {
			t.Errorf("%s: %d lines: want at most %d", s.path, s.lines, maxFileLines)
		}
		for _, declaration := range s.file.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok || function.Body == nil {
				continue
			}
			lines := s.fset.Position(function.End()).Line - s.fset.Position(function.Pos()).Line + 1
			if lines > maxFunctionLines {
				t.Errorf("%s: %s is %d lines: want at most %d", s.path, function.Name.Name, lines, maxFunctionLines)
			}
		}
	}
}

func TestCaseSizes(t *testing.T) {
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".txtar") || strings.HasPrefix(entry.Name(), "full-") {
			return err
		}
		text, err := os.ReadFile(name)
		if lines := strings.Count(string(text), "\n"); lines > maxCaseLines {
			t.Errorf("%s: %d lines: want at most %d", name, lines, maxCaseLines)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPackageComments(t *testing.T) {
	commented := map[string]int{}
	for _, s := range sources(t) {
		if !s.test {
			commented[s.folder] += 0
			if s.file.Doc != nil {
				commented[s.folder]++
			}
		}
	}
	for folder, comments := range commented {
		if comments != 1 && folder != "peering/wire" {
			t.Errorf("%s: %d package comments: want one, in the file named after the package", folder, comments)
		}
	}
}

func TestExportedAreDocumented(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || strings.HasPrefix(s.folder, "cmd/") {
			continue
		}
		for _, declaration := range s.file.Decls {
			switch d := declaration.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Recv == nil && d.Doc == nil {
					t.Errorf("%s: func %s has no doc comment", s.path, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if named, ok := spec.(*ast.TypeSpec); ok && named.Name.IsExported() && d.Doc == nil && named.Doc == nil {
						t.Errorf("%s: type %s has no doc comment", s.path, named.Name.Name)
					}
				}
			}
		}
	}
}

// TestNoSleepsNoSkips keeps tests waiting for events, and CI from passing over what is missing.
func TestNoSleepsNoSkips(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			selector, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			receiver, _ := selector.X.(*ast.Ident)
			switch name := selector.Sel.Name; {
			case receiver != nil && receiver.Name == "time" && name == "Sleep" && !importsSynctest(s.file):
				t.Errorf("%s: %s: time.Sleep in a test: wait for the event", s.path, s.fset.Position(call.Pos()))
			case receiver != nil && (name == "Skip" || name == "Skipf" || name == "SkipNow"):
				t.Errorf("%s: %s: a skipped test: what is missing is a failure", s.path, s.fset.Position(call.Pos()))
			}
			return true
		})
	}
}

// importsSynctest tells whether a file's time is a bubble's, in which sleeping takes no time.
func importsSynctest(file *ast.File) bool {
	return slices.ContainsFunc(file.Imports, func(spec *ast.ImportSpec) bool { return spec.Path.Value == `"testing/synctest"` })
}
