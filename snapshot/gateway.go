package snapshot

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/sni"
)

// An export is a service as a peer dials it through our gateways, or why it cannot.
type export struct {
	Part      *GatewayExport
	MixedCase bool // Part's service has a name with upper case
	Skipped   []Skipped
}

func (v *Views) export(r *reader, key route) *export {
	origin := Origin{config.KindExportedServices, "default", key.peer}
	skip := func(reason string) *export {
		return &export{Skipped: []Skipped{{Origin: origin, Reason: fmt.Sprintf("export %s to %s: %s", key.service, key.peer, reason)}}}
	}
	if reason := exportReason(r, key.service, key.peer); reason != "" {
		return skip(reason)
	}
	if state := use(r, v.states, key.peer); state.Bundle == nil {
		left := skip(state.Reason)
		left.Skipped[0].Expected = state.Awaited
		return left
	}
	keep(r, v.sets, setKey{service: key.service})
	name := sni.Peered{
		Service: key.service, Namespace: "default", Partition: "default", Peer: key.peer, TrustDomain: r.cluster().TrustDomain,
	}
	if _, err := sni.ParsePeered(name.String()); err != nil {
		return skip(err.Error())
	}
	part := &GatewayExport{
		Origin: origin, Peer: key.peer, Service: key.service, ServerName: name.String(), Endpoints: EndpointsOf(key.service),
	}
	return &export{Part: part, MixedCase: strings.ToLower(key.service) != key.service}
}

// A gatewayImport is everything of a peer that our gateways pass on in mode local, or why they do not.
type gatewayImport struct {
	Part    *GatewayImport
	Skipped []Skipped
}

func (v *Views) gatewayImport(r *reader, name string) *gatewayImport {
	origin := Origin{"peering", name, name}
	state := use(r, v.states, name)
	if state.Bundle == nil {
		return &gatewayImport{Skipped: []Skipped{{Origin: origin, Reason: "import from " + name + ": " + state.Reason, Expected: state.Awaited}}}
	}
	keep(r, v.sets, setKey{peer: name})
	ourName := r.peer(name).OurName
	if ourName == "" {
		return &gatewayImport{Skipped: []Skipped{{Origin: origin, Reason: "import from " + name + ": the peer has not exported anything yet", Expected: true}}}
	}
	return &gatewayImport{Part: &GatewayImport{
		Origin: origin, Peer: name, ServerNames: sni.Egress(ourName, state.Bundle.TrustDomain), Endpoints: EndpointsOfPeer(name),
	}}
}

// gatewayParts is what all our gateways have in common.
type gatewayParts struct {
	Exports []*GatewayExport
	Imports []*GatewayImport
	Skipped []Skipped
}

func (v *Views) gatewayParts(r *reader, _ struct{}) *gatewayParts {
	keep(r, v.sets, setKey{})
	parts := &gatewayParts{}
	exports, skipped := v.exported.list()
	parts.Exports, parts.Skipped = exports, slices.Clone(skipped)
	parts.addImports(r, v)
	return parts
}

// addImports adds what mode local needs. Two peers that would share server names, which no honest pair does, are not
// both served.
func (p *gatewayParts) addImports(r *reader, v *Views) {
	names := map[string]string{}
	for _, peer := range r.peers() {
		imported := use(r, v.imports, peer)
		p.Skipped = append(p.Skipped, imported.Skipped...)
		if imported.Part == nil {
			continue
		}
		if first, taken := names[imported.Part.ServerNames]; taken {
			reason := fmt.Sprintf("import from %s: %s is already peer %s", peer, imported.Part.ServerNames, first)
			p.Skipped = append(p.Skipped, Skipped{Origin: imported.Part.Origin, Reason: reason})
			continue
		}
		names[imported.Part.ServerNames] = peer
		p.Imports = append(p.Imports, imported.Part)
	}
}

// gateway returns the view of one mesh gateway, or nil when the instance of key is none.
func (v *Views) gateway(r *reader, key Key) *MeshGateway {
	instance, cluster := r.instance(key), r.cluster()
	if instance == nil || cluster == nil || instance.Service.Kind != config.KindMeshGateway {
		return nil
	}
	view := &MeshGateway{ID: instance.ProxyID(cluster.NodeName)}
	view.bindGateway(instance)
	parts := use(r, v.gateways, struct{}{})
	view.Exports, view.Imports = parts.Exports, parts.Imports
	view.Skipped = append(view.Skipped, parts.Skipped...)
	slices.SortFunc(view.Skipped, compareSkipped)
	return view
}
