package isthmus_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documents returns what people read, by file: the README, the changelog and docs.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/decisions/*.md", "changes/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			texts[name] = string(text)
		}
	}
	if len(texts) < 8 {
		t.Fatalf("found %d documents: want all", len(texts))
	}
	return texts
}

var (
	testName = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`)
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	link     = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
	goFile   = regexp.MustCompile("`([a-z0-9./_*-]+\\.go)`")
)

// TestDocsNameWhatThereIs: every test, file and link that a document names exists.
func TestDocsNameWhatThereIs(t *testing.T) {
	tests := map[string]bool{}
	for _, s := range sources(t) {
		if !s.test {
			continue
		}
		text, err := os.ReadFile(s.path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range testFunc.FindAllStringSubmatch(string(text), -1) {
			tests[match[1]] = true
		}
	}
	for file, text := range documents(t) {
		for _, name := range testName.FindAllString(text, -1) {
			if !tests[name] {
				t.Errorf("%s: names %s, and there is no such test", file, name)
			}
		}
		for _, match := range goFile.FindAllStringSubmatch(text, -1) {
			if found, err := filepath.Glob(match[1]); err != nil || len(found) == 0 {
				t.Errorf("%s: names %s, and there is no such file", file, match[1])
			}
		}
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), match[1])); err != nil {
				t.Errorf("%s: links to %s, which is not there", file, match[1])
			}
		}
	}
}
