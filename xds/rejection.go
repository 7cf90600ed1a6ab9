package xds

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// trialPause is how long suspects wait after a NACK before the next of them are tried: a proxy is given at most so many
// updates that may be bad.
const trialPause = time.Second

// What was refused alone is tried again after firstRetry, then after twice that, and so on up to lastRetry: its cause may
// have passed, such as a port that something else used.
const (
	firstRetry = time.Minute
	lastRetry  = time.Hour
)

// retryPause is the pause after so many tries. It varies by an eighth, so that many proxies do not try at once.
func retryPause(tries int) time.Duration {
	pause := min(firstRetry<<min(tries-1, 10), lastRetry)
	return pause + rand.N(pause/8)
}

// A verdict is a part in quarantine.
type verdict struct {
	Rejection
	trying bool // it is sent once more, and not answered yet
}

// A part is what can be left out of an update: a resource by its version, the shell of a listener, or one of its chains.
type part struct{ name, chain, hash string }

func (p part) String() string { return strings.TrimSuffix(p.name+" "+p.chain, " ") }

// trials are the suspects of one kind: parts of a response that was rejected. What was good before is served meanwhile, and
// the suspects are tried in groups that are halved, until the one that fails alone is known.
type trials struct {
	suspects map[part]struct{}
	groups   [][]part
	current  []part
	due      time.Time
}

func (t *trials) suspect(groups ...[]part) {
	if t.suspects == nil {
		t.suspects = map[part]struct{}{}
	}
	for _, group := range groups {
		if len(group) == 0 {
			continue
		}
		t.groups = append(t.groups, group)
		for _, p := range group {
			t.suspects[p] = struct{}{}
		}
	}
}

// over ends the suspicion of those that were tried, and returns them.
func (t *trials) over() []part {
	tried := t.current
	for _, p := range tried {
		delete(t.suspects, p)
	}
	t.current = nil
	return tried
}

// passed frees those that were tried.
func (st *stream) passed(sub *subscription) {
	st.memory.pardon(sub.kind, sub.trials.over()...)
	if len(sub.trials.suspects) == 0 && !st.memory.any(sub.kind) {
		sub.counts.nack = nil
	}
}

// retry suspects again what is due to be tried again.
func (st *stream) retry() {
	for k := range st.subs {
		sub := &st.subs[k]
		if !sub.open {
			continue
		}
		parts, next := st.memory.due(sub.kind, st.clock.now)
		for _, p := range parts {
			sub.trials.suspect([]part{p})
			st.log.WithField(logkey.TypeURL, typeURLs[k]).WithField(logkey.Name, p.String()).Info("quarantined resource tried again")
		}
		if !next.IsZero() {
			st.clock.at(next)
		}
	}
}

// nextTrial returns the group to be tried now, without those that nobody wants any more.
func (st *stream) nextTrial(sub *subscription) []part {
	t := &sub.trials
	for len(t.groups) > 0 {
		if st.clock.now.Before(t.due) {
			st.clock.at(t.due)
			return nil
		}
		group := t.groups[0]
		t.groups = t.groups[1:]
		t.current = slices.DeleteFunc(group, func(p part) bool {
			_, wanted := st.origin(sub.kind, p)
			if !wanted || !sub.interested(p.name) {
				delete(t.suspects, p)
				st.memory.pardon(sub.kind, p)
				return true
			}
			return false
		})
		if len(t.current) > 0 {
			return t.current
		}
	}
	return nil
}

// blocked tells whether a part must not be sent: it is in quarantine, or under suspicion and not on trial.
func (st *stream) blocked(sub *subscription, p part, trial map[part]bool) bool {
	if _, suspect := sub.trials.suspects[p]; suspect && !trial[p] {
		return true
	}
	return st.memory.quarantined(sub.kind, p)
}

