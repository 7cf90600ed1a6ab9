package state_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/state"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		children[os.Getenv(childTask)](dir)
		return
	}
	flag.Parse()
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		checks.Value.Set("25") // each writes to a disk some thirty times
	}
	goleak.VerifyTestMain(m)
}

func open(t *testing.T, dir string) *state.Store {
	t.Helper()
	s, err := state.Open(state.Config{Dir: dir, LockTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func reopen(t *testing.T, s *state.Store, dir string) *state.Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, dir)
}

func commit(t *testing.T, s *state.Store, events ...snapshot.Event) uint64 {
	t.Helper()
	index, err := s.Commit(t.Context(), events...)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func defaults(name, protocol string) snapshot.Event {
	return snapshot.Event{
		Key:    snapshot.NewKey(snapshot.TableEntries, config.KindServiceDefaults, name),
		Object: &snapshot.Entry{Value: &config.ServiceDefaults{Name: name, Protocol: protocol}},
	}
}

func without(e snapshot.Event) snapshot.Event { return snapshot.Event{Key: e.Key} }

func protocolOf(w *snapshot.World, name string) string {
	entry, ok := snapshot.EntryOf[*config.ServiceDefaults](w, name)
	if !ok {
		return "none"
	}
	return entry.Protocol
}

func TestCommitIsReadYourWrites(t *testing.T) {
	s := open(t, t.TempDir())
	sub := s.Publisher().Subscribe()
	defer sub.Close()
	sub.Take()
	index := commit(t, s, defaults("db", "tcp"))
	if got := protocolOf(s.World(), "db"); got != "tcp" {
		t.Errorf("db has protocol %q", got)
	}
	if got := s.World().Entry(config.KindServiceDefaults, "db").Raft; got != (snapshot.Raft{CreateIndex: index, ModifyIndex: index}) {
		t.Errorf("new object has %+v: want %d", got, index)
	}
	if update := sub.Take(); len(update.Changed) != 1 || update.World != s.World() {
		t.Errorf("published %v", update.Changed)
	}
	second := commit(t, s, defaults("db", "http"))
	if got := s.World().Entry(config.KindServiceDefaults, "db").Raft; second != index+1 || got != (snapshot.Raft{CreateIndex: index, ModifyIndex: second}) {
		t.Errorf("changed object has %+v at %d: want it made at %d", got, second, index)
	}
}

func TestIdenticalRewriteChangesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	index := commit(t, s, defaults("db", "tcp"))
	for _, when := range []string{"before", "after"} {
		before := s.World()
		if again := commit(t, s, defaults("db", "tcp")); again != index || s.World() != before {
			t.Errorf("%s a restart: rewrite went from %d to %d", when, index, again)
		}
		s = reopen(t, s, dir)
		index = s.World().Index
	}
}

func TestRefusedCheckChangesNothing(t *testing.T) {
	s := open(t, t.TempDir())
	commit(t, s, defaults("db", "tcp"))
	before, refusal := s.World(), errors.New("no")
	check := snapshot.Event{Check: func(w *snapshot.World) error {
		if protocolOf(w, "db") != "tcp" {
			t.Error("the check saw another World than the one it would change")
		}
		return refusal
	}}
	if _, err := s.Commit(t.Context(), defaults("db", "http"), defaults("web", "tcp"), check); err != refusal {
		t.Errorf("err = %v: want the check's own", err)
	}
	if s.World() != before {
		t.Error("a refused write changed the World")
	}
	panics := snapshot.Event{Check: func(*snapshot.World) error { panic("bug") }}
	if _, err := s.Commit(t.Context(), panics); err == nil || !strings.Contains(err.Error(), "bug") {
		t.Errorf("err = %v: want the panic", err)
	}
}

func TestLastEventOfAKeyCounts(t *testing.T) {
	s := open(t, t.TempDir())
	commit(t, s, defaults("a", "tcp"), defaults("b", "tcp"))
	index := commit(t, s, without(defaults("a", "")), defaults("a", "http"), defaults("b", "http"), without(defaults("b", "")))
	if a, b := protocolOf(s.World(), "a"), protocolOf(s.World(), "b"); a != "http" || b != "none" {
		t.Errorf("a = %s, b = %s", a, b)
	}
	if got := commit(t, s, defaults("c", "tcp"), without(defaults("c", ""))); got != index {
		t.Errorf("nothing in the end moved the index from %d to %d", index, got)
	}
}

func TestEventsThatCannotBeStored(t *testing.T) {
	s := open(t, t.TempDir())
	ok := defaults("db", "tcp")
	for name, c := range map[string]struct {
		event snapshot.Event
		want  string
	}{
		"other key":     {snapshot.Event{Key: snapshot.NewKey(snapshot.TableEntries, config.KindServiceDefaults, "web"), Object: ok.Object}, "object is entries/service-defaults/db"},
		"other table":   {snapshot.Event{Key: snapshot.NewKey(snapshot.TablePeers, "db"), Object: ok.Object}, "want *snapshot.Peer"},
		"import as own": {snapshot.Event{Key: snapshot.NewKey(snapshot.TableInstances, "db", "n", "db"), Object: &snapshot.Import{Peer: "east", Service: "db"}}, "want *snapshot.Instance"},
		"names":         {snapshot.Event{Key: snapshot.NewKey(snapshot.TableNames, "a.example"), Object: &snapshot.ResolvedName{}}, "not stored"},
		"nil entry":     {snapshot.Event{Key: ok.Key, Object: &snapshot.Entry{}}, "incomplete"},
		"zero byte":     {defaults("d\x00b", ""), "zero byte"},
		"long name":     {defaults(strings.Repeat("d", 5000), ""), "want at most"},
		"private type":  {snapshot.Event{Key: snapshot.NewKey(snapshot.TablePrivate, "ca"), Object: "text"}, "want []byte"},
	} {
		if _, err := s.Commit(t.Context(), ok, c.event); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err = %v: want %q", name, err, c.want)
		}
	}
	if got := s.World().Index; got != 0 {
		t.Errorf("index = %d: want nothing written", got)
	}
}

