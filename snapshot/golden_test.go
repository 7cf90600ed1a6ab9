package snapshot

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/config"
)

// An item is one entry of the list in a case's in.yaml: exactly one field is set. Node, where it is left out, is "n1", which has the
// address 10.1.0.1 and is our own.
type item struct {
	Cluster    *Cluster
	Roots      []string
	Peer       *Peer
	Node       string
	Service    *config.Service
	Check      *Check
	Import     *Import
	Name       string
	Addresses  *ResolvedName
	Exports    []config.ExportedService
	Intentions *config.ServiceIntentions
	Defaults   *config.ServiceDefaults
	AllProxies *config.ProxyDefaults
	Policy     *config.PeerPolicy
}

func (o *item) event(t *testing.T) Event {
	node := cmp.Or(o.Node, "n1")
	switch {
	case o.Cluster != nil:
		return Event{Key: NewKey(TableCluster), Object: o.Cluster}
	case o.Roots != nil:
		return Event{Key: NewKey(TableRoots), Object: &Bundle{Roots: o.Roots}}
	case o.Peer != nil:
		return Event{Key: NewKey(TablePeers, o.Peer.Name), Object: o.Peer}
	case o.Service != nil:
		o.Service.ID = cmp.Or(o.Service.ID, o.Service.Name)
		return Event{
			Key:    NewKey(TableInstances, o.Service.Name, node, o.Service.ID),
			Object: &Instance{Node: node, NodeAddress: "10.1.0.1", Service: o.Service},
		}
	case o.Check != nil:
		o.Check.Node = node
		return Event{Key: NewKey(TableChecks, node, o.Check.ServiceID, o.Check.CheckID), Object: o.Check}
	case o.Import != nil:
		return Event{Key: NewKey(TableImports, o.Import.Peer, o.Import.Service), Object: o.Import}
	case o.Addresses != nil:
		return Event{Key: NewKey(TableNames, o.Name), Object: o.Addresses}
	case o.Exports != nil:
		return entry(&config.ExportedServices{Name: "default", Services: o.Exports})
	case o.Intentions != nil:
		return entry(o.Intentions)
	case o.Defaults != nil:
		return entry(o.Defaults)
	case o.AllProxies != nil:
		o.AllProxies.Name = "global"
		return entry(o.AllProxies)
	case o.Policy != nil:
		return entry(o.Policy)
	}
	t.Fatal("in.yaml: an item says nothing")
	return Event{}
}

// TestGolden runs the cases in testdata. A case's comment is its reason; then come in.yaml, a list of objects, and only
// the outputs that the case is about: view.yaml (views by proxy), endpoints.yaml (sets by name), skipped (all reasons, one
// in each line). Fields that are empty are left out. With UPDATE_GOLDEN=1 the outputs are rewritten.
func TestGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { golden(t, path) })
	}
}

func golden(t *testing.T, path string) {
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f := newFollower()
	for i, file := range archive.Files {
		var got string
		switch file.Name {
		case "in.yaml":
			f.apply(false, events(t, file.Data)...)
			f.all()
			continue
		case "view.yaml":
			got = text(t, f.kept.Views)
		case "endpoints.yaml":
			got = text(t, f.kept.Endpoints)
		case "skipped":
			got = strings.Join(f.skipped(), "\n") + "\n"
		default:
			t.Fatalf("%s: no such output", file.Name)
		}
		if os.Getenv("UPDATE_GOLDEN") != "" {
			archive.Files[i].Data = []byte(got)
		} else if got != string(file.Data) {
			t.Errorf("%s:\n%s\nwant:\n%s", file.Name, got, file.Data)
		}
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func events(t *testing.T, data []byte) []Event {
	var objects []item
	if err := yaml.UnmarshalStrict(data, &objects); err != nil {
		t.Fatal(err)
	}
	var events []Event
	for i := range objects {
		events = append(events, objects[i].event(t))
	}
	return events
}

// skipped returns what views and endpoint sets leave out: proxy or set, object, reason.
func (f *follower) skipped() []string {
	var lines []string
	add := func(who string, list []Skipped) {
		for _, s := range list {
			lines = append(lines, fmt.Sprintf("%s: %s %s: %s", who, s.Kind, strings.TrimSuffix(s.Name+"@"+s.Peer, "@"), s.Reason))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(f.kept.Views)) {
		switch view := f.kept.Views[id].(type) {
		case *Sidecar:
			add(string(id), view.Skipped)
		case *MeshGateway:
			add(string(id), view.Skipped)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.kept.Endpoints)) {
		add(name, f.kept.Endpoints[name].Skipped)
	}
	return lines
}

// text returns value as YAML without its empty fields.
func text(t *testing.T, value any) string {
	var tree any
	if err := yaml.Unmarshal([]byte(dump(value)), &tree); err != nil {
		t.Fatal(err)
	}
	out, err := yaml.Marshal(pruned(tree))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func pruned(tree any) any {
	switch node := tree.(type) {
	case map[string]any:
		for key, child := range node {
			if child = pruned(child); child == nil || key == "Skipped" {
				delete(node, key)
			} else {
				node[key] = child
			}
		}
		if len(node) == 0 {
			return nil
		}
	case []any:
		if len(node) == 0 {
			return nil
		}
		for i := range node {
			node[i] = pruned(node[i])
		}
	case string, float64, bool:
		if node == "" || node == 0.0 || node == false {
			return nil
		}
	}
	return tree
}