// rejected takes a NACK. Its text is for people only: what was wrong is found by trying.
func (st *stream) rejected(sub *subscription, out *response, text string) {
	parts := st.suspects(sub, out)
	if out.leaf != nil {
		st.leaf.rejected(st, out)
	}
	rejection := Rejection{TypeURL: typeURLs[sub.kind], Text: clip(text), At: st.clock.now}
	sub.counts.nack = st.describe(sub.kind, parts, rejection)
	if len(parts) == 0 {
		for _, it := range out.items[:min(len(out.items), 10)] {
			sub.counts.nack.Suspects = append(sub.counts.nack.Suspects, it.name)
		}
	}
	t := &sub.trials
	t.due = st.clock.now.Add(trialPause)
	switch {
	case out.trial && len(parts) == 1:
		t.over()
		one := rejection
		one.Name, one.Chain, one.Hash = parts[0].name, parts[0].chain, parts[0].hash
		one.Origin, _ = st.origin(sub.kind, parts[0])
		st.memory.quarantine(sub.kind, one)
		st.server.metrics.of[sub.kind].quarantined.Inc()
		st.log.WithField(logkey.TypeURL, one.TypeURL).WithField(logkey.Name, parts[0].String()).
			WithField(logkey.Reason, one.Text).Error("resource quarantined")
	case out.trial:
		t.current = nil
		t.suspect(parts[:len(parts)/2], parts[len(parts)/2:])
	case sub.kind == listeners && len(parts) > 1 && parts[0].chain == "":
		t.suspect(parts[:1], parts[1:]) // a listener that is new: first of all its shell
	default:
		t.suspect(parts)
	}
	st.doubt(sub, out)
}

// suspects returns the parts of a response that can have been the cause of its NACK: those on trial, else those that differ
// from what was acknowledged last.
func (st *stream) suspects(sub *subscription, out *response) []part {
	if out.trial {
		return sub.trials.current
	}
	if len(out.listeners) > 1 {
		return nil // each goes again alone, which shows the bad ones
	}
	if len(out.listeners) == 1 {
		return st.differing(sub, out.listeners[0])
	}
	var parts []part
	for _, it := range out.items {
		if sub.have[it.name] != it.version && (out.leaf == nil || it.name != envoy.LeafName) {
			parts = append(parts, it.part())
		}
	}
	return parts
}

func (st *stream) differing(sub *subscription, c *composition) []part {
	var parts []part
	acked := st.inbound.acked[c.listener.Name]
	version, has := sub.have[c.listener.Name]
	fresh := acked == nil && (!has || version == unknown)
	if fresh || acked != nil && acked.listener.ShellHash != c.listener.ShellHash {
		parts = append(parts, shellPart(c.listener))
	}
	for _, cc := range c.chains {
		if old, served := acked.find(cc.chain.Name); !served || old.chain.Hash != cc.chain.Hash || old.epoch != cc.epoch {
			parts = append(parts, chainPart(c.listener.Name, cc.chain))
		}
	}
	if len(parts) == 0 {
		parts = append(parts, shellPart(c.listener)) // it only lost chains: there is nothing else to suspect
	}
	return parts
}

// doubt notes that nobody can tell which of a rejected response the proxy has applied. It may have any of them.
func (st *stream) doubt(sub *subscription, out *response) {
	for _, name := range out.removed {
		st.dropped(sub, name)
	}
	for _, it := range out.items {
		_, has := sub.have[it.name]
		if has && sub.kind == listeners || out.leaf != nil && it.name == envoy.LeafName {
			continue // it came alone: the proxy has what it had
		}
		sub.holds(it.name, unknown)
		if sub.kind.wildcards() {
			st.memory.maybe(sub.kind, it.name)
		}
		if sub.kind == secrets {
			st.secretRejected(it)
		}
	}
	for _, c := range out.listeners {
		if len(out.listeners) == 1 {
			st.inbound.refused[c.listener.Name] = c.version
		}
		sub.mark(c.listener.Name, false) // once more: alone, or without the suspects
	}
}

// origin returns whose part it is. It tells whether the part is still what the proxy is to have.
func (st *stream) origin(k kind, p part) (envoy.Origin, bool) {
	if k == listeners {
		l := st.listener(p.name)
		if l == nil {
			return envoy.Origin{}, false
		}
		if p.chain == "" {
			return l.Origin, l.ShellHash == p.hash
		}
		chain := findChain(l, p.chain)
		if chain == nil {
			return envoy.Origin{}, false
		}
		return chain.Origin, chain.Hash == p.hash
	}
	it, state := st.lookup(k, p.name)
	if state != present {
		return envoy.Origin{}, false
	}
	return it.resource.Origin, it.version == p.hash
}

// describe names up to ten of the parts that a NACK may be about.
func (st *stream) describe(k kind, parts []part, r Rejection) *Rejection {
	for i, p := range parts {
		if i == 0 {
			r.Name, r.Chain, r.Hash = p.name, p.chain, p.hash
			r.Origin, _ = st.origin(k, p)
		}
		if i == 10 {
			break
		}
		r.Suspects = append(r.Suspects, p.String())
	}
	return &r
}

// clip keeps an error text of a proxy short.
func clip(text string) string {
	const most = 1 << 10
	text = strings.TrimSpace(text)
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}
