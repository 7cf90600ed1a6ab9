package snapshot

import (
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/config"
)

// Views derives one view for each registered proxy, connected or not, and every endpoint set that a view or a
// gateway's cluster may name. It follows a World from update to update, and the work follows what changed. It is for
// one goroutine; what it hands out is never written again.
//
// The set gw~<peer>~<service> of envoy.md 5.2 is not derived: it stands for a difference that lasts, and nothing here
// knows the time.
type Views struct {
	graph    *graph
	delta    Delta
	exported exportList

	states       *family[string, peerState]
	sets         *family[setKey, EndpointSet]
	exports      *family[route, export]
	imports      *family[string, gatewayImport]
	upstreams    *family[upstreamSpec, upstream]
	scopes       *family[route, scope]
	inbounds     *family[string, inbound]
	gateways     *family[struct{}, gatewayParts]
	sidecarViews *family[Key, Sidecar]
	gatewayViews *family[Key, MeshGateway]

	pinned map[string]bool // services whose endpoint set is pinned
}

// Delta is what an update changed.
type Delta struct {
	Views     map[ProxyID]View        // nil: the proxy is gone
	Endpoints map[string]*EndpointSet // without endpoints when nobody needs the set any more
}

// NewViews returns Views of a World in which nothing is known.
func NewViews() *Views {
	v := &Views{graph: &graph{world: NewWorld(), readers: map[Key]map[*node]struct{}{}}, pinned: map[string]bool{}}
	v.states = newFamily(rankState, v.peerState)
	v.sets = newFamily(rankState, endpointSet)
	v.exports = newFamily(rankPart, v.export)
	v.imports = newFamily(rankPart, v.gatewayImport)
	v.upstreams = newFamily(rankPart, v.upstream)
	v.scopes = newFamily(rankScope, v.scope)
	v.inbounds = newFamily(rankService, v.inbound)
	v.gateways = newFamily(rankService, v.gatewayParts)
	v.sidecarViews = newFamily(rankView, v.sidecar)
	v.gatewayViews = newFamily(rankView, v.gateway)
	v.sets.settled = func(key setKey, _, set *EndpointSet) {
		if set == nil {
			set = &EndpointSet{Name: key.name()}
		}
		v.delta.Endpoints[key.name()] = set
	}
	v.exports.settled = func(key route, old, fresh *export) { v.exported.note(key, old, fresh) }
	v.sidecarViews.settled = func(_ Key, old, view *Sidecar) { settledView(&v.delta, old, view) }
	v.gatewayViews.settled = func(_ Key, old, view *MeshGateway) { settledView(&v.delta, old, view) }
	v.delta = newDelta()
	v.exported.peers = map[string][]string{}
	v.exported.node = v.gateways.pin(v.graph, struct{}{})
	return v
}

func newDelta() Delta { return Delta{map[ProxyID]View{}, map[string]*EndpointSet{}} }

// settledView notes a view that changed. A proxy that was registered again under another key is not gone, whichever of
// the two is noted first.
func settledView[V any, P interface {
	*V
	View
}](delta *Delta, old, view P) {
	if old != nil && (view == nil || view.ProxyID() != old.ProxyID()) && delta.Views[old.ProxyID()] == nil {
		delta.Views[old.ProxyID()] = nil
	}
	if view != nil {
		delta.Views[view.ProxyID()] = view
	}
}

// Update follows the World to update's and returns what that changed: only views and sets whose content is another one.
func (v *Views) Update(update Update) Delta {
	before, after := v.graph.world, update.World
	v.graph.world = after
	var look lookAt
	if update.All {
		v.graph.touchAll()
		look = v.everything()
	}
	for _, key := range update.Changed {
		for _, noted := range touched(before, after, key) {
			v.graph.touch(noted)
			look.at(noted)
		}
	}
	v.pinProxies(look.instances)
	v.pinSets(look.services)
	v.pinExports(look.exports)
	v.graph.run()
	delta := v.delta
	v.delta = newDelta()
	return delta
}

// A lookAt lists what may have come or gone.
type lookAt struct {
	instances []Key    // keys in TableInstances
	services  []string // whose proxies may have come or gone
	exports   []string // services, or config.Wildcard, whose exports may have
}

func (l *lookAt) at(key Key) {
	switch key.Table {
	case TableInstances:
		l.instances = append(l.instances, key)
	case readProxies:
		l.services = append(l.services, key.Path)
	case readExports, readTypical:
		l.exports = append(l.exports, key.Path)
	}
}

// everything lists all that is there now or was there before.
func (v *Views) everything() lookAt {
	look := lookAt{exports: []string{config.Wildcard}}
	look.instances = slices.AppendSeq(look.instances, maps.Keys(v.sidecarViews.nodes))
	look.instances = slices.AppendSeq(look.instances, maps.Keys(v.gatewayViews.nodes))
	look.services = slices.AppendSeq(look.services, maps.Keys(v.pinned))
	for _, instance := range v.graph.world.Instances("") {
		look.instances = append(look.instances, NewKey(TableInstances, instance.Service.Name, instance.Node, instance.Service.ID))
		if service := standsFor(instance); service != "" {
			look.services = append(look.services, service)
		}
	}
	return look
}

// pinProxies makes a view of each key that is a registered proxy, and drops it of each that is not.
func (v *Views) pinProxies(keys []Key) {
	for _, key := range keys {
		kind := config.KindTypical
		if instance := object[Instance](v.graph.world, key.Table, key.Path); instance != nil {
			kind = instance.Service.Kind
		}
		setPin(v.graph, v.sidecarViews, key, kind == config.KindSidecar)
		setPin(v.graph, v.gatewayViews, key, kind == config.KindMeshGateway)
	}
}

func setPin[V any](g *graph, f *family[Key, V], key Key, want bool) {
	n := f.nodes[key]
	pinned := n != nil && n.refs > 0
	switch {
	case want && !pinned:
		f.pin(g, key)
	case !want && pinned:
		f.unpin(g, key)
	}
}

// pinSets makes the endpoint set of each service that has proxies.
func (v *Views) pinSets(services []string) {
	for _, service := range services {
		want := len(v.graph.world.Proxies(service)) > 0
		switch {
		case want && !v.pinned[service]:
			v.pinned[service] = true
			v.sets.pin(v.graph, setKey{service: service})
		case !want && v.pinned[service]:
			delete(v.pinned, service)
			v.sets.unpin(v.graph, setKey{service: service})
		}
	}
}
