package state_test

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/state"
)

type actorKey struct{}

func TestAuditTrail(t *testing.T) {
	s, err := state.Open(state.Config{Dir: t.TempDir(), Actor: func(ctx context.Context) string {
		who, _ := ctx.Value(actorKey{}).(string)
		return who
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := context.WithValue(t.Context(), actorKey{}, "ann")
	private := snapshot.Event{Key: snapshot.NewKey(snapshot.TablePrivate, "peering", "token", "1"), Object: []byte("canary")}
	peer := snapshot.Event{Key: snapshot.NewKey(snapshot.TablePeers, "east"), Object: &snapshot.Peer{Name: "east"}}
	node := snapshot.Event{Key: snapshot.NewKey(snapshot.TableNodes, "n"), Object: &snapshot.Node{Name: "n"}}
	write := func(events ...snapshot.Event) {
		t.Helper()
		if _, err := s.Commit(ctx, events...); err != nil {
			t.Fatal(err)
		}
	}
	write(peer, private, node)
	write(peer, private) // nothing new
	write(defaults("db", "tcp"))
	write(without(defaults("db", "")))
	_, made, err := s.CreateToken(ctx, snapshot.Credential{Role: snapshot.RoleProxy, Proxy: "web-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Audit(ctx, "login.refused", "10.0.0.1", "no such token"); err != nil {
		t.Fatal(err)
	}
	want := [][2]string{
		{"peering.write", "peers/east"}, {"private.write", "private/peering/token/1"},
		{"config.write", "entries/service-defaults/db"}, {"config.delete", "entries/service-defaults/db"},
		{"token.create", made.Accessor}, {"login.refused", "10.0.0.1"},
	}
	records, err := s.AuditRecords(100)
	if err != nil {
		t.Fatal(err)
	}
	var got [][2]string
	for i := range records {
		r := records[len(records)-1-i]
		got = append(got, [2]string{r.Action, r.Object})
		if r.Actor != "ann" || r.Time.IsZero() || strings.Contains(r.Detail, "canary") {
			t.Errorf("%+v", r)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("records %v: want %v", got, want)
	}
	if newest, err := s.AuditRecords(1); err != nil || len(newest) != 1 || newest[0].Action != "login.refused" {
		t.Errorf("newest record %+v, %v", newest, err)
	}
	if n, err := s.VerifyAudit(); n != 6 || err != nil {
		t.Errorf("VerifyAudit: %d, %v", n, err)
	}
}

func TestAuditTrailThatWasChanged(t *testing.T) {
	number := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	for name, c := range map[string]struct {
		change func(*bolt.Bucket) error
		want   string
	}{
		"flipped": {func(b *bolt.Bucket) error {
			return b.Put(number(2), []byte(strings.Replace(string(b.Get(number(2))), "config.write", "config.wrote", 1)))
		}, "record 3 does not follow"},
		"left out":     {func(b *bolt.Bucket) error { return b.Delete(number(2)) }, "record 2 is missing"},
		"cut off":      {func(b *bolt.Bucket) error { return b.Delete(number(3)) }, "cut off"},
		"last changed": {func(b *bolt.Bucket) error { return b.Put(number(3), append(b.Get(number(3)), ' ')) }, "it was changed"},
		"added":        {func(b *bolt.Bucket) error { return b.Put(number(4), b.Get(number(3))) }, "record 4 says it is 3"},
		"all gone": {func(b *bolt.Bucket) error {
			for n := range uint64(3) {
				if err := b.Delete(number(n + 1)); err != nil {
					return err
				}
			}
			return nil
		}, "cut off"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			for _, protocol := range []string{"tcp", "http", "grpc"} {
				commit(t, s, defaults("db", protocol))
			}
			s.Close()
			db, err := bolt.Open(filepath.Join(dir, "isthmus.db"), 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Update(func(tx *bolt.Tx) error { return c.change(tx.Bucket([]byte("audit"))) }); err != nil {
				t.Fatal(err)
			}
			db.Close()
			if _, err := open(t, dir).VerifyAudit(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("err = %v: want %q", err, c.want)
			}
		})
	}
}
