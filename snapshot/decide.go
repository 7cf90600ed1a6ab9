package snapshot

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/config"
)

// A Decision is what the intentions say of one call.
type Decision struct {
	Allowed bool
	// By is the source that decided, in the service-intentions entry Entry. Nil: no intention is about this call, and the
	// default policy decided.
	By         *config.SourceIntention
	Entry      string
	Precedence int // 9, 8, 6 or 5 as Consul counts; 0 for the default policy
}

// Default tells whether no intention is about the call.
func (d Decision) Default() bool { return d.By == nil }

// Decide tells whether source, a service of a peer or with an empty peer of the local cluster, may call dest. It asks
// for intentions only: whether dest is exported to the peer at all is another question, see ExportReason.
func Decide(w *World, source, peer, dest string) Decision {
	v := rulesOf(plain(w), dest, peer).decide(source)
	return Decision{Allowed: v.allow, By: v.source, Entry: v.entry, Precedence: v.precedence}
}

// decide returns the verdict on one source.
func (x rules) decide(source string) verdict {
	if v, ok := x.exact[source]; ok {
		return v
	}
	return x.rest
}

// An Intention is one source of one entry, as Consul lists it.
type Intention struct {
	*config.SourceIntention
	Destination string
	Entry       *Entry
	Precedence  int // computed here, whatever SourceIntention holds
}

// Match returns the intentions that are about calls to dest, whoever calls, in the order in which Consul asks them: the
// higher precedence first, then by peer, source and destination.
func Match(w *World, dest string) []Intention {
	names := []string{dest, config.Wildcard}
	return match(w, slices.Compact(names), func(*config.SourceIntention) bool { return true })
}

// MatchSource returns the intentions that are about calls of a source of a peer, or with an empty peer of the local
// cluster, whomever it calls, in the order of Match.
func MatchSource(w *World, source, peer string) []Intention {
	var names []string
	for _, entry := range w.Entries(config.KindServiceIntentions) {
		names = append(names, entry.Value.EntryName())
	}
	return match(w, names, func(s *config.SourceIntention) bool {
		return s.Peer == peer && (s.Name == source || s.Name == config.Wildcard)
	})
}

func match(w *World, destinations []string, about func(*config.SourceIntention) bool) []Intention {
	var found []Intention
	for _, dest := range destinations {
		intentions, ok := EntryOf[*config.ServiceIntentions](w, dest)
		if !ok {
			continue
		}
		entry := w.Entry(config.KindServiceIntentions, dest)
		for i := range intentions.Sources {
			if source := &intentions.Sources[i]; about(source) {
				found = append(found, Intention{source, dest, entry, precedence(source.Name, dest)})
			}
		}
	}
	slices.SortFunc(found, func(a, b Intention) int {
		return cmp.Or(cmp.Compare(b.Precedence, a.Precedence), cmp.Compare(a.Peer, b.Peer),
			cmp.Compare(a.Name, b.Name), cmp.Compare(a.Destination, b.Destination))
	})
	return found
}

// precedence returns what Consul computes from which of the two names are wildcards.
func precedence(source, dest string) int {
	switch {
	case source != config.Wildcard && dest != config.Wildcard:
		return exactBoth
	case dest != config.Wildcard:
		return exactDestination
	case source != config.Wildcard:
		return exactSource
	}
	return exactNone
}

// CheckIntentions refuses an entry that, once written, would deny more names of one scope than can be compiled, for its
// own destination or, when that is the wildcard, for any.
func CheckIntentions(w *World, e *config.ServiceIntentions) error {
	after := plain(w.With(w.Index, []Event{{Key: NewKey(TableEntries, e.EntryKind(), e.Name), Object: &Entry{Value: e}}}))
	destinations := []string{e.Name}
	if e.Name == config.Wildcard {
		for _, other := range w.Entries(config.KindServiceIntentions) {
			destinations = append(destinations, other.Value.EntryName())
		}
	}
	scopes := map[string]bool{}
	for i := range e.Sources {
		scopes[e.Sources[i].Peer] = true
	}
	for _, dest := range destinations {
		for _, scope := range slices.Sorted(maps.Keys(scopes)) {
			if _, reason := compile(rulesOf(after, dest, scope)); reason != "" {
				return fmt.Errorf("service-intentions %s: sources of %s: %s", dest, scopeName(scope), reason)
			}
		}
	}
	return nil
}

func scopeName(peer string) string {
	if peer == "" {
		return "the local cluster"
	}
	return "peer " + peer
}
