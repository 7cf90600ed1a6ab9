package config

import (
	"slices"
	"strings"
	"unicode"
)

// A standing is what becomes of a field.
type standing int

const (
	honoured standing = iota
	kept              // accepted for Consul's tools, without effect: only where that cannot weaken security
	computed          // set by the server; accepted so that an answer can be written back, and not looked at
	refused           // an error, unless the value says nothing
)

func (s standing) String() string {
	return [...]string{"honoured", "kept, no effect", "computed", "refused"}[s]
}

// A shape is the kind of value that a field takes.
type shape int

const (
	text     shape = iota
	integer        // whole
	boolean        //
	duration       // "10s"; a number is nanoseconds
	texts          // list of text, or one
	port           // 1 to 65535
	ports          // list of port, or one
	prefix         // CIDR, or an address alone
	words          // text by key
	headers        // list of text by key
	object         // with fields
	objects        // list of objects, or one; HCL's repeated blocks
	named          // objects by key
)

func (s shape) String() string {
	return [...]string{"text", "a whole number", "true or false", `a duration like "10s"`, "a list of text", "a port from 1 to 65535", "a list of ports from 1 to 65535", "a CIDR like 10.0.0.0/8, or an address",
		"an object of text",
		"an object of lists of text", "an object", "a list of objects", "an object of objects"}[s]
}

// A field is one row of the tables in fields_*.go: all that the parser, the encoder and docs/compatibility.md know of it.
type field struct {
	name string // as Consul spells it in JSON
	is   shape
	does standing
	note string  // what it means; of a refused field why, and what to write instead
	sub  []field // of object, objects and named
	also []string
	// only lists the values, besides none, that are let through; why says what is wrong with others. A refused field's
	// why is its note.
	only []string
	why  string
	// typed fields have a place in the type although they are kept; the others are in the type's Kept.
	typed bool
	// bare fields say something by being there, with nothing in them.
	bare bool
	// short is the field of an object that a bare text stands for.
	short string
}

// spells tells whether key is a spelling of name that Consul takes: CamelCase or snake_case, in any letter case.
func spells(key, name string) bool {
	return strings.EqualFold(key, name) || strings.EqualFold(key, snake(name))
}

func (f *field) spelled(key string) bool {
	return spells(key, f.name) || slices.ContainsFunc(f.also, func(name string) bool { return spells(key, name) })
}

// snake turns TLSMinVersion into tls_min_version.
func snake(name string) string {
	var out strings.Builder
	runes := []rune(name)
	for i, c := range runes {
		if i > 0 && unicode.IsUpper(c) && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) && runes[i-1] != '_' {
			out.WriteByte('_')
		}
		out.WriteRune(unicode.ToLower(c))
	}
	return out.String()
}

// nearest returns the name that key most likely meant, or "".
func nearest(key string, names []string) string {
	plain := func(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "") }
	best, distance := "", 3
	key = plain(clip(key))
	for _, name := range names {
		if d := editDistance(key, plain(name)); d < distance && 2*d < len(name) {
			best, distance = name, d
		}
	}
	return best
}

// editDistance counts the letters to insert, delete or replace to get from a to b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// fieldNamed returns the field of a table that a key spells, or nil.
func fieldNamed(fields []field, key string) *field {
	for i := range fields {
		if fields[i].spelled(key) {
			return &fields[i]
		}
	}
	return nil
}

// names returns the names of all fields that are not refused.
func names(fields []field) []string {
	var found []string
	for i := range fields {
		if fields[i].does != refused {
			found = append(found, fields[i].name)
		}
	}
	return found
}
