package snapshot

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
)

// Besides objects, a part depends on answers that no single object gives. Such an answer has a key of one of these
// tables, which hold nothing: they only say what a part has read.
const (
	readKind       Table = "read-kind"        // (kind): which instances are of a kind
	readProxies    Table = "read-proxies"     // (service): which instances take a service's mesh traffic
	readID         Table = "read-id"          // (node, service id): the instance with an ID
	readTypical    Table = "read-typical"     // (service): whether a service has an ordinary instance
	readChecks     Table = "read-checks"      // (node, service id): all checks of an instance
	readPeers      Table = "read-peers"       // (): which peers there are
	readGateways   Table = "read-gateways"    // (peer): the gateways of a peer
	readExports    Table = "read-exports"     // (service or *): the peers that exports name for it
	readServiceAll Table = "read-service-all" // (service): the instances of a service
)

// A reader reads a World on behalf of one node of the graph, and notes what it was asked, whether there was an answer
// or not. A part is a function of a reader, so that nobody has to list what a part depends on.
type reader struct {
	world *World
	graph *graph // nil: nothing is noted
	reads []Key
	uses  []*node
	keeps []*node
}

// plain returns a reader that notes nothing.
func plain(w *World) *reader { return &reader{world: w} }

func (r *reader) note(table Table, parts ...string) {
	if r.graph != nil {
		r.reads = append(r.reads, NewKey(table, parts...))
	}
}

func (r *reader) cluster() *Cluster {
	r.note(TableCluster, "")
	return r.world.Cluster()
}

func (r *reader) roots() *Bundle {
	r.note(TableRoots, "")
	return r.world.Roots()
}

// entryOf returns a config entry as its own type, as EntryOf.
func entryOf[T config.Entry](r *reader, name string) (T, bool) {
	var zero T
	r.note(TableEntries, zero.EntryKind(), name)
	return EntryOf[T](r.world, name)
}

func (r *reader) peer(name string) *Peer {
	r.note(TablePeers, name)
	return r.world.Peer(name)
}

// peers returns the names of all peers in order.
func (r *reader) peers() []string {
	r.note(readPeers, "")
	var names []string
	for _, peer := range r.world.Peers() {
		names = append(names, peer.Name)
	}
	return names
}

func (r *reader) imported(peer, service string) *Import {
	r.note(TableImports, peer, service)
	return r.world.Import(peer, service)
}

func (r *reader) peerGateways(peer string) []PeerGateway {
	r.note(readGateways, peer)
	return r.world.PeerGateways(peer)
}

func (r *reader) resolved(host string) *ResolvedName {
	r.note(TableNames, host)
	return r.world.Name(host)
}

func (r *reader) checks(node, serviceID string) []*Check {
	r.note(readChecks, node, serviceID)
	return r.world.Checks(node, serviceID)
}

func (r *reader) instance(key Key) *Instance {
	r.note(key.Table, key.Path)
	return object[Instance](r.world, key.Table, key.Path)
}

func (r *reader) instances(service string) []*Instance {
	r.note(readServiceAll, service)
	return r.world.Instances(service)
}

func (r *reader) instanceByID(node, id string) *Instance {
	r.note(readID, node, id)
	return r.world.InstanceByID(node, id)
}

func (r *reader) ofKind(kind config.ServiceKind) []*Instance {
	r.note(readKind, string(kind))
	return r.world.OfKind(kind)
}

func (r *reader) proxies(service string) []*Instance {
	r.note(readProxies, service)
	return r.world.Proxies(service)
}

func (r *reader) typical(service string) bool {
	r.note(readTypical, service)
	return r.world.typical(service)
}

func (r *reader) exportPeers(service string) []string {
	r.note(readExports, service)
	return r.world.exports.peers[service]
}

// touched returns every key that a part may have noted and whose answer may differ between two Worlds because the
// object of key does.
func touched(before, after *World, key Key) []Key {
	keys := []Key{key}
	switch key.Table {
	case TablePeers:
		if (before.Peer(key.Path) == nil) != (after.Peer(key.Path) == nil) {
			keys = append(keys, NewKey(readPeers, ""))
		}
	case TableChecks:
		parts := key.Parts()
		keys = append(keys, NewKey(readChecks, parts[0], parts[1]))
	case TableImports:
		peer, _, _ := strings.Cut(key.Path, sep)
		keys = append(keys, NewKey(readGateways, peer))
	case TableEntries:
		if key == exportsKey {
			for _, service := range before.exports.changed(after.exports) {
				keys = append(keys, NewKey(readExports, service))
			}
		}
	case TableInstances:
		for _, w := range []*World{before, after} {
			if instance := object[Instance](w, key.Table, key.Path); instance != nil {
				keys = append(keys, touchedBy(instance)...)
			}
		}
	}
	return keys
}

func touchedBy(i *Instance) []Key {
	keys := []Key{
		NewKey(readServiceAll, i.Service.Name), NewKey(readID, i.Node, i.Service.ID), NewKey(readKind, string(i.Service.Kind)),
	}
	if i.Service.Kind == config.KindTypical {
		keys = append(keys, NewKey(readTypical, i.Service.Name))
	}
	if service := standsFor(i); service != "" {
		keys = append(keys, NewKey(readProxies, service))
	}
	return keys
}

// standsFor returns the service whose mesh traffic an instance takes, or nothing.
func standsFor(i *Instance) string {
	switch {
	case i.Service.Kind == config.KindSidecar && i.Service.Proxy != nil:
		return i.Service.Proxy.DestinationServiceName
	case i.Service.ConnectNative:
		return i.Service.Name
	}
	return ""
}
