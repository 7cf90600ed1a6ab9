package state_test

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/isthmus-mesh/isthmus/config"
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
	write(snapshot.Event{Key: snapshot.NewKey(snapshot.TablePrivate, "peering", "seen", "1"), Object: []byte("a time")})
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
		{"peering.write", "peers/east"}, {"private.write", "private/peering/token/1"}, {"node.write", "nodes/n"},
		{"config.write", "entries/service-defaults/db"}, {"config.delete", "entries/service-defaults/db"},
		{"token.create", made.Accessor}, {"login.refused", "10.0.0.1"},
	}
	records, err := s.AuditRecords(100, 0)
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
	if newest, err := s.AuditRecords(1, 0); err != nil || len(newest) != 1 || newest[0].Action != "login.refused" {
		t.Errorf("newest record %+v, %v", newest, err)
	}
	if n, err := s.VerifyAudit(); n.Newest != 7 || n.First != 1 || err != nil {
		t.Errorf("VerifyAudit: %+v, %v", n, err)
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

// TestAuditOfRegistrations: a service and a check are recorded as they come and go, and not each time that a check fails.
func TestAuditOfRegistrations(t *testing.T) {
	s := open(t, t.TempDir())
	instance := snapshot.Event{Key: snapshot.NewKey(snapshot.TableInstances, "db", "n", "db"), Object: &snapshot.Instance{Node: "n", Service: &config.Service{ID: "db", Name: "db"}}}
	check := func(status string) snapshot.Event {
		return snapshot.Event{Key: snapshot.NewKey(snapshot.TableChecks, "n", "db", "tcp"), Object: &snapshot.Check{Node: "n", ServiceID: "db", CheckID: "tcp", Status: status}}
	}
	commit(t, s, instance, check("passing"))
	commit(t, s, check("critical"))
	commit(t, s, without(instance), without(check("")))
	records, err := s.AuditRecords(10, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range records {
		got = append(got, r.Action)
	}
	if want := []string{"check.delete", "service.delete", "check.write", "service.write"}; !reflect.DeepEqual(got, want) {
		t.Errorf("newest first %v: want %v", got, want)
	}
}

// TestAuditTrailIsBounded: the oldest records go, and the chain of the others is whole, also after a restart.
func TestAuditTrailIsBounded(t *testing.T) {
	dir := t.TempDir()
	cfg := state.Config{Dir: dir, AuditRecords: 20}
	s, err := state.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if err := s.Audit(t.Context(), "test", "object", ""); err != nil {
			t.Fatal(err)
		}
	}
	extent, err := s.VerifyAudit()
	if err != nil || extent.Newest != 50 || extent.First < 29 || extent.First > 31 {
		t.Errorf("%+v, %v: want 20 to 22 records, up to number 50", extent, err)
	}
	older, err := s.AuditRecords(100, 40)
	if err != nil || older[0].Number != 39 || older[len(older)-1].Number != extent.First {
		t.Errorf("%v: before 40 there are %+v", err, older)
	}
	s.Close()
	if s, err = state.Open(cfg); err != nil {
		t.Fatal(err)
	}
	if again, err := s.VerifyAudit(); err != nil || again != extent {
		t.Errorf("after a restart %+v, %v: want %+v", again, err, extent)
	}
	s.Close()
	db, err := bolt.Open(filepath.Join(dir, "isthmus.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("audit")).Delete(binary.BigEndian.AppendUint64(nil, extent.First))
	})
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	if s, err = state.Open(cfg); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.VerifyAudit(); err == nil || !strings.Contains(err.Error(), "is missing") {
		t.Errorf("the oldest was removed by hand: %v", err)
	}
}
