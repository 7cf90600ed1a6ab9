package snapshot

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
)

// peer explains whether there is a peering, and with what is known of it right now, how it goes. A peer that is away stops
// no call: proxies go on with what they were told.
func (x *explainer) peer(name string) {
	fix := PeerFix(x.r.world, name)
	if reason := use(x.r, x.v.states, name).Reason; reason != "" {
		x.add("peer", Failed, reason, fix)
		return
	}
	if x.live == nil || x.live.Peer.State == "" || x.live.Peer.State == Active && !x.live.Peer.Stale {
		x.add("peer", Passed, "peer "+name+" is established", "")
		return
	}
	now := x.live.Peer
	reason := fmt.Sprintf("peer %s is %s, %s", name, now.State, now.heard())
	if now.Reason != "" {
		reason += ": " + now.Reason
	}
	if now.Stale {
		reason += "; its imports are from an earlier session"
	}
	x.add("peer", Warned, reason, fix)
}

// heard says when the peer last proved that it is there.
func (s *PeerStatus) heard() string {
	if s.LastRoundTrip.IsZero() {
		return "not heard of since this server started"
	}
	return "heard of last at " + s.LastRoundTrip.UTC().Format(time.RFC3339)
}

// upstream explains where the caller dials.
func (x *explainer) upstream() upstreamSpec {
	target := x.Destination
	if x.DestinationPeer != "" {
		target += " of peer " + x.DestinationPeer
	}
	spec, found := upstreamSpec{peer: x.DestinationPeer, service: x.Destination, bind: Bind{"127.0.0.1", 1}, mode: config.ModeRemote}, false
	problem := ""
	for _, instance := range x.r.proxies(x.Source) {
		proxy := instance.Service.Proxy
		if proxy == nil {
			continue
		}
		for i := range proxy.Upstreams {
			upstream := &proxy.Upstreams[i]
			if upstream.DestinationName != x.Destination || upstream.DestinationPeer != x.DestinationPeer {
				continue
			}
			decided, reason := specOf(x.r, x.Source, proxy, upstream)
			if reason == "" {
				reason = x.taken(instance, decided)
			}
			if problem = reason; reason == "" {
				spec, found = decided, true
			}
		}
	}
	switch {
	case found:
		x.add("upstream", Passed, fmt.Sprintf("%s dials %s at %s", x.Source, target, spec.bind), "")
	case problem != "":
		x.add("upstream", Failed, problem, upstreamFix(x.Destination, x.DestinationPeer))
	default:
		x.add("upstream", Failed, fmt.Sprintf("no sidecar of %s has %s as an upstream", x.Source, target), upstreamFix(x.Destination, x.DestinationPeer))
	}
	return spec
}

// taken tells why a sidecar has no listener for an upstream that could be served: something else has its address.
func (x *explainer) taken(instance *Instance, spec upstreamSpec) string {
	view := use(x.r, x.v.sidecarViews, NewKey(TableInstances, instance.Service.Name, instance.Node, instance.Service.ID))
	if view == nil || use(x.r, x.v.upstreams, spec).Part == nil ||
		slices.ContainsFunc(view.Upstreams, func(u *Upstream) bool { return u.Service == spec.service && u.Peer == spec.peer }) {
		return ""
	}
	for _, skipped := range view.Skipped {
		if skipped.Origin == (Origin{"service", spec.service, spec.peer}) {
			return skipped.Reason
		}
	}
	return ""
}

func upstreamFix(service, peer string) string {
	fix := `upstreams = [{ destination_name = "` + service + `"`
	if peer != "" {
		fix += `, destination_peer = "` + peer + `"`
	}
	return fix + `, local_bind_port = 9000 }] in the proxy block of the sidecar`
}

