package main

import (
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	for _, tt := range []struct{ name, before, after, want string }{
		{"the same", "a\nb", "a\nb", "  a\n  b"},
		{"new", "", "a\nb", "+ a\n+ b"},
		{"gone", "a\nb", "", "- a\n- b"},
		{"one line changed", "a\nb\nc", "a\nx\nc", "  a\n- b\n+ x\n  c"},
		{"one line added", "a\nc", "a\nb\nc", "  a\n+ b\n  c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.Join(diffLines(tt.before, tt.after), "\n"); got != tt.want {
				t.Errorf("%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestAroundLeavesOutWhatStays(t *testing.T) {
	got := around(diffLines("1\n2\n3\n4\n5\n6\n7", "1\n2\n3\nx\n5\n6\n7"), 1)
	if want := "  …,  3,- 4,+ x,  5,  …"; strings.Join(got, ",") != want {
		t.Errorf("%s, want %s", strings.Join(got, ","), want)
	}
}

func TestDoubleDashes(t *testing.T) {
	for in, want := range map[string]string{
		"peering read -name east":        "peering read --name east",
		"peering read -name=east":        "peering read --name=east",
		"config write -":                 "config write -",
		"list -h":                        "list -h",
		"x -1":                           "x -1",
		"envoy -sidecar-for web -- -l x": "envoy --sidecar-for web -- -l x",
	} {
		if got := strings.Join(doubleDashes(strings.Fields(in)), " "); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
