package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// export judges one export: somebody must answer behind it. That nobody may call yet is worth knowing.
func (f *findings) export(e api.ExportStatus, peers []api.PeerStatus) {
	check := fmt.Sprintf("%s is exported to %s", e.Service, e.Peer)
	problem := cmp.Or(e.Reason, e.Down)
	if !e.Exported {
		problem = cmp.Or(problem, "the server does not say why")
	}
	if problem != "" {
		f.is(check, problem, cmp.Or(e.Fix, "isthmus config read --kind exported-services --name default"))
		return
	}
	at := slices.IndexFunc(peers, func(p api.PeerStatus) bool { return p.Name == e.Peer })
	if at >= 0 && (peers[at].State == snapshot.Pending || peers[at].State == snapshot.Establishing) {
		f.warn(check, fmt.Sprintf("peer %s is %s", e.Peer, peers[at].State), cmp.Or(peers[at].Fix, "isthmus peering read --name "+e.Peer))
		return
	}
	f.is(check, "", "")
	if !e.Admits {
		f.warn(fmt.Sprintf("%s may call %s", e.Peer, e.Service), "no intention lets anybody of "+e.Peer+" in", e.Fix)
	}
}

// imports judges what peers export to us: what a service of ours dials must be reached. What nobody dials stops nobody,
// and what our own policy leaves out is meant so.
func (f *findings) imports(imports []api.ImportStatus) {
	refused := map[string]bool{}
	for _, i := range imports {
		check := fmt.Sprintf("%s of peer %s is routable", i.Service, i.Peer)
		problem := cmp.Or(i.Reason, i.Down)
		if !i.Routable {
			problem = cmp.Or(problem, "the server does not say why")
		}
		fix := cmp.Or(i.Fix, "isthmus peering read --name "+i.Peer)
		switch {
		case problem == "":
			f.is(check, "", "")
		case len(i.Callers) > 0:
			f.is(check, problem+"; "+strings.Join(i.Callers, ", ")+" cannot call it", fix)
		case !i.Expected:
			f.warn(check, problem, fix)
		}
		if i.Down == "" && len(i.Refused) > 0 && !refused[i.Peer] {
			refused[i.Peer] = true
			f.warn("all gateways of peer "+i.Peer+" are dialled", strings.Join(i.Refused, "; "),
				fmt.Sprintf("peer-policy %s: AllowAddresses, if %s means these addresses", i.Peer, i.Peer))
		}
	}
}

// leftOut judges what a proxy is not told. A sidecar that cannot dial what it is registered to dial is wrong; the rest
// stops nobody else. What an export, an import or the proxy itself was judged by is not said twice.
func (f *findings) leftOut(p api.Proxy, s api.Status) {
	for _, skipped := range p.Skipped {
		switch {
		case skipped.Expected, judged(skipped, s), p.Kind == config.KindMeshGateway && p.NotListening != "" && strings.Contains(skipped.Reason, p.NotListening):
		case p.Kind == config.KindSidecar && skipped.Kind == "service" && strings.HasPrefix(skipped.Reason, "upstream: "):
			f.is(fmt.Sprintf("%s can call %s", p.Service, target(skipped)), strings.TrimPrefix(skipped.Reason, "upstream: "), skipped.Fix)
		default:
			f.warn(fmt.Sprintf("proxy %s follows", p.ID), fmt.Sprintf("without %s/%s: %s", skipped.Kind, skipped.Name, skipped.Reason), skipped.Fix)
		}
	}
}

func target(skipped api.SkippedStatus) string {
	if skipped.Peer == "" {
		return skipped.Name
	}
	return skipped.Name + " of peer " + skipped.Peer
}

// judged tells whether an export or an import that is wrong has said it.
func judged(skipped api.SkippedStatus, s api.Status) bool {
	return slices.ContainsFunc(s.Exports, func(e api.ExportStatus) bool {
		return !e.Exported && strings.HasPrefix(skipped.Reason, fmt.Sprintf("export %s to %s: ", e.Service, e.Peer))
	}) || slices.ContainsFunc(s.Imports, func(i api.ImportStatus) bool {
		return !i.Routable && len(i.Callers) > 0 && skipped.Kind == "service" && skipped.Name == i.Service && skipped.Peer == i.Peer
	})
}
