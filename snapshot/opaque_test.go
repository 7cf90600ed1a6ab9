package snapshot

import (
	"encoding/json"
	"testing"
)

// An opaque block holds what its format made of it: HCL makes a list of a block, JSON a float of a number.
func TestOpaqueBlocks(t *testing.T) {
	for _, value := range []any{7, int64(7), 7.0, json.Number("7"), "7"} {
		if got := number(value); got != 7 {
			t.Errorf("number %T: %d", value, got)
		}
	}
	for _, value := range []any{nil, "many", true, json.Number("x"), []any{7}} {
		if got := number(value); got != 0 {
			t.Errorf("number %#v: %d, want 0", value, got)
		}
	}
	want := map[string]any{"max_connections": 7}
	for _, value := range []any{want, []map[string]any{want}, []any{want}} {
		if got := block(value)["max_connections"]; got != 7 {
			t.Errorf("block %T: %v", value, got)
		}
	}
	for _, value := range []any{nil, 7, []any{}, []map[string]any{}} {
		if got := block(value); len(got) != 0 {
			t.Errorf("block %#v: %v, want none", value, got)
		}
	}
}
