package health

import (
	"reflect"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// ttlExpired starts the output of a TTL check whose owner fell silent. What follows is the owner's last word.
const ttlExpired = "TTL expired"

// A watched is one check that this process runs.
type watched struct {
	key   snapshot.Key
	check *snapshot.Check // as the World has it
	busy  bool            // a probe or a write is under way
	// due is when to probe, to look at an alias again, or to give up on a TTL. Zero: not before something happens.
	due           time.Time
	good, bad     int       // how many results in a row were so
	criticalSince time.Time // zero: it is not critical
}

// newWatched returns nil for a check that nobody runs: one that an operator set.
func newWatched(key snapshot.Key, check *snapshot.Check, now time.Time) *watched {
	d := &check.Definition
	w := &watched{key: key}
	switch {
	case d.HTTP != "", d.TCP != "":
		// Soon, and not all at once.
		w.due = around(now, min(interval(d), time.Second)/2)
	case d.TTL > 0:
		w.due = now.Add(d.TTL)
	case d.AliasService != "":
		w.due = now
	default:
		return nil
	}
	w.see(check, now)
	return w
}

// see takes up the check as the World has it now.
func (w *watched) see(check *snapshot.Check, now time.Time) {
	w.check = check
	switch {
	case check.Status != config.HealthCritical:
		w.criticalSince = time.Time{}
	case w.criticalSince.IsZero():
		w.criticalSince = now
	}
}

// reported takes up a report of a TTL check's owner.
func (w *watched) reported(now time.Time) {
	if w.check.Definition.TTL > 0 {
		w.due = now.Add(w.check.Definition.TTL)
	}
}

// sameJob tells whether check is run as w is.
func (w *watched) sameJob(check *snapshot.Check) bool {
	return reflect.DeepEqual(w.check.Definition, check.Definition)
}

// deregisterAt is when its service goes for having been critical too long, or zero.
func (w *watched) deregisterAt() time.Time {
	after := w.check.Definition.DeregisterCriticalServiceAfter
	if after == 0 || w.criticalSince.IsZero() || w.check.ServiceID == "" {
		return time.Time{}
	}
	return w.criticalSince.Add(after)
}

// next is when something is to be done, or zero.
func (w *watched) next() time.Time {
	end := w.deregisterAt()
	if w.due.IsZero() || !end.IsZero() && end.Before(w.due) {
		return end
	}
	return w.due
}

// count takes up a probe's result. It returns false while the definition wants to see more of the same first.
func (w *watched) count(r result) bool {
	d := &w.check.Definition
	if r.status == config.HealthCritical {
		w.good, w.bad = 0, w.bad+1
		return w.bad >= d.FailuresBeforeCritical
	}
	w.good, w.bad = w.good+1, 0
	return w.good >= d.SuccessBeforePassing
}

// differs tells whether r is worth a write.
func (w *watched) differs(r result) bool {
	return r.status != w.check.Status || class(r.output) != class(w.check.Output)
}

func (w *watched) expired() result {
	return result{config.HealthCritical, ttlExpired + " (last output before timeout follows):\n" + w.check.Output}
}

func interval(d *config.CheckDefinition) time.Duration {
	if d.Interval == 0 {
		return defaultInterval
	}
	return d.Interval
}