func TestPrivateRecords(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	before := s.World()
	put := func(value string, parts ...string) snapshot.Event {
		return snapshot.Event{Key: snapshot.NewKey(snapshot.TablePrivate, parts...), Object: []byte(value)}
	}
	commit(t, s, put("1", "peering"), put("2", "peering", "east"), put("3", "peering", "east", "x"), put("4", "peerings"), put("", "empty"))
	if s.World() != before {
		t.Error("private records changed the World")
	}
	s = reopen(t, s, dir)
	for prefix, want := range map[string]int{"": 5, "peering": 3, "peering/east": 2, "peerings": 1, "empty": 1, "none": 0} {
		var parts []string
		if prefix != "" {
			parts = strings.Split(prefix, "/")
		}
		got, err := s.Private(parts...)
		if err != nil || len(got) != want {
			t.Errorf("Private(%q) = %q, %v: want %d", parts, got, err, want)
		}
	}
	commit(t, s, snapshot.Event{Key: snapshot.NewKey(snapshot.TablePrivate, "peering", "east")})
	if got, _ := s.Private("peering"); len(got) != 2 {
		t.Errorf("after a deletion: %q", got)
	}
}

func TestIndexNeverFalls(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	commit(t, s, defaults("db", "tcp"))
	deleted := commit(t, s, without(defaults("db", "")))
	s = reopen(t, s, dir)
	if got := s.World().Index; got != deleted {
		t.Errorf("index after a restart = %d: want %d", got, deleted)
	}
	if got := s.World().Modified(snapshot.TableEntries, config.KindServiceDefaults); got != deleted {
		t.Errorf("Modified of a kind whose only entry went = %d: want %d", got, deleted)
	}
	if got := s.World().Modified(snapshot.TableEntries); got != deleted {
		t.Errorf("Modified of the table = %d: want %d", got, deleted)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := state.Open(state.Config{Dir: dir, LockTimeout: time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "another process uses it") {
		t.Errorf("err = %v", err)
	}
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "data")
	s := open(t, dir)
	s.Close()
	os.Chmod(dir, 0o755)
	os.Chmod(filepath.Join(dir, "isthmus.db"), 0o644)
	open(t, dir)
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "isthmus.db"): 0o600, filepath.Join(dir, "operator.token"): 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v: want %v", path, info.Mode(), err, want)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Errorf("left behind: %v", files)
	}
}

func TestUnusableFilesAreLeftAlone(t *testing.T) {
	whole := t.TempDir()
	open(t, whole).Close()
	good, err := os.ReadFile(filepath.Join(whole, "isthmus.db"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte{}, good...)
	for i := 2 * os.Getpagesize(); i < len(flipped); i++ { // all but the two meta pages
		flipped[i] ^= 0xff
	}
	newer := editedFile(t, whole, "meta", "schema", "2")
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":       {nil, "is empty"},
		"other file":  {[]byte(strings.Repeat("not a store ", 5000)), "is damaged or not a store"},
		"cut off":     {good[:len(good)/2], "is cut off"},
		"pages wrong": {flipped, "is damaged"},
		"newer":       {newer, "was written by a newer version: schema 2, want at most 1"},
		"bad object":  {editedFile(t, whole, "table:nodes", ":n", `{"create":1,"modify":0,"object":{"Name":5}}`), "nodes/n: Name: is 5: want string"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "isthmus.db")
			os.WriteFile(path, c.data, 0o600)
			_, err := state.Open(state.Config{Dir: dir})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("err = %v: want %q and the directory", err, c.want)
			}
			if after, _ := os.ReadFile(path); string(after) != string(c.data) {
				t.Error("the file was changed")
			}
		})
	}
}

// editedFile returns the store of dir with one value replaced.
func editedFile(t *testing.T, dir, bucket, key, value string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "isthmus.db"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "edited.db")
	os.WriteFile(path, data, 0o600)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(key), []byte(value)) }); err != nil {
		t.Fatal(err)
	}
	db.Close()
	data, _ = os.ReadFile(path)
	return data
}
