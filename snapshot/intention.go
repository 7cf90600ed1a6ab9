package snapshot

import (
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/config"
)

// maxDenied and maxDeniedBytes bound the names that one scope of one service may deny while it allows everybody else:
// they become one expression, see sni.ComplementPattern, and Envoy's RE2 refuses one of more than about 60,000 bytes of
// names.
const (
	maxDenied      = 1000
	maxDeniedBytes = 40_000
)

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
	size := 0
	for _, name := range allowed.Names {
		size += len(name)
	}
	if allowed.AllExcept && (len(allowed.Names) > maxDenied || size > maxDeniedBytes) {
		return Allowed{}, fmt.Sprintf("%d denied names of %d bytes while others are allowed: want at most %d names of %d bytes",
			len(allowed.Names), size, maxDenied, maxDeniedBytes)
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
	if dest != config.Wildcard && rules.take(r, dest, peer) {
		return rules
	}
	rules.take(r, config.Wildcard, peer)
	return rules
}

// take adds the sources of one entry to what was taken from those before it, and tells whether one is a wildcard.
func (x *rules) take(r *reader, dest, peer string) (anyone bool) {
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
			found[source.Name] = verdict{source.Action == config.Allow, source, dest, precedence(source.Name, dest)}
		}
	}
	if rest, ok := found[config.Wildcard]; ok {
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
