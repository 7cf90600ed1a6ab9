// Package snapshot turns what a source has told us into a World, and a World into one view for each proxy: plain data
// that says what this proxy needs. It holds the intention compiler and the answers to "why". Everything here is a pure
// function of a World; nothing here does IO, knows Envoy, or knows which source spoke.
package snapshot

import "strings"

// A Table is one kind of object in a World.
type Table string

// The tables, with what identifies an object in each (the parts of Key.Path) and the object's type.
const (
	TableCluster   Table = "cluster"   // ()                               *Cluster: who we are
	TableRoots     Table = "roots"     // ()                               *Bundle: our own roots
	TableNodes     Table = "nodes"     // (node)                           *Node
	TableInstances Table = "instances" // (service name, node, service id) *Instance
	TableChecks    Table = "checks"    // (node, service id, check id)     *Check; service id "" is a check of the node
	TableEntries   Table = "entries"   // (kind, name)                     *Entry
	TablePeers     Table = "peers"     // (peer)                           *Peer
	TableImports   Table = "imports"   // (peer, service)                  *Import
	TableNames     Table = "names"     // (host name)                      *ResolvedName; never stored
	TablePrivate   Table = "private"   // (owner, …)                       []byte; stored, never in a World
)

// A Key names one object: its table and the parts that identify it, joined by sep.
type Key struct {
	Table Table
	Path  string
}

const sep = "\x00"

// NewKey returns the key of the object that parts identify in table.
func NewKey(table Table, parts ...string) Key {
	return Key{table, strings.Join(parts, sep)}
}

// Parts returns what NewKey was given.
func (k Key) Parts() []string {
	return strings.Split(k.Path, sep)
}

func (k Key) String() string {
	return string(k.Table) + "/" + strings.ReplaceAll(k.Path, sep, "/")
}

// An Event says that the object of a key is now Object, or is gone when Object is nil. A source that writes durably
// takes several as one: all or none.
type Event struct {
	Key    Key
	Object any // a pointer to the table's type, never written again; []byte in TablePrivate; nil: deleted
	// Check, when set, refuses the whole write unless it returns nil for the World that the write would change. It
	// runs on the writer's goroutine and must be quick.
	Check func(*World) error
}
