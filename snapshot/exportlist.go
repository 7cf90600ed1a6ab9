package snapshot

import (
	"cmp"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/config"
)

// An exportList is every pair of service and peer that the exported-services entry names, each with its node, and the
// node that lists them all. It is kept beside the graph, so that one more export costs no look at the others.
type exportList struct {
	node    *node
	members []exportMember      // sorted by peer, service
	peers   map[string][]string // service → peers in members, sorted
}

type exportMember struct {
	route
	node *node
}

func (m exportMember) compare(key route) int {
	return cmp.Or(cmp.Compare(m.peer, key.peer), cmp.Compare(m.service, key.service))
}

// pinExports makes a node of each pair that is named now, and drops it of each that is not. config.Wildcard among
// services stands for all.
func (v *Views) pinExports(services []string) {
	if slices.Contains(services, config.Wildcard) {
		services = slices.AppendSeq(services, maps.Keys(v.exported.peers))
		services = slices.AppendSeq(services, maps.Keys(v.graph.world.exports.peers))
		services = slices.Concat(services, v.graph.world.typicalNames())
	}
	slices.Sort(services)
	var come, gone []route
	r := plain(v.graph.world)
	for _, service := range slices.Compact(services) {
		if service == config.Wildcard {
			continue
		}
		before, after := v.exported.peers[service], exportPeers(r, service)
		for _, peer := range after {
			if _, had := slices.BinarySearch(before, peer); !had {
				come = append(come, route{peer, service})
			}
		}
		for _, peer := range before {
			if _, has := slices.BinarySearch(after, peer); !has {
				gone = append(gone, route{peer, service})
			}
		}
		if len(after) > 0 {
			v.exported.peers[service] = after
		} else {
			delete(v.exported.peers, service)
		}
	}
	v.removeExports(gone)
	v.addExports(come)
}

// few is up to how many pairs are put in their places one by one.
const few = 16

func (v *Views) addExports(come []route) {
	list := &v.exported
	for _, key := range come {
		n := v.exports.created(v.graph, key)
		v.graph.follow(list.node, n)
		if len(come) > few {
			list.members = append(list.members, exportMember{key, n})
			continue
		}
		at, _ := slices.BinarySearchFunc(list.members, key, exportMember.compare)
		list.members = slices.Insert(list.members, at, exportMember{key, n})
	}
	if len(come) > few {
		slices.SortFunc(list.members, func(a, b exportMember) int { return a.compare(b.route) })
	}
}

func (v *Views) removeExports(gone []route) {
	list := &v.exported
	leaving := make(map[route]bool, len(gone))
	for _, key := range gone {
		leaving[key] = true
		v.graph.unfollow(list.node, v.exports.nodes[key])
		if len(gone) <= few {
			at, _ := slices.BinarySearchFunc(list.members, key, exportMember.compare)
			list.members = slices.Delete(list.members, at, at+1)
		}
	}
	if len(gone) > few {
		list.members = slices.DeleteFunc(list.members, func(m exportMember) bool { return leaving[m.route] })
	}
}
