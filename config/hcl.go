package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/parser"
	"github.com/hashicorp/hcl/hcl/scanner"
	hclstrconv "github.com/hashicorp/hcl/hcl/strconv"
	"github.com/hashicorp/hcl/hcl/token"
)

// maxHeredocs bounds the heredocs of one file: the scanner compiles an expression for each.
const maxHeredocs = 256

// guardHCL walks the tokens of a file before it is parsed: the parser's time grows with the square of the nesting and
// beyond (100,000 brackets keep it busy for more than a minute), that of its scanner does not. Being the parser's own
// scanner it sees strings, comments and heredocs just as the parser will. It returns the line of what is wrong.
func guardHCL(data []byte) (line int, err error) {
	s := scanner.New(data)
	s.Error = func(pos token.Pos, msg string) {
		if err == nil {
			line, err = pos.Line, errors.New(msg)
		}
	}
	depth, tokens, heredocs := 0, 0, 0
	for {
		t := s.Scan()
		if err != nil || t.Type == token.EOF {
			return line, err
		}
		switch t.Type {
		case token.LBRACE, token.LBRACK:
			depth++
		case token.RBRACE, token.RBRACK:
			depth--
		case token.HEREDOC:
			heredocs++
		}
		tokens++
		switch {
		case depth > maxDepth:
			return t.Pos.Line, fmt.Errorf("is nested deeper than %d levels", maxDepth)
		case tokens > 8*maxNodes:
			return t.Pos.Line, fmt.Errorf("holds more than %d values", maxNodes)
		case heredocs > maxHeredocs:
			return t.Pos.Line, fmt.Errorf("holds more than %d heredocs", maxHeredocs)
		}
	}
}

// hclPosition is how the parser writes a place into its messages, once for each level of nesting.
var hclPosition = regexp.MustCompile(`At (\d+):\d+: `)

// parseHCL reads the HCL of Consul, version 1. It returns one root, and on an error its line.
func parseHCL(data []byte) (roots []*node, line int, err error) {
	// The parser and its token values panic on some bad input. None is known that passes the guard, but what is read
	// here may come from the network, and one bad body must not end the server.
	defer func() {
		if problem := recover(); problem != nil {
			roots, err = nil, fmt.Errorf("hcl: %s", clip(fmt.Sprint(problem)))
		}
	}()
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	if line, err := guardHCL(data); err != nil {
		return nil, line, fmt.Errorf("hcl: %w", err)
	}
	file, err := parser.ParseDontErrorOnDuplicateKeys(data)
	if err != nil {
		line, msg := 0, err.Error()
		if places := hclPosition.FindAllStringSubmatchIndex(msg, -1); places != nil {
			last := places[len(places)-1]
			line, _ = strconv.Atoi(msg[last[2]:last[3]])
			msg = msg[last[1]:]
		}
		return nil, line, fmt.Errorf("hcl: %s", clip(plainHCL(msg)))
	}
	r := hclReader{budget{maxNodes}, 0}
	root, err := r.object(file.Node.(*ast.ObjectList), 1)
	if err != nil {
		return nil, r.line, fmt.Errorf("hcl: %w", err)
	}
	root.line = 1
	if len(root.fields) > 0 {
		root.line = root.fields[0].line
	}
	return []*node{root}, 0, nil
}

// hclTokens says what the parser's tokens look like in a file.
var hclTokens = map[string]string{
	"IDENT": "a name", "STRING": "text in quotes", "NUMBER": "a number", "FLOAT": "a number", "BOOL": "true or false", "HEREDOC": "a text block",
	"ASSIGN": "=", "LBRACE": "{", "RBRACE": "}", "LBRACK": "[", "RBRACK": "]", "COMMA": "a comma", "EOF": "the end of the file", "ILLEGAL": "a character that HCL has not",
}

var (
	hclToken  = regexp.MustCompile(`\b[A-Z]{3,}\b`)
	hclWanted = regexp.MustCompile(`(?:nested object |object )?expected(?: closing)?:? ([A-Z |]+) got: ([A-Z]+)$`)
)

// plainHCL says a parser's message in the words of who writes the file.
func plainHCL(msg string) string {
	plain := func(token string) string { return cmp.Or(hclTokens[token], token) }
	parts := hclWanted.FindStringSubmatch(msg)
	if parts == nil {
		return hclToken.ReplaceAllStringFunc(msg, plain)
	}
	wanted := strings.Split(parts[1], " | ")
	for i, token := range wanted {
		wanted[i] = plain(token)
	}
	text := fmt.Sprintf("have %s: want %s", plain(parts[2]), strings.Join(wanted, " or "))
	switch parts[2] {
	case "RBRACK", "RBRACE", "EOF":
		text += "; is something not closed above?"
	}
	return text
}

// An hclReader turns the parser's tree into ours. line is where it is, for errors.
type hclReader struct {
	budget
	line int
}

func (r *hclReader) object(list *ast.ObjectList, depth int) (*node, error) {
	n := &node{kind: isObject}
	for _, item := range list.Items {
		m, err := r.member(item.Keys, item, depth)
		if err != nil {
			return nil, err
		}
		n.fields = append(n.fields, m)
	}
	return n, nil
}

// member reads one item. Further keys (`a "b" { … }`) are objects in one another.
func (r *hclReader) member(keys []*ast.ObjectKey, item *ast.ObjectItem, depth int) (*member, error) {
	first := keys[0]
	r.line = first.Pos().Line
	if err := r.take(depth); err != nil {
		return nil, err
	}
	m := &member{key: first.Token.Text, line: r.line, block: item.Assign.Line == 0}
	if first.Token.Type == token.STRING {
		key, err := hclstrconv.Unquote(first.Token.Text)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", clip(first.Token.Text), err)
		}
		m.key = key
	}
	if len(keys) > 1 {
		inner, err := r.member(keys[1:], item, depth+1)
		if err != nil {
			return nil, err
		}
		m.value = &node{kind: isObject, line: m.line, fields: []*member{inner}}
		return m, nil
	}
	var err error
	m.value, err = r.value(item.Val, depth+1)
	return m, err
}

func (r *hclReader) value(value ast.Node, depth int) (*node, error) {
	r.line = value.Pos().Line
	if err := r.take(depth); err != nil {
		return nil, err
	}
	line := r.line
	switch value := value.(type) {
	case *ast.ObjectType:
		n, err := r.object(value.List, depth)
		if n != nil {
			n.line = line
		}
		return n, err
	case *ast.ListType:
		n := &node{kind: isList, line: line}
		for _, item := range value.List {
			inner, err := r.value(item, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, inner)
		}
		return n, nil
	case *ast.LiteralType:
		scalar, err := literal(value.Token)
		if err != nil {
			return nil, fmt.Errorf("value %s: %w", clip(value.Token.Text), cmp.Or(errors.Unwrap(err), err))
		}
		n := &node{kind: isScalar, line: line, scalar: scalar, source: value.Token.Text}
		if text, ok := scalar.(string); ok {
			n.source = text
		}
		return n, nil
	}
	return nil, fmt.Errorf("unexpected %T", value)
}

// literal returns what a token stands for. token.Token.Value does the same, and panics on what is out of range.
func literal(t token.Token) (any, error) {
	switch t.Type {
	case token.BOOL:
		return t.Text == "true", nil
	case token.NUMBER:
		return strconv.ParseInt(t.Text, 0, 64)
	case token.FLOAT:
		return strconv.ParseFloat(t.Text, 64)
	case token.STRING:
		return hclstrconv.Unquote(t.Text)
	case token.HEREDOC:
		return t.Value(), nil
	}
	return nil, errors.New("is not a value")
}
