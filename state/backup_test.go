package state_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	bolt "go.etcd.io/bbolt"

	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/state"
)

// backup is what the archive that archived returns holds.
func backup(t *testing.T) []byte {
	t.Helper()
	return content(t, archived(t))
}

// archived fills a store and returns a backup of it.
func archived(t *testing.T) []byte {
	t.Helper()
	s := open(t, t.TempDir())
	commit(t, s, filled(t)...)
	commit(t, s, snapshot.Event{Key: snapshot.NewKey(snapshot.TablePrivate, "ca"), Object: []byte("key")})
	if _, _, err := s.CreateToken(t.Context(), snapshot.Credential{Role: snapshot.RoleRead, Description: "of the backup"}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	s.Close()
	return b.Bytes()
}

func TestRestoreElsewhere(t *testing.T) {
	data := backup(t)
	dir := t.TempDir()
	s := open(t, dir)
	commit(t, s, defaults("only-here", "tcp"), snapshot.Event{Key: snapshot.NewKey(snapshot.TablePrivate, "only", "here"), Object: []byte("x")})
	revoked, _, err := s.CreateToken(t.Context(), snapshot.Credential{Role: snapshot.RoleRead, Description: "not in the backup"})
	if err != nil {
		t.Fatal(err)
	}
	own, err := s.OperatorToken()
	if err != nil {
		t.Fatal(err)
	}
	before := s.World().Index
	sub := s.Publisher().Subscribe()
	defer sub.Close()
	sub.Take()
	info, err := s.Restore(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if s.World().Index <= before || len(sub.Take().Changed) != len(filled(t))+1 {
		t.Errorf("index went from %d to %d; subscribers must hear of everything that changed", before, s.World().Index)
	}
	for _, when := range []string{"now", "after a restart"} {
		for _, event := range filled(t) {
			if got := objectOf(s.World(), event.Key); !reflect.DeepEqual(got, event.Object) {
				t.Errorf("%s: %s is %#v: want %#v", when, event.Key, got, event.Object)
			}
		}
		if protocolOf(s.World(), "only-here") != "none" {
			t.Errorf("%s: what was not in the backup is still there", when)
		}
		if private, err := s.Private(); err != nil || len(private) != 1 || string(private["ca"]) != "key" {
			t.Errorf("%s: private %q, %v", when, private, err)
		}
		if _, ok := s.Authenticate(own); !ok {
			t.Errorf("%s: the token of this machine's operator.token is not good", when)
		}
		if _, ok := s.Authenticate(revoked); ok || len(s.Tokens()) != 3 {
			t.Errorf("%s: tokens %+v: want both operators and the reader of the backup", when, s.Tokens())
		}
		if _, err := s.VerifyAudit(); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		s = reopen(t, s, dir)
	}
	if records, err := s.AuditRecords(1, 0); err != nil || records[0].Action != "snapshot.restore" || records[0].Object != info.Checksum {
		t.Errorf("newest audit record %+v, %v", records, err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Errorf("left behind: %v", files)
	}
}

func TestRestoreOfTheSameChangesNothing(t *testing.T) {
	s := open(t, t.TempDir())
	commit(t, s, filled(t)...)
	var b bytes.Buffer
	if err := s.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	before := s.World()
	if _, err := s.Restore(t.Context(), &b); err != nil || s.World() != before {
		t.Errorf("index went from %d to %d, %v", before.Index, s.World().Index, err)
	}
}

func TestInspectSnapshot(t *testing.T) {
	data := backup(t)
	info, err := state.InspectSnapshot(iotest.OneByteReader(bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	if info.Index != 1 || info.Objects["entries"] != 6 || info.Objects["imports"] != 1 || info.TrustDomain == "" || info.Created.IsZero() {
		t.Errorf("%+v", info)
	}
	if int64(len(data)) <= info.Size || len(info.Checksum) != 64 {
		t.Errorf("%d bytes: %+v", len(data), info)
	}
}

// sealed returns a backup whose text was changed and whose checksum is right again.
func sealed(data []byte, from, to string) []byte {
	body := bytes.Replace(data[:len(data)-65], []byte(from), []byte(to), 1)
	return fmt.Appendf(body, "%x\n", sha256.Sum256(body))
}

// foreign returns a whole backup of a database that is not ours.
func foreign(t *testing.T) []byte {
	path := filepath.Join(t.TempDir(), "other.db")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	header := fmt.Sprintf("isthmus-snapshot {\"format\":1,\"schema\":1,\"size\":%d}\n", len(body))
	return sealed(append(append([]byte(header), body...), make([]byte, 65)...), "", "")
}

func TestBackupsThatAreRefused(t *testing.T) {
	data := backup(t)
	flip := func(i int) []byte {
		c := bytes.Clone(data)
		c[i] ^= 1
		return c
	}
	s := open(t, t.TempDir())
	commit(t, s, defaults("db", "tcp"))
	before := s.World()
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":          {nil, "is not a snapshot of ours"},
		"another file":   {[]byte(strings.Repeat("x", 1<<20)), "is not a snapshot of ours"},
		"cut off":        {data[:len(data)/2], "is cut off"},
		"no checksum":    {data[:len(data)-65], "its checksum is another"},
		"longer":         {append(bytes.Clone(data), 'x'), "its checksum is another"},
		"body flipped":   {flip(len(data) / 2), "its checksum is another"},
		"header flipped": {flip(30), "is damaged"},
		"newer format":   {sealed(data, `"format":1`, `"format":2`), "newer version: format 2"},
		"newer schema":   {sealed(data, `"schema":1`, `"schema":2`), "newer version: format 1, schema 2"},
		"other database": {foreign(t), "is not a store of ours"},
		"huge":           {sealed(data, `"size":`, `"size":9`), "is cut off"},
	} {
		_, err := s.Restore(t.Context(), bytes.NewReader(c.data))
		var stated interface{ HTTPStatus() int }
		if !errors.As(err, &stated) || stated.HTTPStatus() != 400 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err = %v: want %q, and that it is the sender's", name, err, c.want)
		}
		if s.World() != before {
			t.Errorf("%s: the World changed", name)
		}
	}
	broken := errors.New("connection reset")
	if _, err := s.Restore(t.Context(), iotest.ErrReader(broken)); err == nil {
		t.Error("restored from nothing")
	}
}

func TestBackupToABrokenPipe(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Snapshot(brokenPipe{}); !errors.Is(err, errPipe) {
		t.Errorf("err = %v", err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Errorf("left behind: %v", files)
	}
}

var errPipe = errors.New("broken pipe")

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errPipe }
