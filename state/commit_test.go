package state_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/state"
)

// waiting starts writes that all wait behind one that is under way, lets them go, and returns their errors.
func waiting(t *testing.T, s *state.Store, writes ...func() error) []error {
	t.Helper()
	release := make(chan struct{})
	first := make(chan error)
	go func() {
		_, err := s.Commit(t.Context(), snapshot.Event{Check: func(*snapshot.World) error { <-release; return nil }})
		first <- err
	}()
	synctest.Wait()
	answers := make([]chan error, len(writes))
	for i, write := range writes {
		answers[i] = make(chan error, 1)
		go func() { answers[i] <- write() }()
		synctest.Wait() // one after the other, so that their order is known
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	errs := make([]error, len(writes))
	for i, answer := range answers {
		errs[i] = <-answer
	}
	return errs
}

func TestWaitingWritesShareOneFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		sub := s.Publisher().Subscribe()
		defer sub.Close()
		sub.Take()
		refusal := errors.New("db is there")
		var indexes [3]uint64
		write := func(i int, events ...snapshot.Event) func() error {
			return func() (err error) {
				indexes[i], err = s.Commit(t.Context(), events...)
				return err
			}
		}
		onlyFirst := snapshot.Event{Check: func(w *snapshot.World) error {
			if protocolOf(w, "db") != "none" {
				return refusal
			}
			return nil
		}}
		errs := waiting(t, s,
			write(0, onlyFirst, defaults("db", "first")),
			write(1, onlyFirst, defaults("db", "second"), defaults("web", "tcp")),
			write(2, defaults("api", "tcp")))
		if errs[0] != nil || errs[1] != refusal || errs[2] != nil {
			t.Errorf("errors %v: want only the second refused, by its own check", errs)
		}
		w := s.World()
		if protocolOf(w, "db") != "first" || protocolOf(w, "web") != "none" || protocolOf(w, "api") != "tcp" {
			t.Error("a refused write left something, or took something along")
		}
		if indexes != [3]uint64{1, 0, 2} || w.Index != 2 {
			t.Errorf("indexes %v, World at %d", indexes, w.Index)
		}
		if update := sub.Take(); len(update.Changed) != 2 {
			t.Errorf("published %v: want two keys", update.Changed)
		}
	})
}

// One write of a batch that the file itself refuses must not take the others with it.
func TestWriteThatTheFileRefusesFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		ctx := t.Context()
		errs := waiting(t, s,
			func() error { _, err := s.Commit(ctx, defaults("a", "tcp")); return err },
			func() error { return s.RevokeToken(ctx, "nobody's") },
			func() error { _, err := s.Commit(ctx, defaults("b", "tcp")); return err })
		if errs[0] != nil || !errors.Is(errs[1], state.ErrNoToken) || errs[2] != nil {
			t.Errorf("errors %v", errs)
		}
		if protocolOf(s.World(), "a") != "tcp" || protocolOf(s.World(), "b") != "tcp" {
			t.Error("the other writes are not there")
		}
		if n, err := s.VerifyAudit(); n.Newest != 2 || err != nil {
			t.Errorf("audit has %+v, %v: want those of the two writes", n, err)
		}
	})
}

func TestEndedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		ctx, cancel := context.WithCancel(t.Context())
		write := func() error { _, err := s.Commit(ctx, defaults("db", "tcp")); return err }
		errs := waiting(t, s, write, func() error { cancel(); return nil })
		if errs[0] != context.Canceled || protocolOf(s.World(), "db") != "none" {
			t.Errorf("a write that gave up before its turn: %v", errs[0])
		}
		if err := write(); err != context.Canceled {
			t.Errorf("with an ended context: %v", err)
		}
	})
}

func TestClosedStoreRefusesWrites(t *testing.T) {
	s := open(t, t.TempDir())
	commit(t, s, defaults("db", "tcp"))
	s.Close()
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := s.Commit(t.Context(), defaults("db", "http")); err == nil || !strings.Contains(err.Error(), "is closed") {
		t.Errorf("err = %v", err)
	}
	if protocolOf(s.World(), "db") != "tcp" {
		t.Error("the World is gone with the file")
	}
}

