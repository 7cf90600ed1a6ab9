package config

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// What one file may hold. The bounds are checked before or while it is parsed, so that no file can keep a core busy.
const (
	maxBytes = 1 << 20
	maxDepth = 64
	maxNodes = 100_000 // values of all kinds, YAML's aliases counted each time
)

type nodeKind int

const (
	isNull nodeKind = iota
	isScalar
	isList
	isObject
)

func (k nodeKind) String() string {
	return [...]string{"null", "a single value", "a list", "an object"}[k]
}

// A node is one value of a file, whatever language the file is in.
type node struct {
	kind   nodeKind
	line   int
	scalar any    // bool, int64, float64 or string
	source string // a scalar as it was written, without quotes
	items  []*node
	fields []*member // in the order written, with those that were written twice
}

// A member is one key of an object with its value.
type member struct {
	key   string
	line  int
	block bool // HCL's `key { … }`, which may be repeated where a list is wanted
	value *node
}

// text returns the scalar under a key in any spelling, as text, and its line.
func (n *node) text(key string) (string, int) {
	for _, m := range n.fields {
		if spells(m.key, key) && m.value.kind == isScalar {
			return m.value.source, m.line
		}
	}
	return "", n.line
}

// only returns the value of an object that holds nothing but one key, in any spelling; else nil.
func (n *node) only(key string) *node {
	if n.kind == isObject && len(n.fields) == 1 && spells(n.fields[0].key, key) {
		return n.fields[0].value
	}
	return nil
}

// unwrap returns the object in a list of one, which is how some writers put a block.
func (n *node) unwrap() *node {
	if n.kind == isList && len(n.items) == 1 && n.items[0].kind == isObject {
		return n.items[0]
	}
	return n
}

// A budget counts the values of one file while they are read.
type budget struct{ left int }

func (b *budget) take(depth int) error {
	if b.left--; b.left < 0 {
		return fmt.Errorf("holds more than %d values", maxNodes)
	}
	if depth > maxDepth {
		return fmt.Errorf("is nested deeper than %d levels", maxDepth)
	}
	return nil
}

// parseFile returns the top values of a file: one for HCL and JSON, one for each document of YAML. It refuses what is
// too large or too deep before it costs anything.
func parseFile(file string, data []byte) ([]*node, error) {
	if len(data) > maxBytes {
		return nil, &Error{File: file, Msg: fmt.Sprintf("is %d bytes: want at most %d", len(data), maxBytes)}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	var roots []*node
	var line int
	var err error
	switch language(file, data) {
	case "json":
		roots, line, err = parseJSON(data)
	case "yaml":
		roots, line, err = parseYAML(data)
	default:
		roots, line, err = parseHCL(data)
	}
	if err != nil {
		return nil, &Error{File: file, Line: line, Msg: err.Error()}
	}
	return roots, nil
}

// yamlStart is a first line that only YAML can have: a document's start, a list item, or a key with a colon.
var yamlStart = regexp.MustCompile(`^(---|%YAML|- |-$|["']?[A-Za-z_][\w.-]*["']?\s*:(\s|$))`)

// language tells which language a file is in. An HCL file that starts with a brace is JSON, as for Consul.
func language(file string, data []byte) string {
	extension := strings.ToLower(filepath.Ext(file))
	if extension == ".yaml" || extension == ".yml" {
		return "yaml"
	}
	if start := bytes.TrimLeft(data, " \t\r\n"); extension == ".json" || len(start) > 0 && (start[0] == '{' || start[0] == '[') {
		return "json"
	}
	if extension == ".hcl" {
		return "hcl"
	}
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' {
			if yamlStart.Match(line) {
				return "yaml"
			}
			return "hcl"
		}
	}
	return "hcl"
}
