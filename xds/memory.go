package xds

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// A memory is what must outlive the streams of one proxy, in this process.
type memory struct {
	mu  sync.Mutex
	bad [kinds]map[part]Rejection
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

// quarantine keeps a part from ever being sent to this proxy again. Others get it: a proxy that rejects what is good, for
// whatever reason, must not take it from them.
func (m *memory) quarantine(k kind, r Rejection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bad[k] == nil {
		m.bad[k] = map[part]Rejection{}
	}
	m.bad[k][part{r.Name, r.Chain, r.Hash}] = r
}

func (m *memory) quarantined(k kind, p part) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, bad := m.bad[k][p]
	return bad
}

// rejections returns what is in quarantine, in a stable order.
func (m *memory) rejections() []Rejection {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []Rejection
	for k := range m.bad {
		list = slices.AppendSeq(list, maps.Values(m.bad[k]))
	}
	slices.SortFunc(list, func(a, b Rejection) int {
		return cmp.Or(cmp.Compare(a.TypeURL, b.TypeURL), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Chain, b.Chain))
	})
	return list
}

// prune lifts the quarantine of what is not in the proxy's set any more: what replaced it is a new attempt.
func (m *memory) prune(set *envoy.Set) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wanted := func(list []*envoy.Resource) func(part, Rejection) bool {
		return func(p part, _ Rejection) bool {
			r := find(list, p.name)
			return r == nil || r.Version != p.hash
		}
	}
	maps.DeleteFunc(m.bad[secrets], wanted(set.Secrets))
	maps.DeleteFunc(m.bad[clusters], wanted(set.Clusters))
	maps.DeleteFunc(m.bad[extensions], wanted(set.Extensions))
	maps.DeleteFunc(m.bad[listeners], func(p part, _ Rejection) bool { return !holdsPart(set, p) })
}

// pruneEndpoints lifts the quarantine of endpoints that were replaced.
func (m *memory) pruneEndpoints(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.bad[endpoints], func(p part, _ Rejection) bool { return p.name == name })
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
