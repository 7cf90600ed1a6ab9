package peering

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// How much of a peer's words is kept and shown: of a name, and of a reason.
const (
	longestName   = 150
	longestReason = 1000
)

// printable returns what may be shown to people of a text that a peer may have written: at most so many bytes, and
// escaped whatever would not stand for itself on a terminal or in a line of a log.
func printable(text string, most int) string {
	plain := len(text) <= most && utf8.ValidString(text)
	if plain && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return text
	}
	var shown strings.Builder
	for i, r := range text {
		piece := text[i:min(len(text), i+utf8.RuneLen(max(r, 0)))]
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			quoted := strconv.QuoteRune(r)
			piece = quoted[1 : len(quoted)-1]
		}
		if shown.Len()+len(piece) > most {
			shown.WriteString("…")
			break
		}
		shown.WriteString(piece)
	}
	return shown.String()
}

// unprintable tells whether an identifier holds what no identifier should.
func unprintable(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}