func TestAnnounce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	commit(t, s, defaults("db", "tcp"))
	name := func(addrs ...string) snapshot.Event {
		resolved := &snapshot.ResolvedName{}
		for _, a := range addrs {
			resolved.Addresses = append(resolved.Addresses, netip.MustParseAddr(a))
		}
		return snapshot.Event{Key: snapshot.NewKey(snapshot.TableNames, "gw.example"), Object: resolved}
	}
	announce := func(e snapshot.Event) uint64 {
		if err := s.Announce(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		return s.World().Index
	}
	first := announce(name("10.0.0.1"))
	if got := s.World().Name("gw.example"); got == nil || first != 2 {
		t.Errorf("announced %v at %d", got, first)
	}
	if again := announce(name("10.0.0.1")); again != first {
		t.Errorf("the same answer went from index %d to %d", first, again)
	}
	if gone := announce(without(name())); gone != first+1 || announce(without(name())) != gone || s.World().Name("gw.example") != nil {
		t.Errorf("withdrawn at %d", gone)
	}
	last := announce(name("10.0.0.2"))
	if err := s.Announce(t.Context(), defaults("db", "tcp")); err == nil {
		t.Error("announced what must be stored")
	}
	s = reopen(t, s, dir)
	if s.World().Name("gw.example") != nil || s.World().Index != last {
		t.Errorf("after a restart: %v at %d: want nothing at %d", s.World().Name("gw.example"), s.World().Index, last)
	}
}

// The store behaves as a map that is written all or nothing, whatever is written, refused, repeated or restarted.
func TestStoreIsAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		s, err := state.Open(state.Config{Dir: dir})
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { s.Close() }()
		model, index := map[string]string{}, uint64(0)
		name, protocol := rapid.SampledFrom([]string{"a", "b", "c", "d"}), rapid.SampledFrom([]string{"tcp", "http", "grpc", ""})
		rt.Repeat(map[string]func(*rapid.T){
			"commit": func(rt *rapid.T) {
				after, refuse := map[string]string{}, rapid.Float64().Draw(rt, "refuse") < 0.2
				for n, p := range model {
					after[n] = p
				}
				var events []snapshot.Event
				for range rapid.IntRange(0, 4).Draw(rt, "events") {
					n, p := name.Draw(rt, "name"), protocol.Draw(rt, "protocol")
					if after[n] = p; p == "" {
						delete(after, n)
						events = append(events, without(defaults(n, "")))
						continue
					}
					events = append(events, defaults(n, p))
				}
				if refuse {
					events = append(events, snapshot.Event{Check: func(*snapshot.World) error { return errors.New("no") }})
				}
				got, err := s.Commit(t.Context(), events...)
				if (err != nil) != refuse {
					rt.Fatalf("err = %v", err)
				}
				if changed := fmt.Sprint(after) != fmt.Sprint(model); !refuse {
					if changed != (got > index) || got < index {
						rt.Fatalf("index went from %d to %d, changed = %v", index, got, changed)
					}
					model, index = after, got
				}
			},
			"restart": func(rt *rapid.T) {
				if err := s.Close(); err != nil {
					rt.Fatal(err)
				}
				if s, err = state.Open(state.Config{Dir: dir}); err != nil {
					rt.Fatal(err)
				}
			},
			"": func(rt *rapid.T) {
				w := s.World()
				if w.Index != index || len(w.Entries(config.KindServiceDefaults)) != len(model) {
					rt.Fatalf("World at %d has %d entries: want %d, %d", w.Index, len(w.Entries("")), index, len(model))
				}
				for n, p := range model {
					if protocolOf(w, n) != p {
						rt.Fatalf("%s is %s: want %s", n, protocolOf(w, n), p)
					}
				}
			},
		})
	})
}
