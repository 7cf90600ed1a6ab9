package config

import (
	"encoding/json"
	"fmt"
	"slices"
)

// A decoder turns one object into values by the canonical names of its table: what has a place in a type goes there, what
// is kept goes to kept by its path, the rest is an error in the report.
type decoder struct {
	*report
	kept      map[string]any
	fixedName string // the only name that an entry of the kind may have; "" for any
	// passed holds the paths of refused fields with a value that was let through.
	passed map[string]bool
}

func newDecoder(r *report) *decoder {
	return &decoder{report: r, kept: map[string]any{}, passed: map[string]bool{}}
}

// A written is a field with what was written for it.
type written struct {
	field *field
	from  []*member
}

// object reads n by a table. path is that of n, "" for the outermost object.
func (d *decoder) object(n *node, fields []field, path string) map[string]any {
	var found []*written
	for _, m := range n.fields {
		f := fieldNamed(fields, m.key)
		if f == nil {
			d.unknown(m, fields, path)
			continue
		}
		if i := slices.IndexFunc(found, func(w *written) bool { return w.field == f }); i >= 0 {
			found[i].from = append(found[i].from, m)
			continue
		}
		found = append(found, &written{f, []*member{m}})
	}
	values := map[string]any{}
	for _, w := range found {
		at := join(path, w.field.name)
		d.lines[at] = w.from[0].line
		value := d.merge(w, at)
		if value == nil || value.kind == isNull || w.field.does == computed {
			continue
		}
		d.member(values, w.field, value, at)
	}
	return values
}

// member reads one field into values, or to where else it belongs.
func (d *decoder) member(values map[string]any, f *field, value *node, at string) {
	if f.does == refused {
		switch {
		case saysNothing(value):
		case value.kind == isScalar && slices.Contains(f.only, value.source):
			d.passed[at] = true
		default:
			d.errorf(at, "%s", f.note)
		}
		return
	}
	read, ok := d.value(value, f, at)
	if !ok {
		return
	}
	if written, isText := read.(string); f.only != nil && (!isText || written != "" && !slices.Contains(f.only, written)) {
		d.errorf(at, "is %s: %s", quote(fmt.Sprint(read)), f.why)
		return
	}
	switch {
	case isEmpty(read) && !f.bare:
	case f.does == honoured || f.typed:
		values[f.name] = read
	case !isZero(read):
		d.kept[at] = inAnswers(read)
	}
}

func (d *decoder) unknown(m *member, fields []field, path string) {
	if d.full() {
		d.more++ // without looking for what was meant, which takes longer than all the rest
		return
	}
	at := join(path, clip(m.key))
	d.lines[at] = m.line
	if near := nearest(m.key, names(fields)); near != "" {
		d.errorf(at, "unknown field: did you mean %s?", near)
		return
	}
	d.errorf(at, "unknown field")
}

// merge returns the one value of a field: repeated blocks are a list where a list is wanted. Anything else that is given
// twice is an error, in whatever spellings: which of two values holds would be a guess.
func (d *decoder) merge(w *written, at string) *node {
	if len(w.from) == 1 {
		return w.from[0].value
	}
	list := &node{kind: isList, line: w.from[0].line}
	for _, m := range w.from {
		if !m.block || w.field.is != objects {
			second := w.from[1]
			d.lines[at] = second.line
			d.errorf(at, "is given twice: as %s on line %d and as %s on line %d", quote(w.from[0].key), w.from[0].line, quote(second.key), second.line)
			return nil
		}
		list.items = append(list.items, m.value)
	}
	return list
}

// value reads a value of any shape. The second result is false when it is not of that shape, which is reported.
func (d *decoder) value(n *node, f *field, at string) (any, bool) {
	switch f.is {
	case object:
		n = n.expand(f.short).unwrap()
		if n.kind != isObject {
			return d.wrong(n, f, at)
		}
		return d.object(n, f.sub, at), true
	case objects:
		return d.list(n, f, at)
	case texts:
		return listOf[string](d, n, field{is: text}, at)
	case ports:
		return listOf[int64](d, n, field{is: port}, at)
	case named, words, headers:
		return d.byKey(n.unwrap(), f, at)
	}
	if n.kind == isScalar {
		if read, ok := scalarOf(n, f.is); ok {
			return read, true
		}
	}
	return d.wrong(n, f, at)
}

func (d *decoder) wrong(n *node, f *field, at string) (any, bool) {
	have := n.kind.String()
	if n.kind == isScalar {
		have = fmt.Sprintf("%#v", n.scalar)
	}
	d.errorf(at, "want %s, have %s", f.is, clip(have))
	d.broken[at] = true
	return nil, false
}

// expand turns a bare text into the object that it is short for.
func (n *node) expand(short string) *node {
	if short == "" || n.kind != isScalar {
		return n
	}
	return &node{kind: isObject, line: n.line, fields: []*member{{key: short, line: n.line, value: n}}}
}

func (d *decoder) list(n *node, f *field, at string) (any, bool) {
	items := n.items
	if n.kind != isList {
		items = []*node{n}
	}
	values := make([]any, 0, len(items))
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", at, i)
		d.lines[at] = item.line
		item = item.expand(f.short).unwrap()
		if item.kind != isObject {
			d.wrong(item, &field{is: object}, at)
		}
		values = append(values, d.object(item, f.sub, at)) // a broken one too: the others keep their index
	}
	return values, true
}

// listOf reads a list of single values, or one of them alone.
func listOf[T any](d *decoder, n *node, each field, at string) (any, bool) {
	items := n.items
	if n.kind != isList {
		items = []*node{n}
	}
	values := make([]T, 0, len(items))
	for i, item := range items {
		read, ok := d.value(item, &each, fmt.Sprintf("%s[%d]", at, i))
		if !ok {
			return nil, false
		}
		values = append(values, read.(T))
	}
	return values, true
}

// byKey reads an object whose keys are the writer's own.
func (d *decoder) byKey(n *node, f *field, at string) (any, bool) {
	if n.kind != isObject {
		return d.wrong(n, f, at)
	}
	inner := &field{is: map[shape]shape{named: object, words: text, headers: texts}[f.is], sub: f.sub}
	values, ok := map[string]any{}, true
	for _, m := range n.fields {
		at := join(at, clip(m.key))
		if _, twice := values[m.key]; twice {
			d.lines[at] = m.line
			d.errorf(at, "is given twice")
			ok = false
			continue
		}
		d.lines[at] = m.line
		read, fits := d.value(m.value, inner, at)
		values[m.key], ok = read, ok && fits
	}
	return values, ok
}

// fill puts values into a type by the names of its fields.
func (d *decoder) fill(values map[string]any, into any) {
	data, err := json.Marshal(values)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	d.check("", err)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
