package snapshot

import (
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/config"
)

// maxDenied bounds the names that one scope of one service may deny while it allows everybody else: each costs room in
// the expression that Envoy is sent.
const maxDenied = 1000

// The precedence of an intention, as Consul computes it: the destination counts more than the source.
const (
	exactBoth        = 9
	exactDestination = 8
	exactSource      = 6
	exactNone        = 5
)

// A rules is what the intentions of one destination say of one scope, before it is compiled.
type rules struct {
	exact map[string]verdict // source → what is decided for it
	rest  verdict            // for every other source
}

// A verdict is a decision and the intention that made it. A nil Source is the default policy's.
type verdict struct {
	allow      bool
	source     *config.SourceIntention
	entry      string // name of the entry that holds source
	precedence int
}

// Compile returns who in one scope may call dest: the services of a peer, or with an empty peer those of the local
// cluster. A wildcard source covers its own scope only. When more names are denied than CheckIntentions lets in, nobody
// is admitted.
func Compile(w *World, dest, peer string) Allowed {
	allowed, _ := compile(rulesOf(plain(w), dest, peer))
	return allowed
}

func compile(rules rules) (allowed Allowed, reason string) {
	allowed.AllExcept = rules.rest.allow
	for name, verdict := range rules.exact {
		if verdict.allow != rules.rest.allow {
			allowed.Names = append(allowed.Names, name)
		}
	}
	if allowed.AllExcept && len(allowed.Names) > maxDenied {
		return Allowed{}, fmt.Sprintf("%d denied names beside an allowed rest: want at most %d", len(allowed.Names), maxDenied)
	}
	slices.Sort(allowed.Names)
	return allowed, ""
}

// rulesOf returns what the intentions say of calls to dest from one scope. The intentions of dest itself come first:
// once they hold a wildcard source, those of the wildcard destination are not asked.
func rulesOf(r *reader, dest, peer string) rules {
	rules := rules{exact: map[string]verdict{}}
	if cluster := r.cluster(); cluster != nil {
		rules.rest.allow = cluster.DefaultAllow
	}
	if dest != config.Wildcard && rules.take(r, dest, peer, exactBoth, exactDestination) {
		return rules
	}
	rules.take(r, config.Wildcard, peer, exactSource, exactNone)
	return rules
}

// take adds the sources of one entry to what was taken from those before it, and tells whether one is a wildcard.
func (x *rules) take(r *reader, dest, peer string, exact, wildcard int) (anyone bool) {
	entry, ok := entryOf[*config.ServiceIntentions](r, dest)
	if !ok {
		return false
	}
	found := map[string]verdict{}
	for i := range entry.Sources {
		source := &entry.Sources[i]
		if source.Peer != peer {
			continue
		}
		// Of two that name one source, which no writer lets in, the one that denies counts.
		if previous, twice := found[source.Name]; !twice || previous.allow {
			found[source.Name] = verdict{source.Action == config.Allow, source, dest, exact}
		}
	}
	if rest, ok := found[config.Wildcard]; ok {
		rest.precedence = wildcard
		x.rest, anyone = rest, true
		delete(found, config.Wildcard)
	}
	for name, v := range found {
		if _, taken := x.exact[name]; !taken {
			x.exact[name] = v
		}
	}
	return anyone
}

func (x *rules) decide(source string) verdict {
	if v, ok := x.exact[source]; ok {
		return v
	}
	return x.rest
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
