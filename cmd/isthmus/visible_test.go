package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"pgregory.net/rapid"
)

// What a peer says cannot move the cursor, clear the screen, turn the writing round or add a row to a table.
func TestAnswersCannotSteerATerminal(t *testing.T) {
	answer, err := json.Marshal([]map[string]string{{"reason": "\x1b]0;owned\a\x1b[2J\nfake ACTIVE\r\u0085\u202e\u2028"}})
	if err != nil {
		t.Fatal(err)
	}
	for form, want := range map[format]string{
		pretty: `\x1b]0;owned\a\x1b[2J\nfake ACTIVE\r\u0085\u202e\u2028` + "\n",
		asJSON: "fake ACTIVE",
	} {
		var printed bytes.Buffer
		cmd := &cobra.Command{Use: "status"}
		cmd.SetOut(&printed)
		var rows []struct{ Reason string }
		err := form.show(cmd, answer, &rows, func(w io.Writer) { table(w, [][]string{{rows[0].Reason}}) })
		if err != nil || !strings.Contains(printed.String(), want) {
			t.Errorf("%s: %q, %v: want %q", form, printed.String(), err, want)
		}
	}
	refused := statusError{status: 400, text: "line one\nline \x1b[31mtwo"}
	if got, want := refused.Error(), "line one\nline "+`\x1b[31mtwo`; got != want {
		t.Errorf("refusal %q, want %q", got, want)
	}
}

// Every other text stays as it is, numbers of any size too.
func TestVisibleKeepsTheRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		shown := visibleText(text)
		if strings.ContainsFunc(shown, steers) {
			t.Fatalf("%q became %q", text, shown)
		}
		if !strings.ContainsFunc(text, steers) && shown != text {
			t.Fatalf("%q became %q", text, shown)
		}
	})
	got, err := visible([]byte(`{"index": 18446744073709551615, "names": ["db", null, true]}`))
	if want := `{"index":18446744073709551615,"names":["db",null,true]}`; err != nil || string(got) != want {
		t.Errorf("%s, %v: want %s", got, err, want)
	}
}
