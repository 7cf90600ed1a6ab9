package config

import (
	"cmp"
	"fmt"
	"slices"
)

func (e *ServiceIntentions) finish(d *decoder) {
	if e.Name != Wildcard {
		d.check("Name", CheckServiceName(e.Name))
	}
	d.checkMeta("Meta", e.Meta)
	if len(e.Sources) == 0 {
		d.missing("Sources", "at least one")
	}
	type source struct{ peer, name string }
	seen := map[source]bool{}
	for i := range e.Sources {
		at := fmt.Sprintf("Sources[%d]", i)
		s := &e.Sources[i]
		s.finish(d, at)
		s.Precedence = precedence(e.Name, s.Name)
		key := source{s.Peer, s.Name}
		if seen[key] {
			d.errorf(at, "is the second source with Name %s and Peer %s: want one", quote(s.Name), quote(s.Peer))
		}
		seen[key] = true
	}
	slices.SortStableFunc(e.Sources, func(a, b SourceIntention) int { return cmp.Compare(b.Precedence, a.Precedence) })
}

func (s *SourceIntention) finish(d *decoder, at string) {
	const mostDescription = 512
	d.check(at+".Name", checkSource(s.Name, s.Peer))
	if s.Peer != "" {
		d.check(at+".Peer", CheckPeerName(s.Peer))
		if d.passed[at+".Partition"] {
			d.errorf(at+".Partition", "a peer has no partition of ours: want at most one of Peer and Partition")
		}
	}
	switch s.Action {
	case Allow, Deny:
	case "":
		d.missing(at+".Action", "allow or deny")
	default:
		d.errorf(at+".Action", "is %s: want allow or deny", quote(string(s.Action)))
	}
	if len(s.Description) > mostDescription {
		d.errorf(at+".Description", "is %d bytes: want at most %d", len(s.Description), mostDescription)
	}
	s.Type = "consul"
}

// precedence is the number by which Consul orders intentions: the more exact, the higher.
func precedence(destination, source string) int {
	switch {
	case destination != Wildcard && source != Wildcard:
		return 9
	case destination != Wildcard:
		return 8
	case source != Wildcard:
		return 6
	}
	return 5
}
