package snapshot

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
)

// An exportList is every pair of service and peer that the exported-services entry names, each with its node. It is
// kept beside the graph, so that one more export among 5,000 costs a copy of their pointers and no look at them.
type exportList struct {
	node    *node               // to be computed when members or their values change
	members []exportMember      // sorted by route.compare
	peers   map[string][]string // service → peers in members, sorted

	parts   []*GatewayExport // what list last returned; never written again
	skipped []Skipped
	changed []route // pairs that came, went or got another part since then
	rebuild bool    // parts and skipped cannot be had by editing
}

type exportMember struct {
	route
	node *node
}

func (m exportMember) compare(key route) int { return m.route.compare(key) }

// compare puts pairs in the order of the resources that are named <peer>~<service>~…, so that the lists made of them need
// no sorting: "~" comes after all that names are made of.
func (r route) compare(other route) int {
	return cmp.Or(compareEnded(r.peer, other.peer), compareEnded(r.service, other.service))
}

// compareEnded compares a+"~" with b+"~".
func compareEnded(a, b string) int {
	n := min(len(a), len(b))
	if order := cmp.Compare(a[:n], b[:n]); order != 0 {
		return order
	}
	return cmp.Compare(len(b), len(a))
}

// few is up to how many pairs are put in their places one by one.
const few = 16

func (m exportMember) value() *export { return m.node.value.(*export) }

// note says that the value of a pair went from old to fresh; nil is none.
func (l *exportList) note(key route, old, fresh *export) {
	for _, value := range []*export{old, fresh} {
		l.rebuild = l.rebuild || value != nil && (value.Part == nil || value.MixedCase)
	}
	l.changed = append(l.changed, key)
}

// list returns the parts of all members, sorted by peer and service, and why others have none.
func (l *exportList) list() ([]*GatewayExport, []Skipped) {
	if l.rebuild || len(l.changed) > few {
		l.build()
	} else if len(l.changed) > 0 {
		parts := append(make([]*GatewayExport, 0, len(l.parts)+len(l.changed)), l.parts...)
		for _, key := range l.changed {
			parts = l.replace(parts, key)
		}
		l.parts = parts
	}
	l.changed = nil
	if len(l.parts) == 0 {
		l.parts = nil
	}
	return l.parts, l.skipped
}

// replace puts the part of a pair into its place, or takes it out when the pair is no member any more.
func (l *exportList) replace(parts []*GatewayExport, key route) []*GatewayExport {
	at, had := slices.BinarySearchFunc(parts, key, compareExport)
	if had {
		parts = slices.Delete(parts, at, at+1)
	}
	if i, member := slices.BinarySearchFunc(l.members, key, exportMember.compare); member {
		parts = slices.Insert(parts, at, l.members[i].value().Part)
	}
	return parts
}

func compareExport(e *GatewayExport, key route) int { return route{e.Peer, e.Service}.compare(key) }

// build makes parts and skipped anew.
func (l *exportList) build() {
	l.parts, l.skipped = make([]*GatewayExport, 0, len(l.members)), nil
	var mixed []*GatewayExport
	for _, member := range l.members {
		switch export := member.value(); {
		case export.Part == nil:
			l.skipped = append(l.skipped, export.Skipped...)
		case export.MixedCase:
			mixed = append(mixed, export.Part)
		default:
			l.parts = append(l.parts, export.Part)
		}
	}
	l.addMixed(mixed)
	// A name of mixed case depends on the others, so a list that holds one is never edited.
	l.rebuild = len(mixed) > 0
}

// addMixed adds exports whose names hold upper case, which only names from elsewhere do. Server names are lower case, so
// of two that differ only in case one is left out: the one in lower case stays, else the first.
func (l *exportList) addMixed(mixed []*GatewayExport) {
	names := map[string]string{}
	for _, e := range mixed {
		lower := strings.ToLower(e.Service)
		twin, taken := names[e.ServerName]
		if _, ok := slices.BinarySearchFunc(l.parts, route{e.Peer, lower}, compareExport); ok {
			twin, taken = lower, true
		}
		if taken {
			reason := fmt.Sprintf("export %s to %s: differs from %s only in case", e.Service, e.Peer, twin)
			l.skipped = append(l.skipped, Skipped{Origin: e.Origin, Reason: reason})
			continue
		}
		names[e.ServerName] = e.Service
		at, _ := slices.BinarySearchFunc(l.parts, route{e.Peer, e.Service}, compareExport)
		l.parts = slices.Insert(l.parts, at, e)
	}
}

// pinExports makes a node of each pair that is named now, and drops it of each that is not. config.Wildcard among
// services stands for all.
func (v *Views) pinExports(services []string) {
	l, r := &v.exported, plain(v.graph.world)
	if slices.Contains(services, config.Wildcard) {
		services = slices.AppendSeq(services, maps.Keys(l.peers))
		services = slices.AppendSeq(services, maps.Keys(r.world.exports.peers))
		services = slices.Concat(services, r.world.typicalNames())
	}
	slices.Sort(services)
	var come, gone []route
	for _, service := range slices.Compact(services) {
		if service == config.Wildcard {
			continue
		}
		before, after := l.peers[service], exportPeers(r, service)
		come = append(come, without(service, after, before)...)
		gone = append(gone, without(service, before, after)...)
		if l.peers[service] = after; len(after) == 0 {
			delete(l.peers, service)
		}
	}
	v.removeExports(gone)
	v.addExports(come)
}

// without returns the pairs of a service with peers that are not among others, which are sorted.
func without(service string, peers, others []string) []route {
	var rest []route
	for _, peer := range peers {
		if _, found := slices.BinarySearch(others, peer); !found {
			rest = append(rest, route{peer, service})
		}
	}
	return rest
}

func (v *Views) addExports(come []route) {
	l := &v.exported
	for _, key := range come {
		member := exportMember{key, v.exports.created(v.graph, key)}
		v.graph.follow(l.node, member.node)
		l.changed = append(l.changed, key)
		if len(come) > few {
			l.members = append(l.members, member)
			continue
		}
		at, _ := slices.BinarySearchFunc(l.members, key, exportMember.compare)
		l.members = slices.Insert(l.members, at, member)
	}
	if len(come) > few {
		slices.SortFunc(l.members, func(a, b exportMember) int { return a.compare(b.route) })
	}
}

func (v *Views) removeExports(gone []route) {
	l := &v.exported
	leaving := make(map[route]bool, len(gone))
	for _, key := range gone {
		leaving[key] = true
		n := v.exports.nodes[key]
		l.note(key, n.value.(*export), nil)
		v.graph.unfollow(l.node, n)
		if len(gone) <= few {
			at, _ := slices.BinarySearchFunc(l.members, key, exportMember.compare)
			l.members = slices.Delete(l.members, at, at+1)
		}
	}
	if len(gone) > few {
		l.members = slices.DeleteFunc(l.members, func(m exportMember) bool { return leaving[m.route] })
	}
}
