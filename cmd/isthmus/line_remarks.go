package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// remarks are what the line leaves out and why, for those who ask: status, check and metrics.
type remarks struct {
	failures *prometheus.CounterVec // by step
	refused  *prometheus.GaugeVec   // gateway addresses, by peer

	mu      sync.Mutex
	skipped map[snapshot.ProxyID][]snapshot.Skipped // what each proxy's newest view leaves out
	sets    map[string][]snapshot.Skipped           // what each endpoint set leaves out
	errors  map[string]string                       // of what could not be derived or translated
}

// newRemarks registers the metrics; nil: they are shown to nobody.
func newRemarks(registerer prometheus.Registerer) *remarks {
	r := &remarks{
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_line_failures_total", Help: "Steps from the state to Envoy that failed: a bug, and what they were for stays as it was.",
		}, []string{"step"}),
		refused: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "isthmus_line_refused_gateways", Help: "Gateway addresses of a peer that are not dialled: refused by policy, unresolved or in maintenance.",
		}, []string{"peer"}),
		skipped: map[snapshot.ProxyID][]snapshot.Skipped{}, sets: map[string][]snapshot.Skipped{}, errors: map[string]string{},
	}
	if registerer != nil {
		registerer.MustRegister(r.failures, r.refused)
	}
	return r
}

// view notes what a view leaves out; nil: its proxy is gone.
func (r *remarks) view(id snapshot.ProxyID, view snapshot.View) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch view := view.(type) {
	case *snapshot.MeshGateway:
		r.skipped[id] = view.Skipped
	case *snapshot.Sidecar:
		r.skipped[id] = view.Skipped
	default:
		delete(r.skipped, id)
	}
}

// set notes what an endpoint set leaves out.
func (r *remarks) set(set *snapshot.EndpointSet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, skipped := range r.sets[set.Name] {
		if skipped.Peer != "" {
			r.refused.DeleteLabelValues(skipped.Peer)
		}
	}
	delete(r.sets, set.Name)
	if len(set.Skipped) == 0 {
		return
	}
	r.sets[set.Name] = set.Skipped
	for _, skipped := range set.Skipped {
		if skipped.Peer != "" {
			r.refused.WithLabelValues(skipped.Peer).Inc()
		}
	}
}

func (r *remarks) failed(what, step string, err error) {
	r.failures.WithLabelValues(step).Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors[what] = fmt.Sprintf("%s: stays as it was: %v: a bug of Isthmus, please report it with its log", what, err)
}

func (r *remarks) solved(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.errors, what)
}

func (r *remarks) skippedOf() map[snapshot.ProxyID][]snapshot.Skipped {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.skipped)
}

// problems leaves out peers' gateways: status shows those with what is imported.
func (r *remarks) problems() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := slices.Collect(maps.Values(r.errors))
	for _, set := range r.sets {
		for _, skipped := range set {
			if skipped.Peer == "" && !skipped.Expected {
				list = append(list, fmt.Sprintf("%s %s: nobody is sent to %s", skipped.Kind, skipped.Name, skipped.Reason))
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
