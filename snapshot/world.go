package snapshot

import (
	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/isthmus-mesh/isthmus/config"
)

// A World is everything the source has told us, at one instant. It is never written after it is published, so any
// number of goroutines may read it. Two Worlds share all that did not change between them.
type World struct {
	// Index grows by one or more with every change, and is what X-Consul-Index carries.
	Index   uint64
	objects *iradix.Tree[any]
	// modified holds the Index at which an object, or anything below a part of its path, last changed or went.
	modified *iradix.Tree[uint64]
	// floor is the Index at which the World was read from a store that does not keep what went before, see Loaded.
	floor uint64
	// related finds instances by what is not the start of their key: see the rel functions.
	related *iradix.Tree[*Instance]
	// gateways counts, for each gateway of a peer, the routable imports that name it: see countGateways.
	gateways *iradix.Tree[gatewayCount]
	exports  *exportIndex
}

// NewWorld returns the World in which nothing is known.
func NewWorld() *World {
	return &World{
		objects: iradix.New[any](), modified: iradix.New[uint64](), related: iradix.New[*Instance](),
		gateways: iradix.New[gatewayCount](), exports: &exportIndex{},
	}
}

// Loaded returns the World of a store that holds these objects at index. What went before that is not known, so Modified
// answers index for everything that is not there: whoever waits for an older one looks again, once.
func Loaded(index uint64, objects []Event) *World {
	w := NewWorld().With(index, objects)
	w.floor = index
	return w
}

// With returns the World after events, at index. It costs the length of the changed paths, whatever the World holds.
// Events of TablePrivate are passed over.
func (w *World) With(index uint64, events []Event) *World {
	objects, modified, related, gateways := w.objects.Txn(), w.modified.Txn(), w.related.Txn(), w.gateways.Txn()
	exports := w.exports
	for _, event := range events {
		if event.Key.Table == TablePrivate {
			continue
		}
		path := event.Key.bytes()
		var before any
		if event.Object == nil {
			before, _ = objects.Delete(path)
		} else {
			before, _ = objects.Insert(path, event.Object)
		}
		for _, prefix := range relate(related, event.Key, before, event.Object) {
			modified.Insert([]byte(prefix), index)
		}
		countGateways(gateways, before, event.Object)
		if event.Key == exportsKey {
			exports = newExportIndex(event.Object)
		}
		modified.Insert(path, index)
		for i, c := range path {
			if c == sep[0] {
				modified.Insert(path[:i], index)
			}
		}
	}
	return &World{
		Index: index, floor: w.floor, objects: objects.Commit(), modified: modified.Commit(), related: related.Commit(),
		gateways: gateways.Commit(), exports: exports,
	}
}

func (k Key) bytes() []byte { return []byte(string(k.Table) + sep + k.Path) }

// Modified returns the Index at which the object at parts last changed or went, or, for fewer parts, anything below
// them; with no parts, anything in the table. It is 0 for what was never there, see also Loaded.
func (w *World) Modified(table Table, parts ...string) uint64 {
	key := []byte(table)
	if len(parts) > 0 {
		key = NewKey(table, parts...).bytes()
	}
	return w.lastModified(key)
}

func (w *World) lastModified(path []byte) uint64 {
	if index, ok := w.modified.Get(path); ok {
		return index
	}
	return w.floor
}

// object returns the object of a key, and nil when there is none.
func object[T any](w *World, table Table, parts ...string) *T {
	found, ok := w.objects.Get(NewKey(table, parts...).bytes())
	if !ok {
		return nil
	}
	return found.(*T)
}

// all returns the objects of a table whose path starts with parts, in the order of their keys.
func all[T any](w *World, table Table, parts ...string) []*T {
	prefix := string(table) + sep
	for _, part := range parts {
		prefix += part + sep
	}
	var found []*T
	w.objects.Root().WalkPrefix([]byte(prefix), func(_ []byte, object any) bool {
		found = append(found, object.(*T))
		return false
	})
	return found
}

// Cluster returns who we are. It is never nil once a source has synced.
func (w *World) Cluster() *Cluster { return object[Cluster](w, TableCluster, "") }

// Roots returns our own roots.
func (w *World) Roots() *Bundle { return object[Bundle](w, TableRoots, "") }

// Node returns a node by name, or nil.
func (w *World) Node(name string) *Node { return object[Node](w, TableNodes, name) }

// Nodes returns all nodes in the order of their names.
func (w *World) Nodes() []*Node { return all[Node](w, TableNodes) }

// Instances returns the instances of a service, or with an empty name all of them, in the order of name, node and ID.
func (w *World) Instances(service string) []*Instance {
	if service == "" {
		return all[Instance](w, TableInstances)
	}
	return all[Instance](w, TableInstances, service)
}

// Checks returns the checks of one instance, or with an empty service ID those of the node itself.
func (w *World) Checks(node, serviceID string) []*Check {
	return all[Check](w, TableChecks, node, serviceID)
}

// Entry returns a config entry, or nil.
func (w *World) Entry(kind, name string) *Entry { return object[Entry](w, TableEntries, kind, name) }

// Entries returns the config entries of a kind, or with an empty kind all of them, in the order of kind and name.
func (w *World) Entries(kind string) []*Entry {
	if kind == "" {
		return all[Entry](w, TableEntries)
	}
	return all[Entry](w, TableEntries, kind)
}

// EntryOf returns the config entry of a kind as its own type: EntryOf[*config.ServiceDefaults](w, "db"). The second
// value is false when there is none.
func EntryOf[T config.Entry](w *World, name string) (T, bool) {
	var zero T
	if entry := w.Entry(zero.EntryKind(), name); entry != nil {
		return entry.Value.(T), true
	}
	return zero, false
}

// Peer returns a peer by name, or nil.
func (w *World) Peer(name string) *Peer { return object[Peer](w, TablePeers, name) }

// Peers returns all peers in the order of their names.
func (w *World) Peers() []*Peer { return all[Peer](w, TablePeers) }

// Import returns what a peer exports to us under a name, or nil.
func (w *World) Import(peer, service string) *Import {
	return object[Import](w, TableImports, peer, service)
}

// Imports returns what a peer exports to us, or with an empty peer what all of them do, in the order of peer and name.
func (w *World) Imports(peer string) []*Import {
	if peer == "" {
		return all[Import](w, TableImports)
	}
	return all[Import](w, TableImports, peer)
}

// Name returns what a host name resolved to, or nil while that is not known.
func (w *World) Name(host string) *ResolvedName { return object[ResolvedName](w, TableNames, host) }
