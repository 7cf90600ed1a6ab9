package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// visible makes the characters of an answer's strings visible that would steer a terminal or make one line look like two:
// what a peer says, or calls its services, reaches an operator's screen. Programs get the answer as it came.
func visible(answer []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(answer))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return json.Marshal(visibleIn(value))
}

func visibleIn(value any) any {
	switch value := value.(type) {
	case string:
		return visibleText(value)
	case []any:
		for i := range value {
			value[i] = visibleIn(value[i])
		}
	case map[string]any:
		shown := make(map[string]any, len(value))
		for key, inner := range value {
			shown[visibleText(key)] = visibleIn(inner)
		}
		return shown
	}
	return value
}

// visibleText writes control characters, and those that turn the direction of writing, as Go would in quotes.
func visibleText(text string) string {
	if !strings.ContainsFunc(text, steers) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if steers(r) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func steers(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}

// visibleLines is visibleText for a text that may have several lines.
func visibleLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = visibleText(line)
	}
	return strings.Join(lines, "\n")
}

// decodeVisible decodes an answer that is for people's eyes.
func decodeVisible(body []byte, what string, answer any) error {
	body, err := visible(body)
	if err != nil {
		return fmt.Errorf("answer of %s: %w", what, err)
	}
	return decode(body, what, answer)
}
