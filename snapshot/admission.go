package snapshot

import "github.com/isthmus-mesh/isthmus/config"

// Admits tells whether anybody of a peer may call a service of ours.
func Admits(w *World, service, peer string) bool { return !Compile(w, service, peer).Empty() }

// AllowAll returns the scopes in which the intentions let everybody call every service: peers, or an empty name for the
// local cluster.
func AllowAll(w *World) []string {
	entry, ok := EntryOf[*config.ServiceIntentions](w, config.Wildcard)
	if !ok {
		return nil
	}
	var scopes []string
	for _, source := range entry.Sources {
		if source.Name == config.Wildcard && source.Action == config.Allow {
			scopes = append(scopes, source.Peer)
		}
	}
	return scopes
}
