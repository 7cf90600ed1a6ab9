package snapshot

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
)

// exportsKey is the one entry of its kind.
var exportsKey = NewKey(TableEntries, config.KindExportedServices, "default")

// An exportIndex is the exported-services entry the other way round. It is made when the entry changes, so that asking
// for one service costs the same among 5,000 as among 50.
type exportIndex struct {
	peers    map[string][]string // service or config.Wildcard → the peers named for it, sorted
	services map[string][]string // peer → the services named for it, sorted, without config.Wildcard
}

func newExportIndex(object any) *exportIndex {
	index := &exportIndex{}
	entry, ok := object.(*Entry)
	if !ok {
		return index
	}
	exported, ok := entry.Value.(*config.ExportedServices)
	if !ok {
		return index
	}
	index.peers, index.services = make(map[string][]string, len(exported.Services)), map[string][]string{}
	for _, service := range exported.Services {
		for _, consumer := range service.Consumers {
			if slices.Contains(index.peers[service.Name], consumer.Peer) {
				continue
			}
			index.peers[service.Name] = append(index.peers[service.Name], consumer.Peer)
			if service.Name != config.Wildcard {
				index.services[consumer.Peer] = append(index.services[consumer.Peer], service.Name)
			}
		}
	}
	for _, names := range index.peers {
		slices.Sort(names)
	}
	for _, names := range index.services {
		slices.Sort(names)
	}
	return index
}

// changed returns the services, and perhaps config.Wildcard, whose peers differ between two indexes.
func (x *exportIndex) changed(other *exportIndex) []string {
	var names []string
	for name, peers := range x.peers {
		if !slices.Equal(peers, other.peers[name]) {
			names = append(names, name)
		}
	}
	for name := range other.peers {
		if _, ok := x.peers[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

// ExportReason tells whether a service is exported to a peer, and when it is not, why: what is wrong and what was
// wanted. It says nothing of whether the peer can be served yet, but of one that has gone. It costs the same however much
// is exported.
func ExportReason(w *World, service, peer string) (ok bool, reason string) {
	reason = exportReason(plain(w), service, peer)
	return reason == "", reason
}

func exportReason(r *reader, service, peer string) string {
	switch {
	case service == "consul":
		return "name consul is reserved"
	case strings.HasSuffix(service, "-sidecar-proxy"):
		return "name ends in -sidecar-proxy, which is a proxy's"
	case !slices.Contains(exportPeers(r, service), peer):
		return "not exported"
	case r.peer(peer) == nil:
		return "no such peer"
	case gone(r.peer(peer)) != "":
		return gone(r.peer(peer))
	}
	if protocol := protocolOf(r, service); protocol != "tcp" {
		return "protocol " + protocol + ": only tcp is exported"
	}
	return ""
}

// Exported yields every service that the exported-services entry names for a peer, by name or by wildcard, in order,
// and why it is not exported after all: empty when it is.
func Exported(w *World, peer string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		names := w.exports.services[peer]
		if slices.Contains(w.exports.peers[config.Wildcard], peer) {
			names = slices.Concat(names, w.typicalNames())
			slices.Sort(names)
			names = slices.Compact(names)
		}
		r := plain(w)
		for _, name := range names {
			if !yield(name, exportReason(r, name, peer)) {
				return
			}
		}
	}
}

// exportPeers returns the peers that the exported-services entry names for a service, by name or by wildcard, sorted.
// A wildcard stands for the ordinary services that have an instance.
func exportPeers(r *reader, service string) []string {
	named := r.exportPeers(service)
	all := r.exportPeers(config.Wildcard)
	if len(all) == 0 || service == "consul" || !r.typical(service) {
		return named
	}
	both := slices.Concat(named, all)
	slices.Sort(both)
	return slices.Compact(both)
}

// typical tells whether a service has an instance that is no proxy and no gateway.
func (w *World) typical(service string) bool {
	found := false
	w.objects.Root().WalkPrefix([]byte(string(TableInstances)+sep+service+sep), func(_ []byte, object any) bool {
		found = object.(*Instance).Service.Kind == config.KindTypical
		return found
	})
	return found
}

// typicalNames returns the names of all services that have an ordinary instance, sorted.
func (w *World) typicalNames() []string {
	names := map[string]bool{}
	for _, instance := range w.OfKind(config.KindTypical) {
		names[instance.Service.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// protocolOf returns the protocol of a service, tcp when none is set.
func protocolOf(r *reader, service string) string {
	if defaults, ok := entryOf[*config.ServiceDefaults](r, service); ok && defaults.Protocol != "" {
		return strings.ToLower(defaults.Protocol)
	}
	if defaults, ok := entryOf[*config.ProxyDefaults](r, "global"); ok && defaults.Protocol() != "" {
		return strings.ToLower(defaults.Protocol())
	}
	return "tcp"
}
