package snapshot

import (
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/config"
)

// Live is what only the running parts know of a call. Whoever asks why gathers it: it is no part of a World.
type Live struct {
	Proxies map[ProxyID]LiveProxy // one that is not among them is not connected
	Peer    PeerStatus            // of the call's peer, if it has one
}

// A LiveProxy is what is known of one Envoy.
type LiveProxy struct {
	Connected bool
	Synced    bool // it has acknowledged all that it was sent
	// LeftOut names the authorization secrets whose chains it goes without, since it did not take a revocation.
	LeftOut []string
	Refused []Refusal
}

// A Refusal is what an Envoy said of a part that it goes without.
type Refusal struct {
	Part  string // name of a resource, or of a listener's chain, as package xds/envoy makes them
	Error string
}

// The parts of an Envoy that a call passes, as package xds/envoy names them.

// InboundParts are those of a sidecar whose service is called from a peer, or from the local cluster.
func InboundParts(service, peer string) []string {
	end := service + "~default~" + orLocal(peer)
	return []string{"in", "app", "leaf", "peer~" + orLocal(peer), AuthzName(service, peer), "rbac~" + end}
}

// OutboundParts are those of a sidecar that dials a service of a peer, or of the local cluster.
func OutboundParts(service, peer string) []string {
	return []string{"leaf", BundleName(peer), "out~" + orLocal(peer) + "~" + service + "~default"}
}

// IngressParts are those of a gateway that passes the calls of a peer on to a service.
func IngressParts(service, peer string) []string {
	return []string{"gw-ingress", "exp~" + peer + "~" + service + "~default"}
}

// EgressParts are those of a gateway that passes calls on to a peer.
func EgressParts(peer string) []string { return []string{"gw-egress", "imp~" + peer} }

// callers explains whether the caller has sidecars, and how they are.
func (x *explainer) callers() {
	sidecars := slices.DeleteFunc(x.r.proxies(x.Source), func(i *Instance) bool { return i.Service.Proxy == nil })
	if len(sidecars) == 0 {
		x.add("sidecar", Failed, x.Source+" has no sidecar", registerFix(x.r.world, x.Source))
		return
	}
	x.envoys("sidecars of "+x.Source, sidecars, OutboundParts(x.Destination, x.DestinationPeer))
}

// sidecars explains how the Envoys of the destination are.
func (x *explainer) sidecars() {
	x.envoys("sidecars of "+x.Destination, x.r.proxies(x.Destination), InboundParts(x.Destination, x.SourcePeer))
}

// shownProxies is how many proxies that do not serve a call are shown one by one.
const shownProxies = 5

// envoys explains whether the Envoys of some instances are there, and took the parts that the call passes. One of them is
// enough for a call; instances that are no proxies speak for themselves.
func (x *explainer) envoys(who string, instances []*Instance, parts []string) {
	if x.live == nil {
		return
	}
	var bad []Step
	proxies, serves := 0, 0
	for _, instance := range instances {
		if instance.Service.Kind != config.KindTypical {
			proxies++
			if problem := x.envoy(instance, parts); problem.Reason != "" {
				bad = append(bad, problem)
				continue
			}
		}
		if serving(instanceHealth(x.r, instance)) {
			serves++
		}
	}
	if good := proxies - len(bad); good > 0 {
		x.add("proxy", Passed, fmt.Sprintf("%d of %d %s connected, with all that this call needs", good, proxies, who), "")
	}
	for i, step := range bad {
		if serves > 0 {
			step.Verdict = Warned
		}
		if i == shownProxies {
			step.Reason, step.Fix = fmt.Sprintf("%d more of the %s", len(bad)-i, who), "isthmus proxies"
		}
		x.Steps = append(x.Steps, step)
		if i == shownProxies {
			return
		}
	}
}

// envoy returns what keeps the Envoy of one instance from serving a call; without a reason when nothing does.
func (x *explainer) envoy(instance *Instance, parts []string) Step {
	own := ""
	if cluster := x.r.cluster(); cluster != nil {
		own = cluster.NodeName
	}
	id := instance.ProxyID(own)
	step := func(verdict Verdict, reason, fix string) Step {
		return Step{"proxy", verdict, string(id) + " " + reason, fix}
	}
	takes := slices.Contains(parts, "in") || slices.Contains(parts, "gw-ingress")
	if reason := NotListening(x.r.world, instance); takes && reason != "" {
		return step(Failed, "has nowhere to listen: "+reason, ListenFix(id))
	}
	now := x.live.Proxies[id]
	for _, refusal := range now.Refused {
		if slices.Contains(parts, refusal.Part) {
			return step(Failed, "has refused "+refusal.Part+": "+refusal.Error, "mend what Envoy says; isthmus proxies shows whether it has taken it")
		}
	}
	for _, name := range now.LeftOut {
		if slices.Contains(parts, name) {
			return step(Failed, "goes without its chain, since it has not taken a revocation: "+name, "start its Envoy anew: "+StartFix(id))
		}
	}
	switch {
	case !now.Connected:
		return step(Failed, "is not connected: its Envoy is gone, or cannot reach this server", StartFix(id))
	case !now.Synced:
		return step(Warned, "has not acknowledged all that it was sent", "isthmus proxies, in a moment")
	}
	return Step{}
}
