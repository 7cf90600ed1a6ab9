package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// A crash of the race detector's runtime is told from every other end of a process.
func TestCrashes(t *testing.T) {
	for what, c := range map[string]struct {
		output            string
		crashed, isBroken bool
	}{
		"the race detector": {"fatal error: unexpected signal during runtime execution\n[signal SIGSEGV: segmentation violation code=0x1]\n" +
			"runtime stack:\n__sanitizer::StackDepot::Put\nruntime.racegostart\n", true, false},
		"nil":         {"panic: runtime error: invalid memory address\n[signal SIGSEGV: segmentation violation]\nruntime.racecall\n", false, true},
		"Go's signal": {"fatal error: unexpected signal\n[signal SIGSEGV: segmentation violation]\nmain.f\n", false, true},
		"a data race": {"WARNING: DATA RACE\nruntime.raceacquire\n", false, true},
	} {
		counted := &counter{output: map[key][]string{}}
		var events strings.Builder
		for _, e := range []event{
			{Action: "run", Package: "p", Test: "TestUnfinished"},
			{Action: "output", Package: "p", Test: "TestUnfinished", Output: c.output},
			{Action: "output", Package: "p", Output: "FAIL p\n"},
			{Action: "fail", Package: "p"},
		} {
			line, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			events.Write(append(line, '\n'))
		}
		if err := counted.read(strings.NewReader(events.String())); err != nil {
			t.Fatal(err)
		}
		if got := slices.Equal(counted.crashed, []string{"p"}); got != c.crashed || counted.brokenPackages == 1 != c.isBroken {
			t.Errorf("%s: crashed %v, broken %d", what, counted.crashed, counted.brokenPackages)
		}
	}
}
