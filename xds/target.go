package xds

import (
	"iter"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// A state tells what there is by a name, for one proxy.
type state int

const (
	missing   state = iota // no such thing for this proxy
	held                   // it is to have it, and nobody has made it yet: neither served nor withdrawn
	elsewhere              // the proxy's own certificate, which its own lane serves
	present
)

func (it item) part() part { return part{name: it.name, hash: it.version} }

// lookup returns what the proxy is to have by a name. Nothing outside the proxy's own set exists here, whatever it asks for.
// Listeners are composed, see compose.
func (st *stream) lookup(k kind, name string) (item, state) {
	var r *envoy.Resource
	switch k {
	case secrets:
		if name == envoy.LeafName && st.set.LeafIdentity != "" && st.server.config.Leaves != nil {
			return item{}, elsewhere
		}
		r = find(st.set.Secrets, name)
	case clusters:
		r = find(st.set.Clusters, name)
	case extensions:
		r = find(st.set.Extensions, name)
	case endpoints:
		return st.lookupEndpoints(name)
	case listeners:
		if st.listener(name) == nil {
			return item{}, missing
		}
		return item{name: name}, present
	}
	if r == nil {
		return item{}, missing
	}
	return item{name: r.Name, version: r.Version, body: r.Body, resource: r}, present
}

func (st *stream) lookupEndpoints(name string) (item, state) {
	if st.refs[name] == 0 {
		st.server.endpoints.unwatch(name, st)
		return item{}, missing
	}
	entry := st.watched[name]
	if entry == nil {
		entry = st.server.endpoints.watch(name, st)
	}
	latest := entry.latest.Load()
	if latest == nil {
		return item{}, held
	}
	return latest.item, present
}

func (st *stream) listener(name string) *envoy.Listener { return findListener(st.set, name) }

func find(list []*envoy.Resource, name string) *envoy.Resource {
	return search(list, resourceName, name)
}

func findListener(set *envoy.Set, name string) *envoy.Listener {
	return search(set.Listeners, listenerName, name)
}

func findChain(l *envoy.Listener, name string) *envoy.Chain {
	return search(l.Chains, func(c *envoy.Chain) string { return c.Name }, name)
}

// search returns the one of a name in a list sorted by name; nil: there is none.
func search[T any](list []*T, nameOf func(*T) string, name string) *T {
	i, found := slices.BinarySearchFunc(list, name, func(entry *T, name string) int {
		return strings.Compare(nameOf(entry), name)
	})
	if !found {
		return nil
	}
	return list[i]
}

// wildcardNames yields the names of a kind that a wildcard stands for.
func wildcardNames(set *envoy.Set, k kind) iter.Seq[string] {
	return func(yield func(string) bool) {
		if k == clusters {
			for _, r := range set.Clusters {
				if !yield(r.Name) {
					return
				}
			}
		}
		if k == listeners {
			for _, l := range set.Listeners {
				if !yield(l.Name) {
					return
				}
			}
		}
	}
}

// retarget takes a new set: what differs from the last one is compared with what the proxy has before the next response.
func (st *stream) retarget(set *envoy.Set) {
	old := st.set
	if old == nil {
		old = &envoy.Set{} // what the proxy reported and asked for is dirty since it did
	}
	st.set = set
	diff(old.Secrets, set.Secrets, resourceName, st.secretChanged)
	diff(old.Extensions, set.Extensions, resourceName, func(was, is *envoy.Resource) {
		st.subs[extensions].mark(anyName(was, is), false)
	})
	diff(old.Listeners, set.Listeners, listenerName, func(was, is *envoy.Listener) {
		if is == nil {
			st.subs[listeners].mark(was.Name, false)
			return
		}
		st.subs[listeners].mark(is.Name, false)
	})
	st.retargetClusters(old.Clusters, set.Clusters)
	st.memory.prune(set)
}

// retargetClusters also counts which endpoints the proxy's clusters use: those it may ask for.
func (st *stream) retargetClusters(old, new []*envoy.Resource) {
	touched := map[string]struct{}{}
	removed := map[string]struct{}{}
	diff(old, new, resourceName, func(was, is *envoy.Resource) {
		st.subs[clusters].mark(anyName(was, is), false)
		if was != nil && was.EndpointSet != "" {
			st.refs[was.EndpointSet]--
			touched[was.EndpointSet] = struct{}{}
			if is == nil {
				removed[was.EndpointSet] = struct{}{}
			}
		}
		if is != nil && is.EndpointSet != "" {
			st.refs[is.EndpointSet]++
			touched[is.EndpointSet] = struct{}{}
		}
	})
	for name := range touched {
		if _, asked := st.subs[endpoints].names[name]; asked {
			st.subs[endpoints].mark(name, false)
		}
		if st.refs[name] > 0 {
			delete(st.gates.emptied, name)
			continue
		}
		delete(st.refs, name)
		if _, gone := removed[name]; gone {
			if st.gates.emptied == nil {
				st.gates.emptied = map[string]struct{}{}
			}
			st.gates.emptied[name] = struct{}{}
		}
	}
}

func resourceName(r *envoy.Resource) string { return r.Name }

func listenerName(l *envoy.Listener) string { return l.Name }

func anyName(was, is *envoy.Resource) string {
	if is == nil {
		return was.Name
	}
	return is.Name
}

// diff walks two lists, both sorted by name, and calls changed for each name whose pointer differs. The one that is not
// there is nil.
func diff[T any](old, new []*T, name func(*T) string, changed func(was, is *T)) {
	for len(old) > 0 || len(new) > 0 {
		switch {
		case len(old) > 0 && len(new) > 0 && old[0] == new[0]: // nearly always: names are not looked at
			old, new = old[1:], new[1:]
		case len(new) == 0 || len(old) > 0 && name(old[0]) < name(new[0]):
			changed(old[0], nil)
			old = old[1:]
		case len(old) == 0 || name(new[0]) < name(old[0]):
			changed(nil, new[0])
			new = new[1:]
		default:
			changed(old[0], new[0])
			old, new = old[1:], new[1:]
		}
	}
}
