package main

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// line is the straight line from Worlds to Envoys: Worlds in, views derived, resources made, handed to xds. Its one
// goroutine owns the views. What goes wrong with one proxy or set leaves that one as it was, and is shown; see
// docs/decisions/008-line-goes-on.md.
type line struct {
	publisher *snapshot.Publisher
	server    *xds.Server
	passed    chan struct{} // closed once the first World went through
	log       logrus.FieldLogger
	remarks   *remarks

	views     *snapshot.Views // nil: what they knew is not to be trusted
	proxies   map[snapshot.ProxyID]struct{}
	endpoints map[string]struct{} // sets that xds was given

	// The three steps. Tests replace them.
	derive   func(*snapshot.Views, snapshot.Update) snapshot.Delta
	shapes   []shape
	resource func(*snapshot.EndpointSet) *envoy.Resource
}

func newLine(publisher *snapshot.Publisher, server *xds.Server, log logrus.FieldLogger, registerer prometheus.Registerer) *line {
	return &line{
		publisher: publisher, server: server, passed: make(chan struct{}), log: log, remarks: newRemarks(registerer),
		proxies: map[snapshot.ProxyID]struct{}{}, endpoints: map[string]struct{}{},
		derive: (*snapshot.Views).Update, shapes: shapes, resource: gateway.EndpointResource,
	}
}

// Run passes every World on until ctx ends, and returns ctx's error.
func (l *line) Run(ctx context.Context) error {
	worlds := l.publisher.Subscribe()
	defer worlds.Close()
	for first := true; ; first = false {
		update, err := worlds.Next(ctx)
		if err != nil {
			return err
		}
		if delta, ok := l.follow(update); ok {
			l.pass(delta)
		}
		if first {
			close(l.passed) // also if it was not derived: what xds was not given it neither sends nor takes away
		}
	}
}

// follow derives what an update changed. Views that panicked are not asked again: the World is derived anew, now, and if
// that panics too, with each later update, until one passes.
func (l *line) follow(update snapshot.Update) (delta snapshot.Delta, ok bool) {
	const world = "the configuration of all proxies"
	if l.views != nil && l.try(world, "derive", func() error { delta = l.derive(l.views, update); return nil }) {
		return delta, true
	}
	fresh := snapshot.NewViews()
	l.views = nil
	if !l.try(world, "derive", func() error {
		delta = l.derive(fresh, snapshot.Update{World: update.World, All: true})
		return nil
	}) {
		return delta, false
	}
	l.views = fresh
	for id := range l.proxies {
		if _, there := delta.Views[id]; !there {
			delta.Views[id] = nil
		}
	}
	for name := range l.endpoints {
		if _, there := delta.Endpoints[name]; !there {
			delta.Endpoints[name] = &snapshot.EndpointSet{Name: name}
		}
	}
	return delta, true
}

// pass hands a delta to xds: endpoints before the clusters that may use them.
func (l *line) pass(delta snapshot.Delta) {
	for name, set := range delta.Endpoints {
		l.remarks.set(set)
		l.try("endpoints "+name, "endpoints", func() error {
			l.server.SetEndpoints(l.resource(set))
			l.endpoints[name] = struct{}{}
			return nil
		})
	}
	for id, view := range delta.Views {
		l.remarks.view(id, view)
		if view == nil {
			delete(l.proxies, id)
			l.remarks.solved("proxy " + string(id))
			l.server.RemoveProxy(string(id))
			continue
		}
		l.proxies[id] = struct{}{}
		l.try("proxy "+string(id), "view", func() error {
			sets, err := translate(view, l.shapes)
			if err == nil {
				l.server.SetProxy(sets...)
			}
			return err
		})
	}
}

// try runs one step for something, and tells whether it went well. The steps are total: an error or a panic is our bug,
// and what it was for stays as it was.
func (l *line) try(what, step string, do func() error) (ok bool) {
	defer func() {
		if cause := recover(); cause != nil {
			l.failed(what, step, fmt.Errorf("panic: %v", cause), debug.Stack())
			ok = false
		}
	}()
	if err := do(); err != nil {
		l.failed(what, step, err, nil)
		return false
	}
	l.remarks.solved(what)
	return true
}

func (l *line) failed(what, step string, err error, stack []byte) {
	log := l.log.WithError(err).WithField(logkey.Name, what)
	if stack != nil {
		log = log.WithField("stack", string(stack))
	}
	log.Error(step + " failed")
	l.remarks.failed(what, step, err)
}

// Skipped returns what the views leave out, by proxy.
func (l *line) Skipped() map[snapshot.ProxyID][]snapshot.Skipped { return l.remarks.skippedOf() }

// Problems returns what did not go through, and what endpoint sets of our own leave out, sorted.
func (l *line) Problems() []string { return l.remarks.problems() }
