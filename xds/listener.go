package xds

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// A composition is a listener as one proxy gets it: with the chains that it may have, each in its revocation epoch.
type composition struct {
	listener *envoy.Listener // whose shell it has
	chains   []composedChain
	version  string
}

type composedChain struct {
	chain *envoy.Chain
	epoch uint64
}

// A chainKey names a chain among those of all listeners.
type chainKey struct{ listener, chain string }

func (c *composition) find(name string) (composedChain, bool) {
	if c == nil {
		return composedChain{}, false
	}
	i, found := slices.BinarySearchFunc(c.chains, name, func(cc composedChain, name string) int {
		return strings.Compare(cc.chain.Name, name)
	})
	if !found {
		return composedChain{}, false
	}
	return c.chains[i], true
}

// seal sets the version: a hash of all but the epochs, then the epoch of each chain that has one, so that the proxy itself
// can tell the epochs to a server that has never seen it: "9f86d081884c7d65.peer~east=3,peer~local=0".
func (c *composition) seal() {
	const average = 64 // bytes of a name and a hash
	hashed, epochs := make([]byte, 0, average*(len(c.chains)+1)), []byte(nil)
	hashed = append(hashed, c.listener.ShellHash...)
	for _, cc := range c.chains {
		hashed = append(append(hashed, '\n'), cc.chain.Name...)
		hashed = append(append(hashed, '\n'), cc.chain.Hash...)
		if cc.chain.AuthzName == "" {
			continue
		}
		separator := byte(',')
		if len(epochs) == 0 {
			separator = '.'
		}
		epochs = append(append(epochs, separator), cc.chain.Name...)
		epochs = strconv.AppendUint(append(epochs, '='), cc.epoch, 10)
	}
	c.version = envoy.Hash(hashed) + string(epochs)
}

// parseEpochs reads the epochs back out of a version. Those of another form have none.
func parseEpochs(version string) map[string]uint64 {
	_, list, found := strings.Cut(version, ".")
	if !found {
		return nil
	}
	epochs := map[string]uint64{}
	for field := range strings.SplitSeq(list, ",") {
		i := strings.LastIndexByte(field, '=')
		if i < 0 {
			return nil
		}
		epoch, err := strconv.ParseUint(field[i+1:], 10, 64)
		if err != nil {
			return nil
		}
		epochs[field[:i]] = epoch
	}
	return epochs
}

// item returns the listener as it goes out: the chains as they are, so that thousands of them are not copied for one more.
func (c *composition) item() item {
	chains := make([][]byte, len(c.chains))
	for i, cc := range c.chains {
		chains[i] = cc.chain.Body
		if cc.chain.AuthzName != "" {
			chains[i] = envoy.WithEpoch(cc.chain.Body, cc.epoch)
		}
	}
	return item{name: c.listener.Name, version: c.version, body: c.listener.Shell, chains: chains}
}

// compose returns the listener as the proxy may have it now; nil: not at all. A part that is under suspicion or in
// quarantine is served as it was last acknowledged, or left out. In a trial, so is everything but what is tried.
func (st *stream) compose(l *envoy.Listener, trial map[part]bool) *composition {
	acked := st.inbound.acked[l.Name]
	c := &composition{listener: l, chains: make([]composedChain, 0, len(l.Chains))}
	if st.blocked(&st.subs[listeners], shellPart(l), trial) {
		if acked == nil {
			return nil
		}
		c.listener = acked.listener
	}
	for _, chain := range l.Chains {
		if chain.AuthzName != "" && st.shut(l.Name, chain, acked) {
			continue
		}
		cc := composedChain{chain, st.inbound.epochs[chainKey{l.Name, chain.Name}]}
		p := chainPart(l.Name, chain)
		if st.blocked(&st.subs[listeners], p, trial) || trial != nil && !trial[p] {
			old, served := acked.find(chain.Name)
			if !served || old.epoch != cc.epoch {
				continue // an older epoch is what a revocation has to end
			}
			cc = old
		}
		c.chains = append(c.chains, cc)
	}
	c.seal()
	return c
}

func shellPart(l *envoy.Listener) part { return part{name: l.Name, hash: l.ShellHash} }

func chainPart(listener string, chain *envoy.Chain) part {
	return part{name: listener, chain: chain.Name, hash: chain.Hash}
}

