package xds

import (
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// anything is the name of everything.
const anything = "*"

// unknown stands for the version of a resource that the proxy may have, in a version that cannot be told.
const unknown = "?"

// maxNameBytes is the longest name that a proxy may ask for. Ours are shorter.
const maxNameBytes = 1 << 10

// A subscription is one kind of resource on one stream: what the proxy asked for, what it has, and what it is owed.
type subscription struct {
	kind     kind
	open     bool // its first request came, at opened
	opened   time.Time
	wildcard bool
	owed     bool                // the first answer to a wildcard, due even if there is nothing
	names    map[string]struct{} // asked for by name
	have     map[string]string   // version that the proxy has
	dirty    map[string]bool     // to compare before the next response; true: to answer even if nothing changed
	gone     map[string]struct{} // what the proxy has and shall lose, when its turn comes
	out      *response           // waits for its ACK; nothing more of this kind is sent meanwhile
	trials   trials
	counts   counts
}

// A response is what was sent and not acknowledged yet.
type response struct {
	nonce     string
	sent      time.Time
	items     []item // without bodies
	removed   []string
	trial     bool           // carries suspects: what it brings beyond what was acknowledged is tried alone
	listeners []*composition // one, but for the first response
	leaf      *Leaf          // without its key
}

// interested tells whether the proxy asked for name.
func (sub *subscription) interested(name string) bool {
	if sub.wildcard {
		return true
	}
	_, asked := sub.names[name]
	return asked
}

// mark has name compared before the next response. Before the first request there is nobody to compare with.
func (sub *subscription) mark(name string, force bool) {
	if !sub.open {
		return
	}
	if sub.dirty == nil {
		sub.dirty = map[string]bool{}
	}
	sub.dirty[name] = sub.dirty[name] || force
}

// busy tells whether something of the kind is on its way to the proxy, or about to be.
func (sub *subscription) busy() bool { return sub.open && (sub.out != nil || len(sub.dirty) > 0) }

func (sub *subscription) holds(name, version string) {
	if sub.have == nil {
		sub.have = map[string]string{}
	}
	sub.have[name] = version
}

// forget drops what was known of a name that the proxy let go.
func (sub *subscription) forget(name string) {
	delete(sub.have, name)
	delete(sub.gone, name)
}

func (sub *subscription) lose(name string) {
	if sub.gone == nil {
		sub.gone = map[string]struct{}{}
	}
	sub.gone[name] = struct{}{}
}

// receive takes one request: the answer to a response, a change of subscriptions, or both.
func (st *stream) receive(req *request) error {
	k, known := kindOf[req.GetTypeUrl()]
	if !known {
		st.server.metrics.otherNames.Inc()
		return nil
	}
	sub := &st.subs[k]
	asked, reported := len(sub.names)+len(req.GetResourceNamesSubscribe()), len(req.GetInitialResourceVersions())
	if max(asked, reported) > st.server.config.Limits.Names {
		return errTooManyNames
	}
	if out := sub.out; out != nil && req.GetResponseNonce() == out.nonce {
		sub.out = nil
		st.answered(sub, out, req)
	}
	first := !sub.open
	if first {
		st.opened(sub, req)
	}
	for _, name := range req.GetResourceNamesUnsubscribe() {
		st.unsubscribe(sub, name)
	}
	for _, name := range req.GetResourceNamesSubscribe() {
		if len(name) > maxNameBytes {
			return errLongName
		}
		_, reported := req.GetInitialResourceVersions()[name]
		st.subscribe(sub, name, !first || !reported)
	}
	return nil
}

// answered takes the ACK or NACK of a response.
func (st *stream) answered(sub *subscription, out *response, req *request) {
	metrics := &st.server.metrics.of[sub.kind]
	metrics.latency.Observe(st.clock.now.Sub(out.sent).Seconds())
	if detail := req.GetErrorDetail(); detail != nil {
		metrics.nacks.Inc()
		st.log.WithField(logkey.TypeURL, typeURLs[sub.kind]).WithField(logkey.Nonce, out.nonce).
			WithField(logkey.Reason, clip(detail.GetMessage())).Error("response rejected by the proxy")
		st.rejected(sub, out, detail.GetMessage())
		return
	}
	metrics.acks.Inc()
	if st.verbose() {
		st.log.WithField(logkey.TypeURL, typeURLs[sub.kind]).WithField(logkey.Nonce, out.nonce).Debug("response acknowledged")
	}
	st.acknowledged(sub, out)
}

// opened takes the first request of a kind, in which a proxy that was connected before says what it has.
func (st *stream) opened(sub *subscription, req *request) {
	sub.open, sub.opened = true, st.clock.now
	for name, version := range req.GetInitialResourceVersions() {
		sub.holds(name, version)
		sub.mark(name, false)
	}
	for _, name := range st.memory.possible(sub.kind) {
		if _, reported := sub.have[name]; !reported {
			sub.holds(name, unknown)
			sub.mark(name, false)
		}
	}
	if sub.kind.wildcards() && len(req.GetResourceNamesSubscribe()) == 0 {
		st.subscribe(sub, anything, false)
	}
	if sub.kind == clusters && len(req.GetInitialResourceVersions()) == 0 {
		for k, names := range st.memory.restarted() {
			for _, name := range names {
				st.subs[k].mark(name, false)
			}
		}
	}
	if sub.kind == secrets {
		st.inbound.reported = req.GetInitialResourceVersions()
	}
}

func (st *stream) subscribe(sub *subscription, name string, force bool) {
	if name != anything {
		if sub.names == nil {
			sub.names = map[string]struct{}{}
		}
		sub.names[name] = struct{}{}
		sub.mark(name, force)
		if sub.kind == secrets && name == envoy.LeafName {
			st.leaf.look, st.leaf.force = true, st.leaf.force || force
		}
		return
	}
	if !sub.kind.wildcards() {
		st.server.metrics.of[sub.kind].foreign.Inc()
		return
	}
	sub.wildcard = true
	sub.owed = len(sub.have) == 0
	if st.set != nil {
		for name := range wildcardNames(st.set, sub.kind) {
			sub.mark(name, false)
		}
	}
}

func (st *stream) unsubscribe(sub *subscription, name string) {
	if name == anything {
		sub.wildcard = false
		return
	}
	delete(sub.names, name)
	if sub.interested(name) {
		sub.mark(name, true) // still wanted by the wildcard, and the proxy has just dropped it
		return
	}
	sub.forget(name)
	delete(sub.dirty, name)
	switch sub.kind {
	case endpoints:
		st.server.endpoints.unwatch(name, st)
		delete(st.gates.awaited, name)
	case secrets:
		st.letGo(name)
	}
}

// acknowledged notes that the proxy has what a response carried.
func (st *stream) acknowledged(sub *subscription, out *response) {
	for _, it := range out.items {
		if sub.interested(it.name) {
			sub.holds(it.name, it.version)
		}
		st.memory.settle(sub.kind, it.name)
	}
	for _, name := range out.removed {
		st.dropped(sub, name)
		st.memory.settle(sub.kind, name)
	}
	sub.counts.acked, sub.counts.ackedAt = out.nonce, st.clock.now
	if out.trial {
		st.passed(sub)
	}
	switch {
	case sub.kind == listeners:
		st.listenerAcked(out)
	case sub.kind == endpoints:
		for _, it := range out.items {
			delete(st.gates.awaited, it.name)
		}
	case sub.kind == secrets:
		for _, it := range out.items {
			st.secretAcked(it)
		}
		if out.leaf != nil {
			st.leaf.acked(st, out.leaf)
		}
	}
}

// dropped notes that the proxy was told to drop a resource.
func (st *stream) dropped(sub *subscription, name string) {
	_, had := sub.have[name]
	sub.forget(name)
	if sub.kind == secrets && had && sub.interested(name) {
		// Envoy goes on with a secret that is gone, for as long as something asks for it: it admits whom it admitted.
		sub.holds(name, unknown)
		delete(st.inbound.authz, name)
	}
}

func sorted[V any](m map[string]V) []string {
	if len(m) == 0 {
		return nil
	}
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
