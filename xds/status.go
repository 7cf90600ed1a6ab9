package xds

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// A ProxyStatus is what is known of one proxy: those with a view, and those that are connected.
type ProxyStatus struct {
	ID        string
	View      bool      // false: nothing is known of it, so it is answered nothing
	Connected time.Time // since; zero: it is not
	Address   string    // host:port that the stream comes from: the proxy's, or that of what relays it
	LastAck   time.Time // of any type, on this stream; zero: none yet
	Envoy     string    // its version, as "1.40.0"
	// DrainSeconds is what the bootstrap noted; zero: nothing, so that open connections may outlive a revocation.
	DrainSeconds float64
	ConfigSchema string // of the bootstrap; empty: not noted
	ServedSchema int    // the shape of listeners that it is told; 0: it is told nothing
	LeafVersion  string // of the certificate that it holds, in the leaf source's words; empty: none
	Types        []TypeStatus
	Rejected     []Rejection // what it goes without until the next try
	LeftOut      []string    // authorization secrets whose chains are left out, since a revocation was not acknowledged
}

// The states of a type on one proxy.
const (
	Synced  = "SYNCED"   // it has acknowledged what it is to have
	NotSent = "NOT SENT" // it has not asked, or there was nothing to send
	Stale   = "STALE"    // it has not acknowledged what it is to have
)

// A TypeStatus is what one proxy was told of one type, since it connected.
type TypeStatus struct {
	TypeURL   string
	State     string
	Sent      string // nonce of the last response
	Acked     string // nonce of the last response that was acknowledged
	Resources uint64 // sent
	Removed   uint64 // sent as removed
	Rejection *Rejection
}

// A Rejection is a NACK, or what it led to.
type Rejection struct {
	TypeURL, Name string
	Chain         string // of the listener Name; empty: all of it, or no listener
	Hash          string
	Origin        envoy.Origin
	Suspects      []string // names that the NACK may be about; at most ten
	Text          string   // the proxy's
	At            time.Time
	// Of what is in quarantine: how often it was refused alone, and when it is tried again.
	Tries   int
	NextTry time.Time
}

// counts are what a subscription adds up.
type counts struct {
	nonce     string // of the last response
	acked     string
	ackedAt   time.Time
	resources uint64
	removed   uint64
	nack      *Rejection
}

func (c *counts) sent(out *response) {
	c.nonce = out.nonce
	c.resources += uint64(len(out.items))
	c.removed += uint64(len(out.removed))
}

// streamStatus is what a stream shows of itself. Only the stream writes it.
type streamStatus struct {
	since   time.Time
	address string
	mu      sync.Mutex
	types   [kinds]counts
	states  [kinds]string
	leftOut []string
	leaf    string
}

// report shows what changed by a step.
func (st *stream) report() {
	var states [kinds]string
	for k := range st.subs {
		states[k] = st.state(&st.subs[k])
	}
	st.status.mu.Lock()
	defer st.status.mu.Unlock()
	st.status.states = states
	for k := range st.subs {
		st.status.types[k] = st.subs[k].counts
	}
	st.status.leaf = st.subs[secrets].have[envoy.LeafName]
	st.status.leftOut = nil
	for name, r := range st.inbound.revoking {
		if r.failed {
			st.status.leftOut = append(st.status.leftOut, name)
		}
	}
}

func (st *stream) state(sub *subscription) string {
	switch {
	case !sub.open, len(sub.have) == 0 && sub.counts.nonce == "" && !sub.busy():
		return NotSent
	case sub.busy(), len(sub.gone) > 0, len(sub.trials.suspects) > 0, st.memory.any(sub.kind):
		return Stale
	}
	return Synced
}

// Proxies returns the status of every proxy that has a view or is connected, sorted by id.
func (s *Server) Proxies() []ProxyStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]ProxyStatus, 0, len(s.proxies))
	for id, p := range s.proxies {
		status := ProxyStatus{ID: id, View: len(p.sets) > 0, Rejected: p.memory.rejections()}
		if p.stream != nil {
			p.stream.describeTo(&status)
			if status.View {
				status.ServedSchema = p.shaped(p.stream.node.notes.schema()).Schema
			}
		}
		list = append(list, status)
	}
	slices.SortFunc(list, func(a, b ProxyStatus) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

func (st *stream) describeTo(status *ProxyStatus) {
	status.Connected, status.Address = st.status.since, st.status.address
	status.Envoy = st.node.version.String()
	status.DrainSeconds, status.ConfigSchema = st.node.notes.drainSeconds, st.node.notes.configSchema
	st.status.mu.Lock()
	defer st.status.mu.Unlock()
	status.LeafVersion = st.status.leaf
	for k, c := range st.status.types {
		if c.ackedAt.After(status.LastAck) {
			status.LastAck = c.ackedAt
		}
		status.Types = append(status.Types, TypeStatus{
			TypeURL:   typeURLs[k],
			State:     cmp.Or(st.status.states[k], NotSent),
			Sent:      c.nonce,
			Acked:     c.acked,
			Resources: c.resources,
			Removed:   c.removed,
			Rejection: c.nack,
		})
	}
	status.LeftOut = slices.Sorted(slices.Values(st.status.leftOut))
}
