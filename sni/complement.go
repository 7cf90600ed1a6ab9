package sni

import (
	"slices"
	"strings"
)

// nameByte is an expression for one byte of a service name, as it stands in a class.
const nameByte = `\w-`

// ComplementPattern returns an RE2 expression for every service name but the given ones: one or more of A-Z, a-z, 0-9, _
// and -. It holds no anchors, for it is made to be a part of ServicePattern, and never matches a slash, a comma or an
// escape. Names of other bytes are passed over, as nothing that it matches could equal them.
//
// The expression follows the given names as a tree: at each byte a name may leave the tree, and then end anywhere, or
// stay in it, and then end only where none of the given names does.
func ComplementPattern(names []string) string {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return name == "" || strings.ContainsFunc(name, func(c rune) bool { return !isNameByte(c) })
	})
	slices.Sort(names)
	var b strings.Builder
	complement(&b, slices.Compact(names), 0)
	return b.String()
}

func isNameByte(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// complement writes what may follow the first depth bytes, which all names share, so that the whole is none of them.
// names is sorted.
func complement(b *strings.Builder, names []string, depth int) {
	mayEnd := depth > 0
	if len(names) > 0 && len(names[0]) == depth {
		mayEnd, names = false, names[1:]
	}
	if len(names) == 0 {
		b.WriteString("[" + nameByte + "]")
		b.WriteString(map[bool]string{true: "*", false: "+"}[mayEnd])
		return
	}
	b.WriteString("(?:")
	b.WriteString("[" + except(heads(names, depth)) + "][" + nameByte + "]*")
	for len(names) > 0 {
		head := names[0][depth]
		same := 1
		for same < len(names) && names[same][depth] == head {
			same++
		}
		b.WriteString("|" + string(rune(head)))
		complement(b, names[:same], depth+1)
		names = names[same:]
	}
	b.WriteString(")")
	if mayEnd {
		b.WriteString("?")
	}
}

// heads returns the bytes at depth, sorted.
func heads(names []string, depth int) []byte {
	var found []byte
	for _, name := range names {
		if len(found) == 0 || found[len(found)-1] != name[depth] {
			found = append(found, name[depth])
		}
	}
	return found
}

// except returns the bytes of service names without the given ones, which are sorted, as they stand in a class.
func except(without []byte) string {
	var b strings.Builder
	for _, span := range []string{"09", "AZ", "__", "az"} {
		first, last := span[0], span[1]
		for _, c := range without {
			if c < first || c > last {
				continue
			}
			writeSpan(&b, first, c-1)
			first = c + 1
		}
		writeSpan(&b, first, last)
	}
	if !slices.Contains(without, '-') {
		b.WriteByte('-') // the last of a class, where it means itself
	}
	return b.String()
}

func writeSpan(b *strings.Builder, first, last byte) {
	switch {
	case first == last:
		b.WriteByte(first)
	case first < last:
		b.WriteString(string(rune(first)) + "-" + string(rune(last)))
	}
}
