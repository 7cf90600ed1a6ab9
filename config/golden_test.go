package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// TestGolden runs the cases below testdata: the comment is the reason, then come one or more inputs that mean the same
// (in.hcl, in.json, in.yaml, or in for a body without a name), and what comes out: `error`, or `out.json` and `kept`.
// UPDATE_GOLDEN=1 rewrites what comes out.
func TestGolden(t *testing.T) {
	for folder, read := range map[string]func(string, []byte) (any, []string, error){
		"entries": readEntries, "services": readServices, "checks": readCheck, "server": readServer, "requests": readRequest,
	} {
		files, err := filepath.Glob(filepath.Join("testdata", folder, "*.txtar"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no cases: %v", folder, err)
		}
		for _, file := range files {
			t.Run(folder+"/"+strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { golden(t, file, read) })
		}
	}
}

func golden(t *testing.T, path string, read func(string, []byte) (any, []string, error)) {
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(archive.Comment) < 20 {
		t.Errorf("%s: want the reason of the case as its comment", path)
	}
	var want []txtar.File
	var first string
	for _, file := range archive.Files {
		if !strings.HasPrefix(file.Name, "in") {
			continue
		}
		files := outputs(read(strings.TrimSuffix(file.Name, "in"), file.Data))
		switch text := unplaced(files); {
		case want == nil:
			want, first = files, text
		case text != first:
			t.Errorf("%s means something else than the inputs before it:\n%s", file.Name, cmp.Diff(first, text))
		}
	}
	inputs := slices.DeleteFunc(slices.Clone(archive.Files), func(f txtar.File) bool { return !strings.HasPrefix(f.Name, "in") })
	fresh := txtar.Format(&txtar.Archive{Comment: archive.Comment, Files: append(inputs, want...)})
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, fresh, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(txtar.Format(archive)), string(fresh)); diff != "" {
		t.Errorf("%s (UPDATE_GOLDEN=1 rewrites it):\n%s", path, diff)
	}
}

// outputs returns what comes out as files of a case.
func outputs(value any, kept []string, err error) []txtar.File {
	if err != nil {
		return []txtar.File{{Name: "error", Data: []byte(err.Error() + "\n")}}
	}
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return []txtar.File{{Name: "error", Data: []byte("encode: " + err.Error() + "\n")}}
	}
	files := []txtar.File{{Name: "out.json", Data: append(data, '\n')}}
	if len(kept) > 0 {
		files = append(files, txtar.File{Name: "kept", Data: []byte(strings.Join(kept, "\n") + "\n")})
	}
	return files
}

var place = regexp.MustCompile(`(?m)^(in\.\w+(:\d+)?|line \d+): `)

func unplaced(files []txtar.File) string {
	text := string(txtar.Format(&txtar.Archive{Files: files}))
	lines := strings.Split(place.ReplaceAllString(text, ""), "\n")
	if strings.HasPrefix(text, "-- error") {
		slices.Sort(lines)
	}
	return strings.Join(lines, "\n")
}

func readEntries(file string, data []byte) (any, []string, error) {
	entries, err := ParseEntries(file, data)
	var all []map[string]any
	var kept []string
	for _, entry := range entries {
		all = append(all, EncodeEntry(entry))
		for _, field := range KeptFields(entry) {
			kept = append(kept, entry.EntryKind()+" "+entry.EntryName()+": "+field)
		}
	}
	return all, kept, err
}

func readServices(file string, data []byte) (any, []string, error) {
	services, err := ParseServices(file, data)
	var all []map[string]any
	var kept []string
	for _, service := range services {
		all = append(all, EncodeService(service))
		for _, field := range service.KeptFields() {
			kept = append(kept, service.ID+": "+field)
		}
	}
	return all, kept, err
}

func readCheck(_ string, data []byte) (any, []string, error) {
	check, serviceID, err := ParseCheck(data)
	return map[string]any{"check": check, "of": serviceID}, nil, err
}

// readServer shows what the file says, and what comes of it.
func readServer(file string, data []byte) (any, []string, error) {
	server, err := LoadServer(file, data)
	if err != nil {
		return nil, nil, err
	}
	server, err = server.Resolve("host-1")
	return server, nil, err
}

func readRequest(_ string, data []byte) (any, []string, error) {
	if strings.Contains(string(data), "PeeringToken") {
		request, err := ParseEstablishRequest(data)
		return map[string]any{"request": request, "token": fmt.Sprint(len(request.Token.Reveal()), " bytes")}, nil, err
	}
	request, err := ParseTokenRequest(data)
	return request, nil, err
}