// pushListeners sends what changed one by one: Envoy applies the good listeners of a response that it rejects, and does not
// report them when it connects again. Only a proxy that has none yet gets all of them at once.
func (st *stream) pushListeners() {
	sub := &st.subs[listeners]
	if !sub.open || sub.out != nil || !st.adoptEpochs() {
		return
	}
	absent := st.sortOutListeners(sub)
	if st.remove(sub); sub.out != nil {
		return // removals go first: an address may move to another listener
	}
	if len(absent) > 0 {
		st.send(sub, &response{removed: absent})
		return
	}
	if len(sub.dirty) > 0 {
		if !st.listenersMayGo() {
			return
		}
		most := 1
		if len(sub.have) == 0 {
			most = len(sub.dirty)
		}
		if st.sendDirtyListeners(sub, most) {
			return
		}
	}
	st.gates.listeners, st.gates.urgent = gate{}, false
	if sub.owed {
		st.send(sub, &response{})
		return
	}
	st.tryListener(sub)
}

// listenersMayGo tells whether what listeners refer to is there, or was waited for long enough. The first ones need only
// clusters that are ready: the proxy cannot have asked for a secret of theirs yet.
func (st *stream) listenersMayGo() bool {
	waits := st.endpointsAwaited() || st.subs[clusters].busy() || st.subs[endpoints].busy()
	if len(st.subs[listeners].have) > 0 {
		waits = waits || st.subs[secrets].busy() || st.subs[extensions].busy()
	}
	if !st.gates.urgent && !st.gates.listeners.passes(waits, &st.clock) {
		return false
	}
	if waits {
		clear(st.gates.awaited)
	}
	return true
}

// sortOutListeners takes the names that are no listeners of this proxy out of the dirty ones. It returns those that the
// proxy asked for and never had.
func (st *stream) sortOutListeners(sub *subscription) (absent []string) {
	for _, name := range sorted(sub.dirty) {
		if st.listener(name) != nil {
			delete(sub.gone, name)
			continue
		}
		_, has := sub.have[name]
		switch {
		case !sub.interested(name):
			sub.forget(name)
		case has:
			sub.lose(name)
		case sub.dirty[name]:
			st.server.metrics.of[listeners].foreign.Inc()
			absent = append(absent, name)
		}
		delete(sub.dirty, name)
	}
	return absent
}

// sendDirtyListeners sends the first listeners that differ from what the proxy has, at most so many. It tells whether there
// was one.
func (st *stream) sendDirtyListeners(sub *subscription, most int) bool {
	var changed []*composition
	for _, name := range sorted(sub.dirty) {
		if len(changed) == most {
			break
		}
		force := sub.dirty[name]
		delete(sub.dirty, name)
		if !sub.interested(name) {
			sub.forget(name)
			continue
		}
		c := st.compose(st.listener(name), nil)
		if c == nil || c.version == st.inbound.refused[name] {
			continue // whatever led to it, what was rejected is not sent again
		}
		if sub.have[name] == c.version && !force {
			st.inbound.acked[name] = c
			st.settleDebts()
			continue
		}
		changed = append(changed, c)
	}
	st.sendListeners(changed, false)
	return len(changed) > 0
}

func (st *stream) sendListeners(list []*composition, trial bool) {
	if len(list) == 0 {
		return
	}
	out := &response{listeners: list, trial: trial}
	for _, c := range list {
		out.items = append(out.items, c.item())
	}
	st.send(&st.subs[listeners], out)
}

// tryListener sends a listener with the next group of suspects, beyond what was acknowledged.
func (st *stream) tryListener(sub *subscription) {
	for {
		group := st.nextTrial(sub)
		if group == nil {
			return
		}
		name := group[0].name
		trial := make(map[part]bool, len(group))
		for _, p := range group {
			trial[p] = true
		}
		c := st.compose(st.listener(name), trial)
		if c != nil && c.version != sub.have[name] {
			st.sendListeners([]*composition{c}, true)
			return
		}
		if c == nil {
			st.memory.postpone(sub.kind, st.clock.now, sub.trials.over()...) // it is not served, for what else it holds
			continue
		}
		st.passed(sub) // nothing of it would differ
	}
}

// listenerAcked notes what the proxy has now.
func (st *stream) listenerAcked(out *response) {
	for _, name := range out.removed {
		delete(st.inbound.acked, name)
	}
	for _, c := range out.listeners {
		name := c.listener.Name
		delete(st.inbound.refused, name)
		st.inbound.acked[name] = c
		maps.DeleteFunc(st.inbound.chains, func(key chainKey, _ struct{}) bool { return key.listener == name })
		if out.trial {
			st.subs[listeners].mark(name, false) // what was left out for the trial
		}
	}
	st.settleDebts()
}
