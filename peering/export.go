package peering

import (
	"context"
	"slices"
	"sync"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// An exporter knows which of our services each peer may import, and tells the streams' outboxes which names to send
// again. It follows the keys that changed: its work does not grow with the number of exports, except where one change
// concerns all of them (a gateway, the protocol of all services).
type exporter struct {
	mu    sync.Mutex
	world *snapshot.World // nil until the first update
	entry []config.ExportedService
	// named and everyone are who may import a service by name, and who may import all of them.
	named    map[string]map[string]int // service, peer: how often
	everyone map[string]int
	services map[string]exported            // by service: what the last refresh found
	onNode   map[string]map[string]struct{} // node name to the services with instances there
	proxies  map[proxyKey]string            // the sidecars of services that are exported, to what they stand for
	lists    map[string][]string            // by peer: the names exported to it, sorted, never written again
	gateways []gatewayState
	protocol string // of services without one of their own
	streams  map[*outbox]string
}

// exported is what one service was when it was last looked at.
type exported struct {
	peers  map[string]struct{}
	reason string // why nobody gets it; empty: they do
	nodes  []string
}

// proxyKey is an instance by node and service ID.
type proxyKey struct{ node, id string }

// gatewayState is all of a gateway that its mesh forms show.
type gatewayState struct {
	instance *snapshot.Instance
	node     *snapshot.Node
	health   string
}

func newExporter() *exporter {
	return &exporter{
		named: map[string]map[string]int{}, everyone: map[string]int{}, services: map[string]exported{},
		onNode: map[string]map[string]struct{}{}, lists: map[string][]string{},
		streams: map[*outbox]string{}, proxies: map[proxyKey]string{},
	}
}

// followExports keeps the exporter in step with published Worlds until ctx ends.
func (s *Service) followExports(ctx context.Context) {
	worlds := s.Publisher.Subscribe()
	defer worlds.Close()
	for {
		update, err := worlds.Next(ctx)
		if err != nil {
			return
		}
		s.exporter.update(update)
	}
}

// attach has everything that peer may import sent to out, and from then on every change.
func (e *exporter) attach(peer string, out *outbox) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.streams[out] = peer
	out.services(true, e.lists[peer])
}

func (e *exporter) detach(out *outbox) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.streams, out)
}

// list returns the names that are exported to a peer, sorted; the caller must not write it.
func (e *exporter) list(peer string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lists[peer]
}

// exports tells whether a peer may import a service, in the newest World that the exporter has seen.
func (e *exporter) exports(peer, service string) (*snapshot.World, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	found, ok := e.services[service]
	_, imports := found.peers[peer]
	return e.world, ok && imports && found.reason == ""
}

// update follows one change.
func (e *exporter) update(u snapshot.Update) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.world
	e.world = u.World
	changes := &exportChanges{touched: map[string]struct{}{}, lists: map[string]*listChange{}}
	if u.All || before == nil {
		e.everything(changes)
	}
	for _, key := range u.Changed {
		e.follow(key, changes)
	}
	if changes.entry {
		e.followEntry(changes)
	}
	if changes.instances {
		e.followGateways(changes)
	}
	for name := range changes.touched {
		e.refresh(name, changes)
	}
	for peer, change := range changes.lists {
		e.lists[peer] = merge(e.lists[peer], change)
	}
	e.tell(changes)
}

// exportChanges collects what an update concerns.
type exportChanges struct {
	entry, instances bool
	bundle           bool
	everything       bool
	touched          map[string]struct{} // services
	lists            map[string]*listChange
}

type listChange struct {
	added   []string
	removed map[string]struct{}
}

func (c *exportChanges) touch(service string) { c.touched[service] = struct{}{} }

func (c *exportChanges) list(peer string) *listChange {
	if c.lists[peer] == nil {
		c.lists[peer] = &listChange{removed: map[string]struct{}{}}
	}
	return c.lists[peer]
}

