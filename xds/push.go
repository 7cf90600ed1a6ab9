package xds

import (
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/logkey"
)

// gates hold back one phase of a push until another is acknowledged, but never longer than patience: a proxy that does not
// answer must not keep what it was not told yet from being told.
type gates struct {
	listeners gate                // waits for everything that listeners refer to
	removals  gate                // waits for the listeners that referred to it
	awaited   map[string]struct{} // endpoints of clusters that were sent, not acknowledged yet
	emptied   map[string]struct{} // endpoints to be emptied before the clusters that used them go
	urgent    bool                // a revocation: listeners wait for nothing
}

// A gate remembers since when it is shut.
type gate struct{ since time.Time }

// passes tells whether the phase may go on.
func (g *gate) passes(blocked bool, c *clock) bool {
	if !blocked {
		g.since = time.Time{}
		return true
	}
	if g.since.IsZero() {
		g.since = c.now
	}
	end := g.since.Add(patience)
	if !c.now.Before(end) {
		return true
	}
	c.at(end)
	return false
}

// push sends what may be sent now. What is new goes first what others refer to; what is gone goes in the reverse order.
func (st *stream) push() {
	st.pushSecrets(&st.subs[secrets])
	for _, k := range []kind{clusters, endpoints, extensions} {
		st.pushKind(&st.subs[k])
	}
	st.pushListeners()
	st.pushRemovals()
}

// pushKind sends all that changed of a kind in one response.
func (st *stream) pushKind(sub *subscription) {
	if !sub.open || sub.out != nil {
		return
	}
	items, absent := st.collect(sub)
	if len(items) > 0 || len(absent) > 0 || sub.owed && len(sub.gone) == 0 {
		st.send(sub, &response{items: items, removed: absent})
		return
	}
	if group := st.nextTrial(sub); group != nil {
		items := make([]item, 0, len(group))
		for _, p := range group {
			if it, state := st.lookup(sub.kind, p.name); state == present && it.version == p.hash {
				items = append(items, it)
			}
		}
		st.send(sub, &response{items: items, trial: true})
	}
}

// collect compares every dirty name: it returns what to send, and which names do not exist for this proxy.
func (st *stream) collect(sub *subscription) (items []item, absent []string) {
	for _, name := range sorted(sub.dirty) {
		force := sub.dirty[name]
		delete(sub.dirty, name)
		if !sub.interested(name) {
			sub.forget(name)
			continue
		}
		it, state := st.lookup(sub.kind, name)
		version, has := sub.have[name]
		switch {
		case state == missing && has:
			sub.lose(name)
		case state == missing && force:
			st.server.metrics.of[sub.kind].foreign.Inc()
			absent = append(absent, name)
		case state == present:
			delete(sub.gone, name)
			if (force || version != it.version) && !st.blocked(sub, it.part(), nil) {
				items = append(items, it)
			}
		}
	}
	return items, absent
}

// pushRemovals takes away what no listener refers to any more: endpoints are emptied, then clusters go, then what only
// clusters and listeners used.
func (st *stream) pushRemovals() {
	lds, cds, eds := &st.subs[listeners], &st.subs[clusters], &st.subs[endpoints]
	if !st.losing() {
		st.gates.removals = gate{}
		return
	}
	waits := !lds.open || lds.busy() || len(lds.gone) > 0 || len(st.gates.emptied) > 0 && eds.out != nil
	if !st.gates.removals.passes(waits, &st.clock) {
		return
	}
	if len(cds.gone) > 0 && cds.out == nil {
		st.emptyEndpoints(eds)
		st.remove(cds)
	}
	if cds.busy() {
		return
	}
	for _, k := range []kind{endpoints, extensions, secrets} {
		st.remove(&st.subs[k])
	}
}

func (st *stream) losing() bool {
	for _, k := range []kind{clusters, endpoints, extensions, secrets} {
		if len(st.subs[k].gone) > 0 {
			return true
		}
	}
	return false
}

// emptyEndpoints empties what the clusters that are about to go used: Envoy keeps endpoints of a cluster that is gone, and
// would use them for one that comes back.
func (st *stream) emptyEndpoints(eds *subscription) {
	var items []item
	for _, name := range sorted(st.gates.emptied) {
		_, has := eds.have[name]
		if st.refs[name] == 0 && has && eds.interested(name) {
			items = append(items, emptyAssignment(name))
		}
	}
	clear(st.gates.emptied)
	if len(items) > 0 && eds.out == nil { // else patience is over, and the clusters go without
		st.send(eds, &response{items: items})
	}
}

// remove tells the proxy to drop what is gone of a kind.
func (st *stream) remove(sub *subscription) {
	if sub.out != nil || len(sub.gone) == 0 {
		return
	}
	var names []string
	for _, name := range sorted(sub.gone) {
		_, has := sub.have[name]
		if _, state := st.lookup(sub.kind, name); state == missing && has {
			names = append(names, name)
		}
	}
	clear(sub.gone)
	if len(names) > 0 {
		st.send(sub, &response{removed: names})
	}
}

// send hands a response to the writer.
func (st *stream) send(sub *subscription, out *response) {
	m := st.shared(sub, out)
	if m == nil {
		st.nonces++
		out.nonce = strconv.FormatUint(st.nonces, 10)
		m = encode(sub.kind, out.nonce, out.items, out.removed)
	}
	out.sent = st.clock.now
	sub.out, sub.owed = out, false
	sub.counts.sent(out)
	metrics := &st.server.metrics.of[sub.kind]
	metrics.sent.Add(float64(len(out.items)))
	metrics.removed.Add(float64(len(out.removed)))
	if st.verbose() {
		st.log.WithField(logkey.TypeURL, typeURLs[sub.kind]).WithField(logkey.Nonce, out.nonce).
			WithField(logkey.Resources, len(out.items)).Debug("response sent")
	}
	for i := range out.items {
		it := &out.items[i]
		it.body, it.chains = nil, nil // only its name and version are needed for the answer
		if sub.kind == clusters {
			st.awaitEndpoints(it.resource.EndpointSet)
		}
	}
	st.write(m)
}

// shared returns the message that other streams send too, if it is all that out carries.
func (st *stream) shared(sub *subscription, out *response) *message {
	if sub.kind != endpoints || len(out.items) != 1 || len(out.removed) > 0 {
		return nil
	}
	entry := st.watched[out.items[0].name]
	if entry == nil {
		return nil
	}
	latest := entry.latest.Load()
	if latest.item.version != out.items[0].version || latest.nonce == sub.counts.nonce {
		return nil // the same nonce twice would make the first answer count for the second response
	}
	out.nonce = latest.nonce
	return latest.message
}

// awaitEndpoints has the endpoints of a cluster follow it in the same turn: a cluster that is new or changed warms until it
// gets them, and Envoy does not ask again for a name that it has subscribed to.
func (st *stream) awaitEndpoints(name string) {
	if name == "" {
		return
	}
	eds := &st.subs[endpoints]
	if _, asked := eds.names[name]; asked {
		eds.mark(name, true)
	}
	if st.gates.awaited == nil {
		st.gates.awaited = map[string]struct{}{}
	}
	st.gates.awaited[name] = struct{}{}
}

// endpointsAwaited tells whether a cluster that was sent still waits for endpoints that exist.
func (st *stream) endpointsAwaited() bool {
	for name := range st.gates.awaited {
		if _, state := st.lookup(endpoints, name); state == present {
			return true
		}
		delete(st.gates.awaited, name)
	}
	return false
}
