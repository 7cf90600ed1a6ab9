package sni_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/sni"
)

// admits is what ComplementPattern means, said without a pattern.
func admits(names []string, name string) bool {
	for _, c := range name {
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", c) {
			return false
		}
	}
	return name != "" && !slices.Contains(names, name)
}

func complementOf(t testing.TB, names []string) *regexp.Regexp {
	compiled, err := regexp.Compile("^(?:" + sni.ComplementPattern(names) + ")$")
	if err != nil {
		t.Fatalf("pattern of %d names: %v", len(names), err)
	}
	return compiled
}

// Names over a tiny alphabet share prefixes and are prefixes of each other; every name near them is tried.
func TestComplementAgainstOracle(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		name := rapid.StringMatching(`[ab_-]{0,4}`)
		names := rapid.SliceOfN(name, 0, 8).Draw(r, "denied")
		compiled := complementOf(t, names)
		tries := append(rapid.SliceOfN(rapid.StringMatching(`[ab_\-Zz0/,%.é]{0,5}`), 1, 20).Draw(r, "tries"), "", "\n", "a\n")
		for _, denied := range names {
			tries = append(tries, denied, denied+"a", denied+"-", denied+"/", strings.ToUpper(denied), strings.TrimSuffix(denied, "a"))
		}
		for _, try := range tries {
			if got, want := compiled.MatchString(try), admits(names, try); got != want {
				r.Fatalf("denied %q: %q matches %v, want %v (%s)", names, try, got, want, compiled)
			}
		}
	})
}

func FuzzComplement(f *testing.F) {
	f.Add("web,web2,w", "we")
	f.Add("", "web")
	f.Add("a-b,a_b", "a-b/")
	f.Fuzz(func(t *testing.T, denied, try string) {
		names := strings.Split(denied, ",")
		if got, want := complementOf(t, names).MatchString(try), admits(names, try); got != want {
			t.Fatalf("denied %q: %q matches %v, want %v", names, try, got, want)
		}
	})
}

func TestComplementOfAThousand(t *testing.T) {
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("service-%d-%s", i*7919%1000, strings.Repeat("x", i%40)))
	}
	compiled := complementOf(t, names)
	for i := 0; i < len(names); i += 20 {
		name := names[i]
		for _, try := range []string{name, name + "x", name[:len(name)-1], "x" + name} {
			if got, want := compiled.MatchString(try), admits(names, try); got != want {
				t.Fatalf("%q matches %v, want %v", try, got, want)
			}
		}
	}
}

// Every byte goes on to some name, so that none leaves the tree at its first or second byte.
func TestComplementOfAllBytes(t *testing.T) {
	const bytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	var one, two []string
	for i := range len(bytes) {
		one, two = append(one, bytes[i:i+1]), append(two, "a"+bytes[i:i+1])
	}
	for _, names := range [][]string{one, two, slices.Concat(one, two), append(two, "a")} {
		compiled := complementOf(t, names)
		for _, try := range []string{"a", "b", "aa", "ab", "ba", "a-", "aab", "b-b"} {
			if got, want := compiled.MatchString(try), admits(names, try); got != want {
				t.Fatalf("%q matches %v, want %v (%s)", try, got, want, compiled)
			}
		}
	}
}

func TestComplementPatternText(t *testing.T) {
	for _, test := range []struct {
		names []string
		want  string
	}{
		{nil, `[\w-]+`},
		{[]string{"not a name", "a/b"}, `[\w-]+`},
		{[]string{"b"}, `(?:(?:[0-9A-Z_ac-z-]|b[\w-])[\w-]*)`},
		{[]string{"b-", "b-"}, `(?:(?:[0-9A-Z_ac-z-]|b(?:[0-9A-Z_a-z]|-[\w-]))[\w-]*|(?:[b-c]))`},
	} {
		if got := sni.ComplementPattern(test.names); got != test.want {
			t.Errorf("%q: %s, want %s", test.names, got, test.want)
		}
	}
}

func BenchmarkComplementOfAThousand(b *testing.B) {
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("%d-service", i*7919%1000))
	}
	for b.Loop() {
		sni.ComplementPattern(names)
	}
}
