package snapshot

// A graph holds values that are pure functions of a World and of one another. Each node notes what its function has
// read; when that changes, and only then, it is computed again, and its users only if the outcome is another one. It is
// for one goroutine.
type graph struct {
	world   *World
	readers map[Key]map[*node]struct{}
	dirty   [ranks][]*node
	idle    []*node // lost a user; dropped at the end of the run if there is none by then
	count   int
}

// The ranks order the work: a node uses nodes of lower ranks only, so each is computed at most once in a run.
const (
	rankState   = iota // a peer, an endpoint set: computed from the World alone
	rankPart           // an export, an import, an upstream
	rankScope          // a service's chain for one peer
	rankService        // all chains of a service; all parts of gateways
	rankView
	ranks
)

// A node is one value of the graph.
type node struct {
	rank    int
	compute func(*reader) any // a pointer to a struct, or a nil one
	settled func(old any)     // told of a changed value; may be nil
	dropped func()
	value   any
	dirty   bool
	refs    int                // pins, users and keepers
	users   map[*node]struct{} // to compute again when the value changes
	reads   []Key
	uses    []*node
	keeps   []*node // must exist while this node does, whatever their value
}

// A family is all nodes of one kind, by key.
type family[K comparable, V any] struct {
	rank    int
	compute func(*reader, K) *V
	nodes   map[K]*node
	settled func(key K, old, value *V) // told of every changed value, also when the node goes; may be nil
}

func newFamily[K comparable, V any](rank int, compute func(*reader, K) *V) *family[K, V] {
	return &family[K, V]{rank: rank, compute: compute, nodes: map[K]*node{}}
}

// node returns the node of a key, computed.
func (f *family[K, V]) node(g *graph, key K) *node {
	n := f.created(g, key)
	if n.dirty { // it is new, or nobody needed it when its turn came
		g.compute(n)
	}
	return n
}

// created returns the node of a key, which is yet to be computed when it is new.
func (f *family[K, V]) created(g *graph, key K) *node {
	if n := f.nodes[key]; n != nil {
		return n
	}
	n := &node{rank: f.rank, compute: func(r *reader) any { return f.compute(r, key) }}
	n.dropped = func() {
		delete(f.nodes, key)
		if f.settled != nil && f.value(n) != nil {
			f.settled(key, f.value(n), nil)
		}
	}
	if f.settled != nil {
		n.settled = func(old any) {
			before, _ := old.(*V)
			f.settled(key, before, f.value(n))
		}
	}
	f.nodes[key] = n
	g.count++
	g.mark(n)
	return n
}

func (f *family[K, V]) value(n *node) *V {
	value, _ := n.value.(*V)
	return value
}

// use returns the value of a node, on which the reader's node then depends. A plain reader has it computed for itself.
func use[K comparable, V any](r *reader, f *family[K, V], key K) *V {
	if r.graph == nil {
		return f.compute(r, key)
	}
	n := f.node(r.graph, key)
	r.uses = append(r.uses, n)
	return f.value(n)
}

// keep makes a node exist as long as the reader's node does.
func keep[K comparable, V any](r *reader, f *family[K, V], key K) {
	if r.graph == nil {
		return
	}
	r.keeps = append(r.keeps, f.node(r.graph, key))
}

// pin makes a node exist until it is unpinned.
func (f *family[K, V]) pin(g *graph, key K) *node {
	n := f.created(g, key)
	n.refs++
	return n
}

// unpin takes back one pin.
func (f *family[K, V]) unpin(g *graph, key K) {
	g.release(f.nodes[key])
}

// follow makes user depend on member, beside what its own function reads; unfollow ends that.
func (g *graph) follow(user, member *node) {
	member.refs++
	member.addUser(user)
	g.mark(user)
}

func (g *graph) unfollow(user, member *node) {
	delete(member.users, user)
	g.release(member)
	g.mark(user)
}

func (n *node) addUser(user *node) {
	if n.users == nil {
		n.users = map[*node]struct{}{}
	}
	n.users[user] = struct{}{}
}

func (g *graph) mark(n *node) {
	if !n.dirty {
		n.dirty = true
		g.dirty[n.rank] = append(g.dirty[n.rank], n)
	}
}

func (g *graph) release(n *node) {
	n.refs--
	if n.refs == 0 {
		g.idle = append(g.idle, n)
	}
}

// touch marks every node that has read a key.
func (g *graph) touch(key Key) {
	for n := range g.readers[key] {
		g.mark(n)
	}
}

// touchAll marks every node that has read anything. The others follow from those.
func (g *graph) touchAll() {
	for key := range g.readers {
		g.touch(key)
	}
}

// run computes all marked nodes, and those that follow from them, and drops what nobody needs any more.
func (g *graph) run() {
	for rank := range ranks {
		for len(g.dirty[rank]) > 0 {
			last := len(g.dirty[rank]) - 1
			n := g.dirty[rank][last]
			g.dirty[rank] = g.dirty[rank][:last]
			if n.dirty && n.refs > 0 {
				g.compute(n)
			}
		}
	}
	for len(g.idle) > 0 {
		n := g.idle[len(g.idle)-1]
		g.idle = g.idle[:len(g.idle)-1]
		if n.refs == 0 && n.dropped != nil {
			g.drop(n)
		}
	}
}

func (g *graph) compute(n *node) {
	r := &reader{world: g.world, graph: g}
	fresh := n.compute(r)
	n.dirty = false
	g.relink(n, r)
	old := n.value
	value, changed := settle(old, fresh)
	if !changed {
		return
	}
	n.value = value
	if n.settled != nil {
		n.settled(old)
	}
	for user := range n.users {
		g.mark(user)
	}
}

func (g *graph) drop(n *node) {
	g.relink(n, &reader{})
	g.count--
	n.dropped()
	n.dropped, n.dirty = nil, false
}
