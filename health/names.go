package health

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// maxPeerNames bounds how many names one peer can have us look up.
const maxPeerNames = 64

// wanted is the names that a World needs resolved, by what needs them: an instance of ours, or a peer for its gateways.
type wanted struct {
	bySource map[snapshot.Key][]string
	sources  map[string]int // name → how many sources need it
}

// update follows a World and returns the names that are needed now and were not, and those that no longer are. It looks
// only at what changed.
func (w *wanted) update(u snapshot.Update) (added, dropped []string) {
	before := map[string]bool{}
	touch := func(source snapshot.Key, names []string) {
		for _, name := range append(w.bySource[source], names...) {
			if _, seen := before[name]; !seen {
				before[name] = w.sources[name] > 0
			}
		}
		w.set(source, names)
	}
	for _, source := range w.touched(u) {
		touch(source, namesOf(u.World, source))
	}
	for name, was := range before {
		switch is := w.sources[name] > 0; {
		case is && !was:
			added = append(added, name)
		case was && !is:
			dropped = append(dropped, name)
		}
	}
	slices.Sort(added)
	slices.Sort(dropped)
	return added, dropped
}

// touched returns the sources that may need other names than before.
func (w *wanted) touched(u snapshot.Update) []snapshot.Key {
	seen := map[snapshot.Key]bool{}
	if u.All {
		for source := range w.bySource {
			seen[source] = true
		}
		for _, i := range u.World.Instances("") {
			seen[snapshot.NewKey(snapshot.TableInstances, i.Service.Name, i.Node, i.Service.ID)] = true
		}
		for _, p := range u.World.Peers() {
			seen[snapshot.NewKey(snapshot.TablePeers, p.Name)] = true
		}
	}
	for _, key := range u.Changed {
		switch key.Table {
		case snapshot.TableInstances, snapshot.TablePeers:
			seen[key] = true
		case snapshot.TableImports:
			seen[snapshot.NewKey(snapshot.TablePeers, key.Parts()[0])] = true
		}
	}
	sources := make([]snapshot.Key, 0, len(seen))
	for source := range seen {
		sources = append(sources, source)
	}
	return sources
}

func (w *wanted) set(source snapshot.Key, names []string) {
	for _, name := range w.bySource[source] {
		if w.sources[name]--; w.sources[name] == 0 {
			delete(w.sources, name)
		}
	}
	if delete(w.bySource, source); len(names) > 0 {
		w.bySource[source] = names
	}
	for _, name := range names {
		w.sources[name]++
	}
}

// namesOf returns the names of a source, sorted and each once.
func namesOf(world *snapshot.World, source snapshot.Key) []string {
	parts := source.Parts()
	var hosts []string
	if source.Table == snapshot.TablePeers {
		if world.Peer(parts[0]).Usable() {
			for _, gateway := range world.PeerGateways(parts[0]) {
				hosts = append(hosts, gateway.Host)
			}
		}
		names := onlyNames(hosts)
		return names[:min(len(names), maxPeerNames)]
	}
	i := world.InstanceByID(parts[1], parts[2])
	if i == nil || i.Service.Name != parts[0] || i.Service.Kind == config.KindTypical && !i.Service.ConnectNative {
		return nil // nobody dials an instance that has a sidecar
	}
	host, _ := i.Address()
	hosts = append(hosts, host)
	for _, tagged := range i.Service.TaggedAddresses {
		hosts = append(hosts, tagged.Address)
	}
	return onlyNames(hosts)
}

// onlyNames leaves out addresses, and what no resolver could answer.
func onlyNames(hosts []string) []string {
	var names []string
	for _, host := range hosts {
		if _, err := netip.ParseAddr(host); err != nil && isName(host) {
			names = append(names, host)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func isName(host string) bool {
	return host != "" && len(host) <= 253 && !strings.ContainsFunc(host, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_')
	})
}
