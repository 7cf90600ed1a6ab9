package state_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/state"
)

// BenchmarkCommit shows what one write costs in stores of different sizes: it must not grow with them. Nearly all of it
// is the disk's.
func BenchmarkCommit(b *testing.B) {
	for _, objects := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("among %d", objects), func(b *testing.B) {
			s := benchStore(b, objects)
			for i := 0; b.Loop(); i++ {
				if _, err := s.Commit(b.Context(), defaults("one", strconv.Itoa(i))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCommitTogether is many writers at once, who share flushes.
func BenchmarkCommitTogether(b *testing.B) {
	s := benchStore(b, 10)
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := s.Commit(b.Context(), defaults("one", strconv.Itoa(i))); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s := fillStore(b, dir, 10_000)
	for b.Loop() {
		s.Close()
		var err error
		if s, err = state.Open(state.Config{Dir: dir}); err != nil {
			b.Fatal(err)
		}
	}
	s.Close()
}

func BenchmarkAuthenticate(b *testing.B) {
	s := benchStore(b, 10)
	secret, err := s.OperatorToken()
	if err != nil {
		b.Fatal(err)
	}
	wrong := redact.NewString("isthmus-op-wrong")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, ok := s.Authenticate(secret); !ok {
				b.Error("not known")
			}
			s.Authenticate(wrong)
		}
	})
}

func benchStore(b *testing.B, objects int) *state.Store {
	s := fillStore(b, b.TempDir(), objects)
	b.Cleanup(func() { s.Close() })
	return s
}

func fillStore(b *testing.B, dir string, objects int) *state.Store {
	s, err := state.Open(state.Config{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	events := make([]snapshot.Event, objects)
	for i := range events {
		events[i] = defaults("service-"+strconv.Itoa(i), "tcp")
	}
	if _, err := s.Commit(b.Context(), events...); err != nil {
		b.Fatal(err)
	}
	return s
}
