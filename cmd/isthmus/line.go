package main

import (
	"context"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds"
)

// line is the straight line from Worlds to Envoys: Worlds in, views derived, resources made, handed to xds. Its one
// goroutine owns the views.
type line struct {
	publisher *snapshot.Publisher
	server    *xds.Server
	passed    chan struct{} // closed once the first World went through
	log       logrus.FieldLogger

	mu      sync.Mutex
	skipped map[snapshot.ProxyID][]snapshot.Skipped // what each proxy's newest view leaves out
}

func newLine(publisher *snapshot.Publisher, server *xds.Server, log logrus.FieldLogger) *line {
	return &line{publisher: publisher, server: server, passed: make(chan struct{}), log: log, skipped: map[snapshot.ProxyID][]snapshot.Skipped{}}
}

// Run passes every World on until ctx ends, and returns ctx's error.
func (l *line) Run(ctx context.Context) error {
	worlds := l.publisher.Subscribe()
	defer worlds.Close()
	views := snapshot.NewViews()
	for first := true; ; first = false {
		update, err := worlds.Next(ctx)
		if err != nil {
			return err
		}
		l.pass(views.Update(update))
		if first {
			close(l.passed)
		}
	}
}

// pass hands a delta to xds: endpoints before the clusters that may use them.
func (l *line) pass(delta snapshot.Delta) {
	for _, set := range delta.Endpoints {
		l.server.SetEndpoints(gateway.EndpointResource(set))
	}
	for id, view := range delta.Views {
		l.note(id, view)
		if view == nil {
			l.server.RemoveProxy(string(id))
			continue
		}
		set, err := resources(view)
		if err != nil {
			// A translator is total: this is our bug, and the proxy keeps its last good set.
			l.log.WithError(err).WithField(logkey.Proxy, id).Error("view not translated")
			continue
		}
		l.server.SetProxy(set)
	}
}

// note keeps what a view leaves out, for status.
func (l *line) note(id snapshot.ProxyID, view snapshot.View) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch view := view.(type) {
	case *snapshot.MeshGateway:
		l.skipped[id] = view.Skipped
	case *snapshot.Sidecar:
		l.skipped[id] = view.Skipped
	default:
		delete(l.skipped, id)
	}
}

// Skipped returns what the views leave out, by proxy.
func (l *line) Skipped() map[snapshot.ProxyID][]snapshot.Skipped {
	l.mu.Lock()
	defer l.mu.Unlock()
	copied := make(map[snapshot.ProxyID][]snapshot.Skipped, len(l.skipped))
	for id, skipped := range l.skipped {
		copied[id] = skipped
	}
	return copied
}
