package health

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// retry is how long a write that the store refused waits.
const retry = 5 * time.Second

// errMoved refuses a result that was found for a check which has changed since, or is gone.
var errMoved = errors.New("check has changed")

// A runner runs the checks of its own node. One goroutine owns all its state; probes and writes run beside it and report
// over a channel. Writes that come together share one flush of the disk.
type runner struct {
	*Health
	world   *snapshot.World
	node    string
	checks  map[snapshot.Key]*watched
	aliases map[string]map[snapshot.Key]bool // service ID → the checks that stand for its checks
	agenda  agenda[snapshot.Key]
	running int
	reports chan report
	jobs    sync.WaitGroup
}

// A report is what a probe found or how a write ended.
type report struct {
	watched *watched
	probed  bool
	result  result
	err     error // of the write
}

func newRunner(h *Health) *runner {
	return &runner{
		Health:  h,
		checks:  map[snapshot.Key]*watched{},
		aliases: map[string]map[snapshot.Key]bool{},
		reports: make(chan report),
	}
}

// run ends with ctx, after its probes. It waits for one of: the next World, an owner's report, a probe or write that
// ended, the next check that is due.
func (r *runner) run(ctx context.Context) {
	defer r.jobs.Wait()
	sub := r.cfg.Publisher.Subscribe()
	defer sub.Close()
	for {
		due, stop := r.start(ctx)
		select {
		case <-ctx.Done():
			stop()
			return
		case <-sub.Ready():
			r.follow(sub.Take())
		case <-r.beat:
			r.heard()
		case report := <-r.reports:
			r.running--
			r.handle(ctx, report)
		case <-due:
		}
		stop()
	}
}

// start begins what is due, as far as the bound allows, and returns when to look again.
func (r *runner) start(ctx context.Context) (<-chan time.Time, func() bool) {
	for r.running < r.cfg.Concurrency {
		now := time.Now()
		key, ok := r.agenda.take(now)
		if !ok {
			return r.agenda.wait(now)
		}
		r.act(ctx, r.checks[key], now)
	}
	return nil, func() bool { return false } // a report comes first
}

// act does what is due for one check.
func (r *runner) act(ctx context.Context, w *watched, now time.Time) {
	d := &w.check.Definition
	end := w.deregisterAt()
	switch {
	case !end.IsZero() && !end.After(now):
		w.criticalSince = now // for a write that fails
		r.deregister(ctx, w)
	case d.HTTP != "", d.TCP != "":
		w.due = around(now, interval(d))
		check := w.check
		r.beside(ctx, w, func(ctx context.Context) report { return report{result: r.probe(ctx, check), probed: true} })
	case d.AliasService != "":
		w.due = time.Time{}
		r.write(ctx, w, aliasOf(r.world, w.check))
	default:
		w.due = time.Time{}
		r.write(ctx, w, w.expired())
	}
	r.plan(w)
}

// beside runs job and has its report come in.
func (r *runner) beside(ctx context.Context, w *watched, job func(context.Context) report) {
	r.running++
	w.busy = true
	r.jobs.Go(func() {
		done := job(ctx)
		done.watched = w
		select {
		case r.reports <- done:
		case <-ctx.Done():
		}
	})
}

// plan puts the next thing to do for a check on the agenda. While one is under way, its report will.
func (r *runner) plan(w *watched) {
	if w.busy {
		r.agenda.set(w.key, time.Time{})
		return
	}
	r.agenda.set(w.key, w.next())
}

func (r *runner) handle(ctx context.Context, done report) {
	w := done.watched
	if r.checks[w.key] != w {
		return // gone, or another job now
	}
	w.busy = false
	now := time.Now()
	switch {
	case done.probed && w.count(done.result):
		r.write(ctx, w, done.result)
	case done.probed, done.err == nil:
	case errors.Is(done.err, errMoved):
		r.again(w, now.Add(retry/100)) // by then the World that has moved is here
	default:
		r.cfg.Log.WithError(done.err).WithField(logkey.Name, w.key.String()).Warn("check was not written")
		r.again(w, now.Add(retry))
	}
	r.plan(w)
}

// again has a check that waits for something to happen looked at once more.
func (r *runner) again(w *watched, at time.Time) {
	if w.due.IsZero() {
		w.due = at
	}
}

// write has a result stored, if it says anything new.
func (r *runner) write(ctx context.Context, w *watched, found result) {
	if !w.differs(found) {
		return
	}
	base := w.check
	changed := *base
	changed.Status, changed.Output = found.status, found.output
	event := snapshot.Event{Key: w.key, Object: &changed, Check: unmoved(base)}
	r.beside(ctx, w, func(ctx context.Context) report {
		_, err := r.cfg.Store.Commit(ctx, event)
		return report{err: err}
	})
}

// unmoved refuses a write unless the check is still as base has it.
func unmoved(base *snapshot.Check) func(*snapshot.World) error {
	return func(w *snapshot.World) error {
		if current := find(w, base.Node, base.ServiceID, base.CheckID); current == nil || current.ModifyIndex != base.ModifyIndex {
			return errMoved
		}
		return nil
	}
}

func find(w *snapshot.World, node, serviceID, checkID string) *snapshot.Check {
	checks := w.Checks(node, serviceID)
	if i := slices.IndexFunc(checks, func(c *snapshot.Check) bool { return c.CheckID == checkID }); i >= 0 {
		return checks[i]
	}
	return nil
}
