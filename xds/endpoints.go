package xds

import (
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// An endpointTable holds the endpoints that clusters of many proxies share, and which streams want to hear of a change.
type endpointTable struct {
	mu   sync.Mutex
	sets map[string]*endpointSet
	seq  uint64
}

// An endpointSet is one name of the table. It exists while it has content or streams.
type endpointSet struct {
	latest  atomic.Pointer[sharedEndpoints] // nil: nobody has set it yet
	streams map[*stream]struct{}            // guarded by the table's lock
}

// sharedEndpoints is one version of an endpointSet, with the whole response that carries it alone. Its nonce counts
// through the server, so that it is new to every stream and one encoded message does for all of them.
type sharedEndpoints struct {
	item    item
	nonce   string
	message *message
}

// set replaces the content of a name and wakes its streams. The same version again does nothing.
func (t *endpointTable) set(r *envoy.Resource) {
	t.mu.Lock()
	defer t.mu.Unlock()
	entry := t.entry(r.Name)
	if latest := entry.latest.Load(); latest != nil && latest.item.version == r.Version {
		return
	}
	t.seq++
	shared := &sharedEndpoints{
		item:  item{name: r.Name, version: r.Version, body: r.Body, resource: r},
		nonce: "e" + strconv.FormatUint(t.seq, 10),
	}
	shared.message = encode(endpoints, shared.nonce, []item{shared.item}, nil)
	entry.latest.Store(shared)
	for st := range entry.streams {
		st.mail.endpoints(r.Name)
	}
}

// watch makes st hear of every later change of name, and returns the entry to read it from.
func (t *endpointTable) watch(name string, st *stream) *endpointSet {
	t.mu.Lock()
	defer t.mu.Unlock()
	entry := t.entry(name)
	entry.streams[st] = struct{}{}
	st.watched[name] = entry
	return entry
}

func (t *endpointTable) unwatch(name string, st *stream) {
	if _, watched := st.watched[name]; !watched {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(name, st)
}

func (t *endpointTable) unwatchAll(st *stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range st.watched {
		t.drop(name, st)
	}
}

func (t *endpointTable) drop(name string, st *stream) {
	entry := st.watched[name]
	delete(st.watched, name)
	delete(entry.streams, st)
	if len(entry.streams) == 0 && entry.latest.Load() == nil {
		delete(t.sets, name)
	}
}

func (t *endpointTable) entry(name string) *endpointSet {
	entry, known := t.sets[name]
	if !known {
		entry = &endpointSet{streams: map[*stream]struct{}{}}
		if t.sets == nil {
			t.sets = map[string]*endpointSet{}
		}
		t.sets[name] = entry
	}
	return entry
}
