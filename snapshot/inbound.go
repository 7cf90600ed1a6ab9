package snapshot

import (
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/sni"
)

// A route is one service as one peer sees it, or with an empty peer the local cluster.
type route struct{ peer, service string }

// peerState is what parts need to know of one peer, or with an empty name of ourselves: its bundle, or why nothing of it
// may enter a view.
type peerState struct {
	Bundle  *Bundle
	Reason  string
	Awaited bool // the reason is that the peer has not come yet
}

func (v *Views) peerState(r *reader, name string) *peerState {
	cluster := r.cluster()
	if cluster == nil || cluster.TrustDomain == "" {
		return &peerState{Reason: "who we are is not known yet"}
	}
	if name == "" {
		roots := r.roots()
		if roots == nil || len(roots.Roots) == 0 {
			return &peerState{Reason: "our own roots are not known yet"}
		}
		return &peerState{Bundle: &Bundle{TrustDomain: cluster.TrustDomain, Roots: sorted(roots.Roots)}}
	}
	peer := r.peer(name)
	if reason := unusable(peer, cluster); reason != "" {
		return &peerState{Reason: reason, Awaited: awaited(peer)}
	}
	return &peerState{Bundle: &Bundle{Peer: name, TrustDomain: peer.TrustDomain, Roots: sorted(peer.Roots)}}
}

// unusable tells why nothing of a peer may enter a view, and is empty when it may.
func unusable(peer *Peer, cluster *Cluster) string {
	switch {
	case peer == nil:
		return "no such peer"
	case peer.Name == local:
		return "a peer cannot be called local, which stands for the own cluster"
	case gone(peer) != "":
		return gone(peer)
	case !peer.Usable():
		return "the peering is not established yet: want the peer's trust bundle"
	case strings.EqualFold(peer.TrustDomain, cluster.TrustDomain):
		return "the peer claims our own trust domain"
	}
	return ""
}

// gone tells that a peering will not be used any more.
func gone(peer *Peer) string {
	switch peer.State {
	case Deleting:
		return "the peering is being deleted"
	case Terminated:
		return "the peer ended the peering"
	}
	return ""
}

// awaited tells whether nothing is wrong with a peer that is not usable: the other side's turn has come.
func awaited(peer *Peer) bool {
	return peer != nil && !peer.Usable() && gone(peer) == "" && peer.Problem == ""
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// A scope is how a service is called from one peer or from the local cluster: by a chain and who may use it, or not at
// all and why.
type scope struct {
	Chain   *InboundChain
	Authz   *Authz
	Skipped []Skipped
}

func (v *Views) scope(r *reader, key route) *scope {
	state := use(r, v.states, key.peer)
	if state.Bundle == nil {
		return &scope{Skipped: []Skipped{{
			Origin: Origin{"service", key.service, key.peer}, Reason: "chain for " + scopeName(key.peer) + ": " + state.Reason, Expected: state.Awaited,
		}}}
	}
	name := ""
	if key.peer == "" {
		cluster := r.cluster()
		name = localName(cluster, key.service)
		if _, err := sni.ParseLocal(name); err != nil {
			return &scope{Skipped: []Skipped{{Origin: Origin{"service", key.service, ""}, Reason: err.Error()}}}
		}
	} else {
		export := use(r, v.exports, key)
		if export.Part == nil {
			return &scope{Skipped: export.Skipped}
		}
		name = export.Part.ServerName
	}
	rules := rulesOf(r, key.service, key.peer)
	allowed, reason := compile(rules)
	origin := rules.origin(key)
	if allowed.Empty() {
		skipped := Skipped{Origin: origin, Reason: reason}
		if reason == "" {
			skipped.Reason = "no intention lets a service of " + scopeName(key.peer) + " call " + key.service
			skipped.Expected = true // of an export, status says it with the export
		}
		return &scope{Skipped: []Skipped{skipped}}
	}
	authz := &Authz{
		Origin: origin, Name: AuthzName(key.service, key.peer), Peer: key.peer, Service: key.service,
		TrustDomain: state.Bundle.TrustDomain, Partition: "default", Roots: state.Bundle.Roots, Allowed: allowed,
	}
	chain := &InboundChain{
		Origin: origin, Peer: key.peer, Service: key.service, ServerName: name, AuthzName: authz.Name,
		TLSMin13: r.cluster().TLSMin13,
	}
	if defaults, ok := entryOf[*config.ServiceDefaults](r, key.service); ok {
		chain.MaxConnections = defaults.MaxInboundConnections
	}
	return &scope{Chain: chain, Authz: authz}
}

// origin returns the entry that speaks first of a scope: the destination's own intentions, else those of the wildcard,
// else, when the default policy alone decides, the export or the service.
func (x *rules) origin(key route) Origin {
	entry := x.rest.entry
	for _, v := range x.exact {
		if entry == "" || v.entry == key.service {
			entry = v.entry
		}
	}
	switch {
	case entry != "":
		return Origin{config.KindServiceIntentions, entry, key.peer}
	case key.peer != "":
		return Origin{config.KindExportedServices, "default", key.peer}
	}
	return Origin{"service", key.service, ""}
}

// An inbound is every way in to a service, the same for each of its sidecars.
type inbound struct {
	Chains  []*InboundChain
	Authz   []*Authz
	Skipped []Skipped
}

func (v *Views) inbound(r *reader, service string) *inbound {
	all := &inbound{}
	for _, peer := range append([]string{""}, exportPeers(r, service)...) {
		scope := use(r, v.scopes, route{peer, service})
		all.Skipped = append(all.Skipped, scope.Skipped...)
		if scope.Chain != nil {
			all.Chains, all.Authz = append(all.Chains, scope.Chain), append(all.Authz, scope.Authz)
		}
	}
	return all
}

func localName(cluster *Cluster, service string) string {
	return sni.Local{
		Service: service, Namespace: "default", Datacenter: cluster.Datacenter, TrustDomain: cluster.TrustDomain,
	}.String()
}

func localIdentity(cluster *Cluster, service string) string {
	return sni.ServiceID{
		TrustDomain: cluster.TrustDomain, Partition: "default", Namespace: "default", Datacenter: cluster.Datacenter, Service: service,
	}.String()
}
