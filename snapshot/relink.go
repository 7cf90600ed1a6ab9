package snapshot

import "slices"

// relink makes a node depend on what r has read, and on nothing else. New users come before old ones go, so that what
// both need is not dropped between.
func (g *graph) relink(n *node, r *reader) {
	for _, used := range r.uses {
		if used.rank >= n.rank {
			panic("snapshot: a node uses one that is not of a lower rank")
		}
		used.refs++
	}
	for _, kept := range r.keeps {
		kept.refs++
	}
	for _, used := range n.uses {
		delete(used.users, n)
		g.release(used)
	}
	for _, kept := range n.keeps {
		g.release(kept)
	}
	for _, used := range r.uses {
		used.addUser(n)
	}
	if !slices.Equal(n.reads, r.reads) {
		for _, key := range n.reads {
			g.forget(key, n)
		}
		for _, key := range r.reads {
			g.remember(key, n)
		}
	}
	n.reads, n.uses, n.keeps = slices.Clip(r.reads), slices.Clip(r.uses), slices.Clip(r.keeps)
}

func (g *graph) remember(key Key, n *node) {
	if g.readers[key] == nil {
		g.readers[key] = map[*node]struct{}{}
	}
	g.readers[key][n] = struct{}{}
}

func (g *graph) forget(key Key, n *node) {
	delete(g.readers[key], n)
	if len(g.readers[key]) == 0 {
		delete(g.readers, key)
	}
}
