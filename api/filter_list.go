package api

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-bexpr/grammar"
)

// lists are the fields that hold several objects. Consul's servers take a comparison of a field of theirs, as in
// Checks.Status == passing, for one that holds of any of them; the parser that we use wants that said.
var lists = []string{"Checks", "Upstreams"}

var listField = regexp.MustCompile(`\b(Checks|Upstreams)\b`)

// overLists returns an expression that says "any" where it compares a field of a list.
func overLists(expression string) string {
	if !listField.MatchString(expression) {
		return expression
	}
	parsed, err := grammar.Parse("", []byte(expression), grammar.MaxExpressions(maxFilterSteps))
	if err != nil {
		return expression // the evaluator says what is wrong
	}
	text, ok := spell(parsed.(grammar.Expression))
	if !ok {
		return expression
	}
	return text
}

// spell writes an expression down again; false for what it does not know.
func spell(e grammar.Expression) (string, bool) {
	switch e := e.(type) {
	case *grammar.UnaryExpression:
		operand, ok := spell(e.Operand)
		return "not (" + operand + ")", ok && e.Operator == grammar.UnaryOpNot
	case *grammar.BinaryExpression:
		left, leftOK := spell(e.Left)
		right, rightOK := spell(e.Right)
		return "(" + left + ") " + map[grammar.BinaryOperator]string{grammar.BinaryOpAnd: "and", grammar.BinaryOpOr: "or"}[e.Operator] + " (" + right + ")", leftOK && rightOK
	case *grammar.MatchExpression:
		return spellMatch(e)
	}
	return "", false
}

func spellMatch(e *grammar.MatchExpression) (string, bool) {
	if e.Selector.Type != grammar.SelectorTypeBexpr {
		return "", false
	}
	path, before, after := e.Selector.Path, "", ""
	for {
		at := slices.IndexFunc(path[:len(path)-1], func(field string) bool { return slices.Contains(lists, field) })
		if at < 0 {
			break
		}
		before += "any " + selector(path[:at+1]) + " as item { "
		after += " }"
		path = append([]string{"item"}, path[at+1:]...)
	}
	match, ok := comparison(selector(path), e.Operator, e.Value)
	return before + match + after, ok
}

var identifier = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_/]*$`)

// selector writes the path of a field.
func selector(path []string) string {
	text := path[0]
	for _, part := range path[1:] {
		if identifier.MatchString(part) {
			text += "." + part
		} else {
			text += "[" + quoted(part) + "]"
		}
	}
	return text
}

func comparison(field string, operator grammar.MatchOperator, value *grammar.MatchValue) (string, bool) {
	switch operator {
	case grammar.MatchIsEmpty:
		return field + " is empty", true
	case grammar.MatchIsNotEmpty:
		return field + " is not empty", true
	}
	sign, ok := map[grammar.MatchOperator]string{
		grammar.MatchEqual: "==", grammar.MatchNotEqual: "!=", grammar.MatchMatches: "matches", grammar.MatchNotMatches: "not matches",
		grammar.MatchContains: "contains", grammar.MatchNotContains: "not contains",
		grammar.MatchIn: "in", grammar.MatchNotIn: "not in",
	}[operator]
	switch {
	case !ok || value == nil:
		return "", false
	case operator == grammar.MatchIn || operator == grammar.MatchNotIn:
		return quoted(value.Raw) + " " + sign + " " + field, true
	}
	return field + " " + sign + " " + quoted(value.Raw), true
}

// quoted writes a value so that no quote is in it.
func quoted(text string) string {
	quote := strconv.Quote(text)
	return `"` + strings.ReplaceAll(quote[1:len(quote)-1], `\"`, `\x22`) + `"`
}
