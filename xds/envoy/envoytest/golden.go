package envoytest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// A Translate turns the file in.yaml of a case into what a proxy is told, and into endpoints if it has any.
type Translate func(t testing.TB, in []byte) (*envoy.Set, []*envoy.Resource, error)

// Golden runs each txtar case below dir. A case's comment is its reason; then come in.yaml and only the outputs that the
// case is about: calls, admitted (of the clients that the file clients lists), listeners.yaml, clusters.yaml,
// endpoints.yaml, secrets.yaml, extensions.yaml, error; clusters/NAME.yaml is the one of that name. With UPDATE_GOLDEN=1
// they are rewritten.
func Golden(t *testing.T, dir string, translate Translate) {
	cases, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(cases) == 0 {
		t.Fatalf("%s: no cases: %v", dir, err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { golden(t, path, translate) })
	}
}

// Case returns what translate makes of one case.
func Case(t testing.TB, path string, translate Translate) *envoy.Set {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	set, _, err := translate(t, file(archive, "in.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func golden(t *testing.T, path string, translate Translate) {
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	set, endpoints, err := translate(t, file(archive, "in.yaml"))
	outputs := map[string]func() []byte{"error": func() []byte { return []byte(errorText(err)) }}
	if err == nil {
		if err := set.Check(); err != nil {
			t.Error(err)
		}
		outputs["calls"] = func() []byte { return []byte(Calls(t, set)) }
		outputs["admitted"] = func() []byte { return []byte(Admitted(t, set, string(file(archive, "clients")))) }
		outputs["listeners.yaml"] = func() []byte { return YAML(t, Listeners(t, set)) }
		outputs["clusters.yaml"] = func() []byte { return YAML(t, Clusters(t, set)) }
		outputs["secrets.yaml"] = func() []byte { return YAML(t, Secrets(t, set)) }
		outputs["extensions.yaml"] = func() []byte { return YAML(t, Extensions(t, set)) }
		outputs["endpoints.yaml"] = func() []byte { return YAML(t, Endpoints(t, endpoints)) }
	} else if file(archive, "error") == nil {
		t.Fatal(err)
	}
	compare(t, path, archive, outputs)
}

func compare(t *testing.T, path string, archive *txtar.Archive, outputs map[string]func() []byte) {
	for i, f := range archive.Files {
		if f.Name == "in.yaml" || f.Name == "clients" {
			continue
		}
		whole, one, _ := strings.Cut(f.Name, "/")
		if one != "" {
			whole += ".yaml"
		}
		output, ok := outputs[whole]
		if !ok {
			t.Errorf("%s: no such output", f.Name)
			continue
		}
		got := output()
		if one != "" {
			got = only(t, got, strings.TrimSuffix(one, ".yaml"))
		}
		if os.Getenv("UPDATE_GOLDEN") != "" {
			archive.Files[i].Data = got
			continue
		}
		if !bytes.Equal(got, f.Data) {
			t.Errorf("%s: got\n%s\nwant\n%s", f.Name, got, f.Data)
		}
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// only returns the one object called name of a YAML list.
func only(t *testing.T, list []byte, name string) []byte {
	var objects []map[string]any
	if err := yaml.Unmarshal(list, &objects); err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if object["name"] == name || object["clusterName"] == name {
			text, err := yaml.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
	}
	return []byte("none\n")
}

// file returns a file of a case, nil if it has none.
func file(archive *txtar.Archive, name string) []byte {
	for _, f := range archive.Files {
		if f.Name == name {
			return append([]byte{}, f.Data...)
		}
	}
	return nil
}

func errorText(err error) string {
	if err == nil {
		return "none\n"
	}
	return err.Error() + "\n"
}
