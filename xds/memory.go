package xds

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// A memory is what must outlive the streams of one proxy, in this process.
type memory struct {
	mu  sync.Mutex
	bad [kinds]map[part]*verdict
	// doubtful are resources that the proxy may have applied out of a rejected response. It does not report those.
	doubtful [kinds]map[string]struct{}
	owed     map[string]struct{} // secrets whose revocation the proxy has not carried out yet
}

// add makes the set when it is needed: nearly no proxy ever has anything to remember.
func add(set *map[string]struct{}, name string) {
	if *set == nil {
		*set = map[string]struct{}{}
	}
	(*set)[name] = struct{}{}
}

// quarantine keeps a part from being sent to this proxy until its next try, at a pause that grows with each. Others get it:
// a proxy that rejects what is good, for whatever reason, must not take it from them.
func (m *memory) quarantine(k kind, r Rejection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bad[k] == nil {
		m.bad[k] = map[part]*verdict{}
	}
	p := part{r.Name, r.Chain, r.Hash}
	if last := m.bad[k][p]; last != nil {
		r.Tries = last.Tries
	}
	r.Tries++
	r.NextTry = r.At.Add(retryPause(r.Tries))
	m.bad[k][p] = &verdict{Rejection: r}
}

func (m *memory) quarantined(k kind, p part) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.bad[k][p]
	return v != nil && !v.trying
}

// rejections returns what is in quarantine, in a stable order.
func (m *memory) rejections() []Rejection {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []Rejection
	for k := range m.bad {
		for _, v := range m.bad[k] {
			list = append(list, v.Rejection)
		}
	}
	slices.SortFunc(list, func(a, b Rejection) int {
		return cmp.Or(cmp.Compare(a.TypeURL, b.TypeURL), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Chain, b.Chain))
	})
	return list
}

// due returns what of a kind is to be tried again by now, in a stable order, and when the next is; zero: there is none.
// They are quarantined no more, until the try is over.
func (m *memory) due(k kind, now time.Time) (parts []part, next time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, v := range m.bad[k] {
		switch {
		case v.trying:
		case !now.Before(v.NextTry):
			v.trying = true
			parts = append(parts, p)
		case next.IsZero() || v.NextTry.Before(next):
			next = v.NextTry
		}
	}
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.chain, b.chain))
	})
	return parts, next
}

// pardon ends the quarantine of parts that the proxy has taken, or that nobody wants any more.
func (m *memory) pardon(k kind, parts ...part) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range parts {
		delete(m.bad[k], p)
	}
}

// postpone ends a try that could not take place.
func (m *memory) postpone(k kind, now time.Time, parts ...part) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range parts {
		if v := m.bad[k][p]; v != nil && v.trying {
			v.trying, v.NextTry = false, now.Add(retryPause(v.Tries))
		}
	}
}

// interrupted puts off what was being tried when a stream ended: it is tried again by the next stream.
func (m *memory) interrupted() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.bad {
		for _, v := range m.bad[k] {
			v.trying = false
		}
	}
}

// restarted ends every quarantine: there is another Envoy, for which what stood in the way of the last may be gone. It
// returns the names by kind.
func (m *memory) restarted() (names [kinds][]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.bad {
		for p := range m.bad[k] {
			names[k] = append(names[k], p.name)
		}
		clear(m.bad[k])
	}
	return names
}

// prune lifts the quarantine of what is not in the proxy's set any more: what replaced it is a new attempt.
func (m *memory) prune(set *envoy.Set) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wanted := func(list []*envoy.Resource) func(part, *verdict) bool {
		return func(p part, _ *verdict) bool {
			r := find(list, p.name)
			return r == nil || r.Version != p.hash
		}
	}
	maps.DeleteFunc(m.bad[secrets], wanted(set.Secrets))
	maps.DeleteFunc(m.bad[clusters], wanted(set.Clusters))
	maps.DeleteFunc(m.bad[extensions], wanted(set.Extensions))
	maps.DeleteFunc(m.bad[listeners], func(p part, _ *verdict) bool { return !holdsPart(set, p) })
}

// pruneEndpoints lifts the quarantine of endpoints that were replaced.
func (m *memory) pruneEndpoints(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.bad[endpoints], func(p part, _ *verdict) bool { return p.name == name })
}

func holdsPart(set *envoy.Set, p part) bool {
	l := findListener(set, p.name)
	if l == nil || p.chain == "" {
		return l != nil && l.ShellHash == p.hash
	}
	chain := findChain(l, p.chain)
	return chain != nil && chain.Hash == p.hash
}

// maybe remembers that the proxy may have a resource that it will not report.
func (m *memory) maybe(k kind, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	add(&m.doubtful[k], name)
}

// settle forgets the doubt: the proxy acknowledged what it has by this name, or that it has nothing.
func (m *memory) settle(k kind, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.doubtful[k], name)
}

// possible returns what the proxy may have without reporting it.
func (m *memory) possible(k kind) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sorted(m.doubtful[k])
}

func (m *memory) owe(secret string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	add(&m.owed, secret)
}

func (m *memory) pay(secret string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.owed, secret)
}

func (m *memory) owes(secret string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, owed := m.owed[secret]
	return owed
}

func (m *memory) debts() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sorted(m.owed)
}

// any tells whether something of a kind is in quarantine.
func (m *memory) any(k kind) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.bad[k]) > 0
}
