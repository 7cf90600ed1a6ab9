package sni

import (
	"slices"
	"strings"
)

// nameBytes are the bytes of service names, in the order in which a class lists them.
const nameBytes = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz-"

// ComplementPattern returns an RE2 expression for every service name but the given ones: one or more of A-Z, a-z, 0-9, _
// and -. It holds no anchors, for it is made to be a part of ServicePattern, and never matches a slash, a comma or an
// escape. Names of other bytes are passed over, as nothing that it matches could equal them.
//
// A name that is none of the given ones either leaves their tree at some byte, and may then go on as it likes, or ends
// within the tree where none of them ends. The expression has one branch for each of these: together in one tree they
// would say the same, but cost Envoy's RE2 a time that grows with the square of the names.
func ComplementPattern(names []string) string {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return strings.Trim(name, nameBytes) != "" || name == ""
	})
	if len(names) == 0 {
		return `[\w-]+`
	}
	slices.Sort(names)
	names = slices.Compact(names)
	var b strings.Builder
	b.WriteString("(?:")
	writeLeaving(&b, names, 0)
	b.WriteString(`[\w-]*`)
	if ends := ending(names, 0); ends != "" {
		b.WriteString("|" + ends)
	}
	b.WriteString(")")
	return b.String()
}

// writeLeaving writes an expression for what follows the first depth bytes, which all names share, up to the first byte
// with which no name goes on. names is sorted.
func writeLeaving(b *strings.Builder, names []string, depth int) {
	_, branches := branch(names, depth)
	if len(branches) == 0 {
		b.WriteString(`[\w-]`)
		return
	}
	heads := make([]byte, len(branches))
	for i, names := range branches {
		heads[i] = names[0][depth]
	}
	b.WriteString("(?:")
	if len(heads) < len(nameBytes) {
		b.WriteString(classExcept(heads) + "|")
	}
	for i, names := range branches {
		if i > 0 {
			b.WriteByte('|')
		}
		b.WriteByte(heads[i])
		writeLeaving(b, names, depth+1)
	}
	b.WriteByte(')')
}

// ending returns an expression for what follows the first depth bytes and ends where a name goes on, not where one ends;
// it is empty when there is nothing.
func ending(names []string, depth int) string {
	_, branches := branch(names, depth)
	var inside, last []byte
	var alternatives []string
	for _, names := range branches {
		head := names[0][depth]
		if ends, _ := branch(names, depth+1); ends {
			last = append(last, head)
		} else {
			inside = append(inside, head)
		}
		if deeper := ending(names, depth+1); deeper != "" {
			alternatives = append(alternatives, string(rune(head))+deeper)
		}
	}
	if len(inside) > 0 {
		alternatives = append(alternatives, class(padded(inside, last)))
	}
	if len(alternatives) == 0 {
		return ""
	}
	return "(?:" + strings.Join(alternatives, "|") + ")"
}

// padded returns at least two bytes: those inside, and when it is a single one, a neighbour that is not in last. The name
// that ends with the neighbour is no given one either, so nothing changes, but RE2 would take a single byte for the
// common start of two branches and join them, which makes the square again.
func padded(inside, last []byte) []byte {
	if len(inside) > 1 {
		return inside
	}
	at := strings.IndexByte(nameBytes, inside[0])
	for step := 1; step < len(nameBytes); step++ {
		for _, near := range []int{at + step, at - step} {
			if near >= 0 && near < len(nameBytes) && !slices.Contains(last, nameBytes[near]) {
				return append(inside, nameBytes[near])
			}
		}
	}
	return inside
}

// branch tells whether one of the names, which are sorted and share depth bytes, ends there, and divides the others by
// their next byte.
func branch(names []string, depth int) (ends bool, branches [][]string) {
	if len(names[0]) == depth {
		ends, names = true, names[1:]
	}
	for len(names) > 0 {
		same := 1
		for same < len(names) && names[same][depth] == names[0][depth] {
			same++
		}
		branches, names = append(branches, names[:same]), names[same:]
	}
	return ends, branches
}

// classExcept returns a class of all bytes of names but these.
func classExcept(without []byte) string {
	var in [256]bool
	for i := range len(nameBytes) {
		in[nameBytes[i]] = true
	}
	for _, c := range without {
		in[c] = false
	}
	return classOf(&in)
}

// class returns a class of bytes of names.
func class(bytes []byte) string {
	var in [256]bool
	for _, c := range bytes {
		in[c] = true
	}
	return classOf(&in)
}

// classOf writes neighbours as a range. A hyphen comes last, where it means itself.
func classOf(in *[256]bool) string {
	var b strings.Builder
	b.WriteByte('[')
	for i := 0; i < len(nameBytes); i++ {
		first := nameBytes[i]
		if !in[first] {
			continue
		}
		for i+1 < len(nameBytes) && in[nameBytes[i+1]] && nameBytes[i+1] == nameBytes[i]+1 {
			i++
		}
		b.WriteByte(first)
		if nameBytes[i] > first {
			b.WriteString("-" + nameBytes[i:i+1])
		}
	}
	b.WriteByte(']')
	return b.String()
}
