package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// parseJSON reads one JSON value, token by token: nesting and size are bounded, keys that are given twice stay visible,
// and each value knows its line. On an error it returns the line.
func parseJSON(data []byte) (roots []*node, line int, err error) {
	r := &jsonReader{budget: budget{maxNodes}, data: data, decoder: json.NewDecoder(bytes.NewReader(data)), line: 1}
	r.decoder.UseNumber()
	root, err := r.next(1)
	if err == nil {
		if _, more := r.decoder.Token(); more != io.EOF {
			err = errors.New("more follows after the value")
		}
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("ends too early")
	}
	if err != nil {
		r.advance()
		return nil, r.line, fmt.Errorf("json: %w", err)
	}
	return []*node{root}, 0, nil
}

type jsonReader struct {
	budget
	data    []byte
	decoder *json.Decoder
	line    int   // of the last token
	counted int64 // up to where lines were counted
}

// advance moves line to the end of the last token. A token holds no newline, so that is also where it started.
func (r *jsonReader) advance() {
	offset := min(r.decoder.InputOffset(), int64(len(r.data)))
	r.line += bytes.Count(r.data[r.counted:offset], []byte("\n"))
	r.counted = offset
}

func (r *jsonReader) token() (json.Token, error) {
	t, err := r.decoder.Token()
	r.advance()
	return t, err
}

func (r *jsonReader) next(depth int) (*node, error) {
	t, err := r.token()
	if err != nil {
		return nil, err
	}
	return r.value(t, depth)
}

func (r *jsonReader) value(t json.Token, depth int) (*node, error) {
	if err := r.take(depth); err != nil {
		return nil, err
	}
	n := &node{kind: isScalar, line: r.line}
	switch t := t.(type) {
	case nil:
		n.kind = isNull
	case json.Delim:
		if t == '[' {
			return r.list(n, depth)
		}
		return r.object(n, depth)
	case json.Number:
		n.scalar, n.source = number(t.String()), t.String()
	case string:
		n.scalar, n.source = t, t
	case bool:
		n.scalar, n.source = t, strconv.FormatBool(t)
	}
	return n, nil
}

func (r *jsonReader) list(n *node, depth int) (*node, error) {
	n.kind = isList
	for r.decoder.More() {
		item, err := r.next(depth + 1)
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, item)
	}
	_, err := r.token()
	return n, err
}

func (r *jsonReader) object(n *node, depth int) (*node, error) {
	n.kind = isObject
	for r.decoder.More() {
		key, err := r.token()
		if err != nil {
			return nil, err
		}
		m := &member{key: key.(string), line: r.line}
		if m.value, err = r.next(depth + 1); err != nil {
			return nil, err
		}
		n.fields = append(n.fields, m)
	}
	_, err := r.token()
	return n, err
}

// number returns an int64 where the text is a whole number, however it is written, and a float64 otherwise.
func number(text string) any {
	if whole, err := strconv.ParseInt(text, 10, 64); err == nil {
		return whole
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.Inf(1) // out of range: no field takes it
	}
	return value
}
