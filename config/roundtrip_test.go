package config

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

var byValue = cmpopts.EquateComparable(netip.Prefix{})

// TestEntryRoundTrip: whatever was accepted is the same after it was written as Consul answers it and read again.
func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entry := anEntry.Draw(t, "e")
		written, err := json.Marshal(EncodeEntry(entry))
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseEntry("", written)
		if err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		if diff := cmp.Diff(entry, again, byValue); diff != "" {
			t.Fatalf("%s:\n%s", written, diff)
		}
		if !Equal(entry, again) {
			t.Fatal("it does not equal itself")
		}
	})
}

func TestServiceRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		service := someService(t)
		written, err := json.Marshal(EncodeService(service))
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseRegistration(written)
		if err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		if diff := cmp.Diff(service, again, byValue); diff != "" {
			t.Fatalf("%s:\n%s", written, diff)
		}
	})
}

// TestEveryLanguageMeansTheSame writes an entry in HCL, JSON and YAML, with its keys in any spelling and HCL's blocks and
// attributes in any mix, and reads the same entry from each.
func TestEveryLanguageMeansTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entry := anEntry.Draw(t, "e")
		w := &writer{rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))}
		tree := w.respell(EncodeEntry(entry), kindNamed(entry.EntryKind()).fields)
		asJSON, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		asYAML, err := yaml.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"f.json": string(asJSON), "f.yaml": string(asYAML), "f.hcl": w.body(tree), "f": w.body(tree)} {
			again, err := ParseEntry(file, []byte(text))
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if diff := cmp.Diff(entry, again, byValue); diff != "" {
				t.Fatalf("%s:\n%s\n%s", file, text, diff)
			}
		}
	})
}

// A writer writes encoded values as people would, one way or another.
type writer struct{ *rand.Rand }

// respell spells the keys that tables know in some way that Consul takes. Keys that are the writer's own stay.
func (w *writer) respell(value any, fields []field) any {
	switch value := value.(type) {
	case map[string]any:
		object := map[string]any{}
		for _, key := range sorted(value) {
			spelled, inner := key, []field(nil)
			if f := fieldNamed(fields, key); f != nil {
				ways := append([]string{f.name, snake(f.name), upper(f.name), strings.ToLower(f.name), upper(snake(f.name))}, f.also...)
				spelled, inner = ways[w.IntN(len(ways))], f.sub
			}
			object[spelled] = w.respell(value[key], inner)
		}
		return object
	case []any:
		list := make([]any, len(value))
		for i := range value {
			list[i] = w.respell(value[i], fields)
		}
		return list
	}
	return value
}

// body writes the fields of an object in HCL.
func (w *writer) body(value any) string {
	var b strings.Builder
	object := value.(map[string]any)
	keys := sorted(object)
	w.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for _, key := range keys {
		if object[key] == nil {
			continue // HCL has no null
		}
		name := key
		if strings.ContainsAny(key, "./-") || key[0] >= '0' && key[0] <= '9' || w.IntN(5) == 0 {
			name = strconv.Quote(key)
		}
		list, isList := object[key].([]any)
		_, isObject := object[key].(map[string]any)
		objects := isList && len(list) > 0 && !slices.ContainsFunc(list, func(item any) bool { _, ok := item.(map[string]any); return !ok })
		switch form := w.IntN(3); {
		case objects && form == 0:
			for _, item := range list {
				fmt.Fprintf(&b, "%s {\n%s}\n", name, w.body(item))
			}
		case isObject && form == 0:
			fmt.Fprintf(&b, "%s { %s }\n", name, strings.ReplaceAll(w.body(object[key]), "\n", " "))
		case isObject && form == 1:
			fmt.Fprintf(&b, "%s = [ %s ]\n", name, w.value(object[key]))
		default:
			fmt.Fprintf(&b, "%s = %s\n", name, w.value(object[key]))
		}
	}
	return b.String()
}

func (w *writer) value(value any) string {
	switch value := value.(type) {
	case map[string]any:
		return "{\n" + w.body(value) + "}"
	case []any:
		var items []string
		for _, item := range value {
			items = append(items, w.value(item))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case string:
		return strconv.Quote(value)
	case float64:
		return strconv.FormatInt(int64(value), 10)
	}
	return fmt.Sprint(value)
}

// TestEqualIgnoresOrder: a shuffled entry is equal, and one that says something else is not.
func TestEqualIgnoresOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entry, ok := anEntry.Draw(t, "e"), false
		shuffled, err := ParseEntry("", mustJSON(EncodeEntry(entry)))
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		shuffle := func(n int, swap func(i, j int)) { ok = n > 0; random.Shuffle(n, swap) }
		switch e := shuffled.(type) {
		case *ExportedServices:
			shuffle(len(e.Services), func(i, j int) { e.Services[i], e.Services[j] = e.Services[j], e.Services[i] })
		case *ServiceIntentions:
			shuffle(len(e.Sources), func(i, j int) { e.Sources[i], e.Sources[j] = e.Sources[j], e.Sources[i] })
		case *PeerPolicy:
			shuffle(len(e.Accept), func(i, j int) { e.Accept[i], e.Accept[j] = e.Accept[j], e.Accept[i] })
		}
		if !Equal(entry, shuffled) {
			t.Fatalf("%v\nand\n%v are not equal", entry, shuffled)
		}
		if !ok {
			return
		}
		switch e := shuffled.(type) {
		case *ExportedServices:
			e.Services = e.Services[1:]
		case *ServiceIntentions:
			e.Sources[0].Peer += "x"
		case *PeerPolicy:
			e.Accept[0] += "x"
		}
		if Equal(entry, shuffled) {
			t.Fatalf("%v\nand\n%v are equal", entry, shuffled)
		}
	})
}

func mustJSON(value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return data
}

func TestEqualTellsKindsApart(t *testing.T) {
	if Equal(&Mesh{}, &ProxyDefaults{Name: "global"}) {
		t.Error("entries of different kinds are equal")
	}
	kept := &Mesh{Kept: map[string]any{"ValidateClusters": true}}
	if Equal(&Mesh{}, kept) || !Equal(kept, kept) {
		t.Error("what is kept is part of an entry")
	}
}
