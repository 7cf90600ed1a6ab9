package health

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// An agenda gives back what a plain map says is due, the earliest first.
func TestAgenda(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a agenda[int]
		model := map[int]time.Time{}
		start := time.Unix(1000, 0)
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			key, seconds := rapid.IntRange(0, 9).Draw(t, "key"), rapid.IntRange(0, 20).Draw(t, "seconds")
			if seconds == 0 {
				a.set(key, time.Time{})
				delete(model, key)
				continue
			}
			model[key] = start.Add(time.Duration(seconds) * time.Second)
			a.set(key, model[key])
		}
		now, last := start.Add(10*time.Second), time.Time{}
		for {
			key, ok := a.take(now)
			if !ok {
				break
			}
			at, known := model[key]
			if !known || at.After(now) || at.Before(last) {
				t.Fatalf("took %d of %v after %v", key, at, last)
			}
			last = at
			delete(model, key)
		}
		for key, at := range model {
			if !at.After(now) {
				t.Fatalf("%d was due at %v and not taken", key, at)
			}
		}
		if due, stop := a.wait(now); (due == nil) != (len(model) == 0) {
			t.Fatalf("waits for nothing, or for ever: %v", model)
		} else {
			stop()
		}
	})
}

func TestAroundIsSpread(t *testing.T) {
	now := time.Unix(0, 0)
	seen := map[time.Duration]bool{}
	for range 100 {
		d := around(now, 10*time.Second).Sub(now)
		if d < 9*time.Second || d > 11*time.Second {
			t.Fatalf("%s is not around 10 s", d)
		}
		seen[d] = true
	}
	if len(seen) < 50 {
		t.Errorf("%d different times of 100", len(seen))
	}
}
