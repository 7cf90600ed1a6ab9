package peering

import (
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// protocolTCP is the only protocol that is exported and routed.
const protocolTCP = "tcp"

// never is the service that no cluster exports: its own servers.
const never = "consul"

// followEntry applies the difference between the exported-services entry and the one before. An edit in the middle of
// thousands of lines costs comparing them, and work for those that differ only.
func (e *exporter) followEntry(changes *exportChanges) {
	var next []config.ExportedService
	if entry, ok := snapshot.EntryOf[*config.ExportedServices](e.world, "default"); ok {
		next = entry.Services
	}
	before, after := e.entry, next
	same := func(a, b config.ExportedService) bool {
		return a.Name == b.Name && slices.Equal(a.Consumers, b.Consumers)
	}
	for len(before) > 0 && len(after) > 0 && same(before[0], after[0]) {
		before, after = before[1:], after[1:]
	}
	for len(before) > 0 && len(after) > 0 && same(before[len(before)-1], after[len(after)-1]) {
		before, after = before[:len(before)-1], after[:len(after)-1]
	}
	e.entry = next
	for _, service := range before {
		e.name(service, -1, changes)
	}
	for _, service := range after {
		e.name(service, +1, changes)
	}
}

// name adds or takes back what one item of the entry says.
func (e *exporter) name(service config.ExportedService, by int, changes *exportChanges) {
	counts := e.everyone
	if service.Name != config.Wildcard {
		if e.named[service.Name] == nil {
			e.named[service.Name] = map[string]int{}
		}
		counts = e.named[service.Name]
		changes.touch(service.Name)
	}
	for _, consumer := range service.Consumers {
		if counts[consumer.Peer] += by; counts[consumer.Peer] == 0 {
			delete(counts, consumer.Peer)
		}
	}
	if service.Name != config.Wildcard {
		if len(counts) == 0 {
			delete(e.named, service.Name)
		}
		return
	}
	for known := range e.services {
		changes.touch(known)
	}
	e.touchInstances(changes)
}

// refresh looks at one service again: who may import it, and where it runs.
func (e *exporter) refresh(service string, changes *exportChanges) {
	before := e.services[service]
	after := e.look(service)
	for peer := range before.peers {
		if _, still := after.peers[peer]; before.reason == "" && (!still || after.reason != "") {
			changes.list(peer).removed[service] = struct{}{}
		}
	}
	for peer := range after.peers {
		if _, already := before.peers[peer]; after.reason == "" && (!already || before.reason != "") {
			change := changes.list(peer)
			change.added = append(change.added, service)
		}
	}
	for _, node := range before.nodes {
		delete(e.onNode[node], service)
		if len(e.onNode[node]) == 0 {
			delete(e.onNode, node)
		}
	}
	if len(after.peers) == 0 {
		delete(e.services, service)
		return
	}
	for _, node := range after.nodes {
		if e.onNode[node] == nil {
			e.onNode[node] = map[string]struct{}{}
		}
		e.onNode[node][service] = struct{}{}
	}
	e.services[service] = after
}

// look finds what there is to know of one service.
func (e *exporter) look(service string) exported {
	found := exported{peers: map[string]struct{}{}}
	if service == never {
		return found
	}
	for peer := range e.named[service] {
		found.peers[peer] = struct{}{}
	}
	instances := typical(e.world, service)
	if len(instances) > 0 {
		for peer := range e.everyone {
			found.peers[peer] = struct{}{}
		}
	}
	if len(found.peers) == 0 {
		return found
	}
	found.reason = exportable(e.world, service)
	for _, instance := range instances {
		found.nodes = append(found.nodes, instance.Node)
	}
	for _, proxy := range e.world.Proxies(service) {
		e.proxies[proxyKey{proxy.Node, proxy.Service.ID}] = service
	}
	return found
}

// notExported returns the services that an entry exports to a peer and that do not, or not fully, get there, and why.
func (e *exporter) notExported(peer string) map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	reasons := map[string]string{}
	if e.world == nil {
		return reasons
	}
	for service, found := range e.services {
		if _, imports := found.peers[peer]; !imports {
			continue
		}
		if found.reason != "" {
			reasons[service] = found.reason
		} else if reason := halfExported(e.world, service); reason != "" {
			reasons[service] = reason
		}
	}
	return reasons
}

// exportable returns why no peer is sent a service, whatever the entry says; "" when it is.
func exportable(w *snapshot.World, service string) string {
	if err := wire.CheckName(service); err != nil {
		return err.Error()
	}
	if strings.HasSuffix(service, wire.ProxySuffix) {
		return "name ends in " + wire.ProxySuffix + ": that is the mesh form of another service"
	}
	if protocol := protocolOf(w, service); protocol != protocolTCP {
		return "protocol " + protocol + ": only tcp is exported"
	}
	return ""
}

// halfExported returns why a peer can see a service and not reach it; "" when it can.
func halfExported(w *snapshot.World, service string) string {
	switch {
	case len(typical(w, service)) == 0 && len(w.Proxies(service)) == 0:
		return "no instance"
	case len(w.Proxies(service)) == 0:
		return "no sidecar: only shown to the peer, not reachable"
	case len(w.OfKind(config.KindMeshGateway)) == 0:
		return "no mesh gateway"
	}
	return ""
}

// protocolOf returns the protocol of a service: its own, else that of all, else tcp.
func protocolOf(w *snapshot.World, service string) string {
	if defaults, ok := snapshot.EntryOf[*config.ServiceDefaults](w, service); ok && defaults.Protocol != "" {
		return strings.ToLower(defaults.Protocol)
	}
	return defaultProtocol(w)
}

func defaultProtocol(w *snapshot.World) string {
	if defaults, ok := snapshot.EntryOf[*config.ProxyDefaults](w, "global"); ok && defaults.Protocol() != "" {
		return strings.ToLower(defaults.Protocol())
	}
	return protocolTCP
}

// typical returns the instances of a service that are neither proxies nor gateways.
func typical(w *snapshot.World, service string) []*snapshot.Instance {
	if service == "" {
		return nil
	}
	return slices.DeleteFunc(w.Instances(service), func(i *snapshot.Instance) bool { return i.Service.Kind != config.KindTypical })
}

// gatewayStates returns what the mesh forms show of our gateways, in the order in which they are numbered.
func gatewayStates(w *snapshot.World) []gatewayState {
	var states []gatewayState
	for _, gateway := range w.OfKind(config.KindMeshGateway) {
		health, _ := overall(w, gateway)
		states = append(states, gatewayState{gateway, w.Node(gateway.Node), health})
	}
	return states
}
