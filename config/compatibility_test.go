package config

import (
	"os"
	"strings"
	"testing"
)

// TestCompatibility: docs/compatibility.md holds the tables as they are. UPDATE_GOLDEN=1 puts them there.
func TestCompatibility(t *testing.T) {
	const path, start, end = "../docs/compatibility.md", "<!-- fields -->\n", "<!-- /fields -->"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(data), start)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s: want %q and %q", path, start, end)
	}
	fresh := before + start + "\n" + Compatibility() + "\n" + end + after
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(fresh), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(data) != fresh {
		t.Errorf("%s is not what the tables say: UPDATE_GOLDEN=1 rewrites it", path)
	}
}
