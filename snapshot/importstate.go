package snapshot

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/config"
)

// An ImportState is how calls to a service of a peer stand, as far as it is known here.
type ImportState struct {
	*Import
	Reason   string   // why it is not dialled; empty: it is
	Chosen   bool     // Reason is what we chose ourselves
	Down     string   // why a call would not get there although it is dialled; empty: it would
	Callers  []string // the services of ours that have it as an upstream, sorted
	Gateways Reach    // of the peer
	Fix      string   // what would mend Reason, else Down
}

// ImportStates returns how everything that peers export to us stands, in the order of peer and service.
func ImportStates(w *World) []ImportState {
	r := plain(w)
	dialled, egress := dialledBy(r), reachOf(r, setKey{})
	gateways := map[string]Reach{}
	var list []ImportState
	for _, imported := range w.Imports("") {
		reach, known := gateways[imported.Peer]
		if !known {
			reach = reachOf(r, setKey{peer: imported.Peer})
			gateways[imported.Peer] = reach
		}
		by := dialled[route{imported.Peer, imported.Service}]
		state := ImportState{Import: imported, Callers: by.callers, Gateways: reach}
		_, state.Reason = routable(r, imported.Service, imported.Peer)
		policy := policyOf(r, imported.Peer)
		state.Chosen = len(policy.Accept) > 0 && !slices.Contains(policy.Accept, imported.Service)
		if state.Reason != "" {
			state.Fix = ImportFix(w, imported.Service, imported.Peer)
		} else if state.Down = reach.Reason; state.Down != "" {
			state.Fix = reach.Fix
		} else if state.Down = noneHealthy(imported); state.Down != "" {
			state.Fix = ImportFix(w, imported.Service, imported.Peer)
		} else if by.local && egress.Reason != "" {
			state.Down, state.Fix = "mode local: "+egress.Reason, egress.Fix
		}
		list = append(list, state)
	}
	return list
}

// callers are the services of ours that dial one of a peer; local: one of them by our own gateways.
type callers struct {
	callers []string
	local   bool
}

// dialledBy returns who dials the services of peers.
func dialledBy(r *reader) map[route]callers {
	found := map[route]callers{}
	for _, sidecar := range r.ofKind(config.KindSidecar) {
		proxy := sidecar.Service.Proxy
		if proxy == nil {
			continue
		}
		for i := range proxy.Upstreams {
			spec, _ := specOf(r, proxy.DestinationServiceName, proxy, &proxy.Upstreams[i])
			if spec.peer == "" {
				continue
			}
			key := route{spec.peer, spec.service}
			by := found[key]
			by.local = by.local || spec.mode == config.ModeLocal
			if at, known := slices.BinarySearch(by.callers, proxy.DestinationServiceName); !known {
				by.callers = slices.Insert(by.callers, at, proxy.DestinationServiceName)
			}
			found[key] = by
		}
	}
	return found
}
