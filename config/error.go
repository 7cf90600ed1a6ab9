package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxErrors bounds how many errors of one file are reported.
const maxErrors = 100

// An Error says what is wrong in a file or request: where, with which object and field, and what was wanted. Every part
// but Msg may be empty; Line is 0 where it is not known.
type Error struct {
	File  string
	Line  int
	Kind  string // of a config entry, or "service", "check", "server"
	Name  string
	Field string // the path of the field as Consul spells it: Sources[0].Peer
	Msg   string
}

// Error returns file:line: kind name: field: message.
func (e *Error) Error() string {
	var text strings.Builder
	switch {
	case e.File != "" && e.Line > 0:
		fmt.Fprintf(&text, "%s:%d: ", e.File, e.Line)
	case e.File != "":
		text.WriteString(e.File + ": ")
	case e.Line > 1: // line 1 of a request's body is all of it
		fmt.Fprintf(&text, "line %d: ", e.Line)
	}
	if subject := strings.TrimSpace(e.Kind + " " + clip(e.Name)); subject != "" {
		text.WriteString(subject + ": ")
	}
	if e.Field != "" {
		text.WriteString(e.Field + ": ")
	}
	return text.String() + e.Msg
}

// A report collects what is wrong with one object.
type report struct {
	file, kind, name string
	line             int             // where the object starts
	lines            map[string]int  // where each field stands, by its path
	broken           map[string]bool // paths of values that are of the wrong kind: nothing can be said of what is in them
	errs             []*Error
	more             int // errors that are not in errs
}

func newReport(file string, root *node) *report {
	return &report{file: file, line: root.line, lines: map[string]int{}, broken: map[string]bool{}}
}

// errorf notes that the field at path is wrong. Only the first thing that is wrong with a field counts: what follows may
// be wrong because of it.
func (r *report) errorf(path, format string, args ...any) {
	for around := path; around != ""; around = parent(around) {
		if r.broken[around] {
			return
		}
	}
	switch {
	case r.full():
		r.more++
	case path != "" && slices.ContainsFunc(r.errs, func(e *Error) bool { return e.Field == path }):
	default:
		r.errs = append(r.errs, &Error{File: r.file, Line: r.lineOf(path), Kind: r.kind, Name: r.name, Field: path, Msg: fmt.Sprintf(format, args...)})
	}
}

// full tells whether further errors are only counted.
func (r *report) full() bool { return len(r.errs) >= maxErrors }

// missing notes that there is nothing at path, unless there was and it could not be read.
func (r *report) missing(path, want string) {
	if !slices.ContainsFunc(r.errs, func(e *Error) bool { return strings.HasPrefix(e.Field, path) }) {
		r.errorf(path, "is missing: want %s", want)
	}
}

// check notes err, if there is one, as what is wrong with the field at path.
func (r *report) check(path string, err error) {
	if err != nil {
		r.errorf(path, "%s", err)
	}
}

// lineOf returns the line of the field at path, or of the innermost object around it that was written.
func (r *report) lineOf(path string) int {
	for path != "" {
		if line := r.lines[path]; line > 0 {
			return line
		}
		path = parent(path)
	}
	return r.line
}

// parent returns the path of what is around a field: a list for its items, an object for its fields, else "".
func parent(path string) string {
	return path[:max(strings.LastIndexByte(path, '.'), strings.LastIndexByte(path, '['), 0)]
}

// An errorList joins the errors of several reports.
type errorList struct {
	errs []error
	more int
}

// add takes the errors of a report in the order of their lines.
func (l *errorList) add(r *report) {
	slices.SortStableFunc(r.errs, func(a, b *Error) int { return cmp.Compare(a.Line, b.Line) })
	l.more += r.more
	for _, err := range r.errs {
		if len(l.errs) == maxErrors {
			l.more++
			continue
		}
		l.errs = append(l.errs, err)
	}
}

func (l *errorList) join() error {
	if l.more > 0 {
		l.errs = append(l.errs, fmt.Errorf("and %d more errors", l.more))
	}
	return errors.Join(l.errs...)
}

// clip shortens text that somebody else wrote, before it is shown.
func clip(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// quote is clip in quotes.
func quote(text string) string { return fmt.Sprintf("%q", clip(text)) }
