package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// seed adds the inputs of all golden cases, and the start of what is hostile: all of it is what TestHostileBodies is for,
// and would keep the fuzzer busy with making it smaller.
func seed(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range txtar.Parse(data).Files {
			if strings.HasPrefix(part.Name, "in") {
				f.Add(part.Data, filepath.Ext(part.Name))
			}
		}
	}
	for _, body := range hostile {
		body := []byte(body[:min(len(body), 1000)])
		f.Add(body, "")
		f.Add(body, ".hcl")
	}
}

// FuzzParseEntries: no body panics, and what is accepted is the same after it was written and read again.
func FuzzParseEntries(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte, extension string) {
		entries, err := ParseEntries("f"+extension, data)
		if err != nil {
			if entries != nil {
				t.Fatal("an error, and entries all the same")
			}
			return
		}
		for _, entry := range entries {
			written, err := json.Marshal(EncodeEntry(entry))
			if err != nil {
				t.Fatal(err)
			}
			again, err := ParseEntry("", written)
			if err != nil {
				t.Fatalf("%s\nwas written so and is refused: %v", written, err)
			}
			if !Equal(entry, again) {
				t.Fatalf("%s\nbecomes\n%v", written, EncodeEntry(again))
			}
			if err := checkName(entry.EntryName(), registeredName, ""); err != nil && entry.EntryName() != Wildcard {
				t.Fatalf("accepted name %q: %v", entry.EntryName(), err)
			}
		}
	})
}

// FuzzParseServices is FuzzParseEntries for service definitions.
func FuzzParseServices(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte, extension string) {
		services, err := ParseServices("f"+extension, data)
		if err != nil {
			return
		}
		for _, service := range services {
			written, err := json.Marshal(EncodeService(service))
			if err != nil {
				t.Fatal(err)
			}
			again, err := ParseRegistration(written)
			if err != nil {
				t.Fatalf("%s\nwas written so and is refused: %v", written, err)
			}
			if rewritten, _ := json.Marshal(EncodeService(again)); string(rewritten) != string(written) {
				t.Fatalf("%s\nbecomes\n%s", written, rewritten)
			}
		}
	})
}

// FuzzGuard: what passes the guard is no deeper than it says, whatever the parser makes of it.
func FuzzGuard(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte, _ string) {
		roots, _, err := parseHCL(data)
		if err != nil {
			if strings.Contains(err.Error(), "runtime error") {
				t.Fatalf("the parser panicked: %v", err)
			}
			return
		}
		if depth := deepest(roots[0]); depth > maxDepth {
			t.Fatalf("%d levels passed", depth)
		}
	})
}

func deepest(n *node) int {
	depth := 0
	for _, item := range n.items {
		depth = max(depth, deepest(item))
	}
	for _, m := range n.fields {
		depth = max(depth, deepest(m.value))
	}
	return depth + 1
}

// FuzzCheckHost: an accepted host is no address in disguise.
func FuzzCheckHost(f *testing.F) {
	for _, host := range []string{"example.com", "127.0.0.1", "0x7f.1", "127.1", "2130706433", "::1", "fe80::1%eth0", "a..b", "-a", "a.0x", "017700000001", "[::1]"} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if CheckHost(host) == nil && strings.ContainsAny(host, " \t\r\n/@%[]\x00") {
			t.Fatalf("accepted %q", host)
		}
	})
}
