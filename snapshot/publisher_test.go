package snapshot

import (
	"context"
	"errors"
	"testing"
)

// Whoever is slow finds only the newest World, with every key that changed meanwhile.
func TestSlowSubscriberFindsTheNewest(t *testing.T) {
	p := NewPublisher(NewWorld())
	s := p.Subscribe()
	defer s.Close()
	if first, err := s.Next(t.Context()); err != nil || !first.All || first.World != p.World() {
		t.Fatalf("first update: %+v %v", first, err)
	}
	a, b := NewKey(TableNodes, "a"), NewKey(TableNodes, "b")
	worlds := []*World{NewWorld().With(1, nil), NewWorld().With(2, nil), NewWorld().With(3, nil)}
	p.Publish(worlds[0], []Key{a})
	p.Publish(worlds[1], []Key{a, b})
	second, err := s.Next(t.Context())
	if err != nil || second.World != worlds[1] || second.All || len(second.Changed) != 2 {
		t.Fatalf("second update: %+v %v", second, err)
	}
	select {
	case <-s.Ready():
		t.Fatal("ready, and nothing changed")
	default:
	}
	p.Publish(worlds[2], []Key{b})
	<-s.Ready()
	if third := s.Take(); third.World != worlds[2] || len(third.Changed) != 1 || third.Changed[0] != b {
		t.Fatalf("third update: %+v", third)
	}
}

func TestNextEndsWithContext(t *testing.T) {
	p := NewPublisher(NewWorld())
	s := p.Subscribe()
	s.Take()
	<-s.Ready()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	s.Close()
	p.Publish(NewWorld(), []Key{NewKey(TableNodes, "a")})
	select {
	case <-s.Ready():
		t.Fatal("told after Close")
	default:
	}
}