// imported explains what we have of a peer's service, and which gateways are dialled for it.
func (x *explainer) imported(spec upstreamSpec) {
	x.peer(spec.peer)
	imported, reason := routable(x.r, spec.service, spec.peer)
	if reason == "" {
		reason = noneHealthy(imported)
	}
	x.judge("import", reason, fmt.Sprintf("peer %s exports %s to us", spec.peer, spec.service), ImportFix(x.r.world, spec.service, spec.peer))
	if spec.mode == config.ModeLocal {
		x.endpoints(setKey{})
		reason := strings.Join(reasons(use(x.r, x.v.imports, spec.peer).Skipped), "; ")
		x.judge("gateway", reason, "mode local: our gateways pass it on", PeerFix(x.r.world, spec.peer))
		x.envoys("mesh gateways", x.r.ofKind(config.KindMeshGateway), EgressParts(spec.peer))
	}
	x.endpoints(setKey{peer: spec.peer})
}

// noneHealthy tells that a peer says of all instances of a service that they are not healthy.
func noneHealthy(imported *Import) string {
	for i := range imported.Instances {
		if serving(imported.Instances[i].Health) {
			return ""
		}
	}
	if len(imported.Instances) == 0 {
		return "" // it need not tell
	}
	return fmt.Sprintf("peer %s says that none of the %d instances of %s is healthy", imported.Peer, len(imported.Instances), imported.Service)
}

// endpoints explains a set of addresses: some must be healthy.
func (x *explainer) endpoints(key setKey) {
	reach := reachOf(x.r, key)
	switch {
	case reach.Reason != "":
		x.add("endpoints", Failed, reach.Reason, reach.Fix)
	case len(reach.Left) > 0:
		x.add("endpoints", Warned, reach.in(key.words()), reach.Fix)
	default:
		x.add("endpoints", Passed, reach.in(key.words()), "")
	}
}

func reasons(skipped []Skipped) []string {
	var list []string
	for _, s := range skipped {
		list = append(list, s.Reason)
	}
	return list
}

func (x *explainer) export() {
	reason := exportReason(x.r, x.Destination, x.SourcePeer)
	x.judge("export", reason, fmt.Sprintf("%s is exported to %s", x.Destination, x.SourcePeer),
		ExportFix(x.r.world, x.Destination, x.SourcePeer, reason))
}

// gateway explains whether a peer finds a door of ours.
func (x *explainer) gateway() {
	reason := ""
	serving := listening(x.r)
	if serving == 0 {
		reason = "no mesh gateway with an address to listen at is registered"
	}
	x.judge("gateway", reason, fmt.Sprintf("mesh gateways registered: %d", serving), GatewayFix)
	x.envoys("mesh gateways", x.r.ofKind(config.KindMeshGateway), IngressParts(x.Destination, x.SourcePeer))
}

func (x *explainer) intention() {
	decision := Decide(x.r.world, x.Source, x.SourcePeer, x.Destination)
	reason := fmt.Sprintf("no intention is about it, and the default policy is %s", actionOf(decision.Allowed))
	if by := decision.By; by != nil {
		reason = fmt.Sprintf("service-intentions %s: source %s of %s: %s (precedence %d)",
			decision.Entry, by.Name, scopeName(by.Peer), by.Action, decision.Precedence)
	}
	verdict := Passed
	if !decision.Allowed {
		verdict = Failed
	}
	x.add("intention", verdict, reason, IntentionFix(x.Source, x.SourcePeer, x.Destination))
}

func actionOf(allowed bool) config.Action {
	if allowed {
		return config.Allow
	}
	return config.Deny
}

// chain explains whether the destination's sidecars take calls of this scope at all.
func (x *explainer) chain() {
	scope := use(x.r, x.v.scopes, route{x.SourcePeer, x.Destination})
	passed := ""
	if scope.Chain != nil {
		passed = "sidecars take server name " + scope.Chain.ServerName
	}
	fix := ""
	for _, step := range x.Steps {
		if step.Verdict == Failed && fix == "" {
			fix = step.Fix
		}
	}
	x.judge("chain", strings.Join(reasons(scope.Skipped), "; "), passed, fix)
}