// follow adds what one key concerns.
func (e *exporter) follow(key snapshot.Key, changes *exportChanges) {
	parts := key.Parts()
	switch key.Table {
	case snapshot.TableCluster:
		e.everything(changes)
	case snapshot.TableRoots:
		changes.bundle = true
	case snapshot.TableInstances:
		changes.instances = true
		changes.touch(parts[0])
		e.followSidecar(parts[1], parts[2], changes)
	case snapshot.TableNodes:
		changes.instances = true
		e.followNode(parts[0], changes)
	case snapshot.TableChecks:
		changes.instances = true
		if parts[1] == "" {
			e.followNode(parts[0], changes)
		} else if instance := e.world.InstanceByID(parts[0], parts[1]); instance != nil {
			changes.touch(instance.Service.Name)
		}
	case snapshot.TableEntries:
		e.followConfig(parts[0], parts[1], changes)
	}
}

// followSidecar touches the service that a proxy stands for: its first proxy brings the mesh form, its last takes it.
func (e *exporter) followSidecar(node, id string, changes *exportChanges) {
	if instance := e.world.InstanceByID(node, id); instance != nil && instance.Service.Proxy != nil {
		changes.touch(instance.Service.Proxy.DestinationServiceName)
	}
	if service, known := e.proxies[proxyKey{node, id}]; known {
		delete(e.proxies, proxyKey{node, id})
		changes.touch(service)
	}
}

func (e *exporter) followNode(node string, changes *exportChanges) {
	for name := range e.onNode[node] {
		changes.touch(name)
	}
}

func (e *exporter) followConfig(kind, name string, changes *exportChanges) {
	switch kind {
	case config.KindExportedServices:
		changes.entry = true
	case config.KindServiceDefaults:
		changes.touch(name)
	case config.KindProxyDefaults:
		if protocol := defaultProtocol(e.world); protocol != e.protocol {
			e.protocol = protocol
			e.touchAll(changes)
		}
	}
}

// everything looks at all there is.
func (e *exporter) everything(changes *exportChanges) {
	changes.entry, changes.instances, changes.bundle, changes.everything = true, true, true, true
	e.protocol = defaultProtocol(e.world)
	e.touchAll(changes)
}

func (e *exporter) touchAll(changes *exportChanges) {
	for name := range e.named {
		changes.touch(name)
	}
	for name := range e.services {
		changes.touch(name)
	}
	if len(e.everyone) > 0 {
		e.touchInstances(changes)
	}
}

func (e *exporter) touchInstances(changes *exportChanges) {
	for _, instance := range e.world.Instances("") {
		if instance.Service.Kind == config.KindTypical {
			changes.touch(instance.Service.Name)
		}
	}
}

// followGateways touches everything that is exported when anything of a gateway changed.
func (e *exporter) followGateways(changes *exportChanges) {
	gateways := gatewayStates(e.world)
	if slices.Equal(gateways, e.gateways) {
		return
	}
	e.gateways = gateways
	for name := range e.services {
		changes.touch(name)
	}
}

// tell marks in every stream's outbox what is to be sent again.
func (e *exporter) tell(changes *exportChanges) {
	byPeer := map[string][]string{}
	for name := range changes.touched {
		for peer := range e.services[name].peers {
			byPeer[peer] = append(byPeer[peer], name)
		}
	}
	for peer, change := range changes.lists {
		for name := range change.removed {
			byPeer[peer] = append(byPeer[peer], name)
		}
	}
	for out, peer := range e.streams {
		list := changes.everything || changes.lists[peer] != nil
		if list || len(byPeer[peer]) > 0 {
			out.services(list, byPeer[peer])
		}
		if changes.bundle {
			out.change(func() { out.bundle = true })
		}
	}
}

// few is up to how many names are put into a list, or taken out of it, one by one.
const few = 16

// merge returns the sorted names with a change applied, as a new list.
func merge(names []string, change *listChange) []string {
	merged := slices.Clone(names)
	if len(change.added)+len(change.removed) > few {
		merged = slices.DeleteFunc(merged, func(name string) bool { _, gone := change.removed[name]; return gone })
		merged = append(merged, change.added...)
		slices.Sort(merged)
		return merged
	}
	for name := range change.removed {
		if at, found := slices.BinarySearch(merged, name); found {
			merged = slices.Delete(merged, at, at+1)
		}
	}
	for _, name := range change.added {
		at, _ := slices.BinarySearch(merged, name)
		merged = slices.Insert(merged, at, name)
	}
	return merged
}
