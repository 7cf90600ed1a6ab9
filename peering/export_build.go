package peering

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/sni"
)

// privateAddresses are the tagged addresses that are nobody else's business: where our sidecars dial our gateway, and an address
// that only means something inside the cluster that gave it.
var privateAddresses = map[string]bool{"egress": true, "consul-virtual": true}

// forms returns both forms of a service as one peer sees it. An instance that a partner could not take is left out, and
// named in the error; the resources are good all the same.
func forms(w *snapshot.World, peer, service string, everyName bool) ([]wire.Resource, error) {
	mesh, problems := meshForm(w, peer, service, everyName)
	normal, normalProblems := normalForm(w, service)
	problems = append(problems, normalProblems...)
	var resources []wire.Resource
	for _, form := range []struct {
		name      string
		instances []wire.Instance
	}{{service + wire.ProxySuffix, mesh}, {service, normal}} {
		distinct, left := wire.Distinct(form.instances)
		problems = append(problems, left...)
		resource, err := wire.NewService(form.name, distinct)
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		resources = append(resources, resource)
	}
	if len(problems) > 0 {
		return resources, fmt.Errorf("%s", strings.Join(problems, "; "))
	}
	return resources, nil
}

// normalForm returns all instances of a service, healthy or not, for discovery.
func normalForm(w *snapshot.World, service string) (instances []wire.Instance, problems []string) {
	for _, i := range typical(w, service) {
		entry := &wire.CheckServiceNode{Node: nodeBlock(w, i), Service: serviceBlock(i)}
		entry.Service.ID, entry.Service.Service = i.Service.ID, i.Service.Name
		addCheck(w, i, entry)
		instances, problems = add(entry, instances, problems)
	}
	return instances, problems
}

// meshForm returns one instance for each of our gateways: the peer's proxies dial a gateway, never an instance.
func meshForm(w *snapshot.World, peer, service string, everyName bool) (instances []wire.Instance, problems []string) {
	cluster := w.Cluster()
	if cluster == nil || !everyName && len(w.Proxies(service)) == 0 {
		return nil, nil
	}
	meta := &wire.PeeringServiceMeta{
		SNI: []string{sni.Peered{
			Service: service, Namespace: config.DefaultNamespace, Partition: config.DefaultNamespace, Peer: peer, TrustDomain: cluster.TrustDomain,
		}.String()},
		SpiffeID: []string{
			sni.ServiceID{TrustDomain: cluster.TrustDomain, Namespace: config.DefaultNamespace, Datacenter: cluster.Datacenter, Service: service}.String(),
			sni.GatewayID(cluster.TrustDomain, cluster.Datacenter),
		},
		Protocol: protocolTCP,
	}
	for n, gateway := range w.OfKind(config.KindMeshGateway) {
		entry := &wire.CheckServiceNode{Node: nodeBlock(w, gateway), Service: serviceBlock(gateway)}
		s := entry.Service
		s.Kind, s.Service = string(config.KindSidecar), service+wire.ProxySuffix
		s.ID = fmt.Sprintf("%s-instance-%d", s.Service, n)
		s.Tags, s.Meta = nil, nil
		s.Proxy = &wire.ConnectProxyConfig{DestinationServiceName: service, DestinationServiceID: fmt.Sprintf("%s-instance-%d", service, n)}
		s.Connect = &wire.ServiceConnect{PeerMeta: meta}
		addCheck(w, gateway, entry)
		instances, problems = add(entry, instances, problems)
	}
	return instances, problems
}

func add(entry *wire.CheckServiceNode, instances []wire.Instance, problems []string) ([]wire.Instance, []string) {
	instance, err := wire.NewInstance(entry)
	if err != nil {
		return instances, append(problems, err.Error())
	}
	return append(instances, instance), problems
}

// nodeBlock describes the node of an instance. The node's ID is left out: a peer refuses two nodes with one ID, and needs none.
func nodeBlock(w *snapshot.World, i *snapshot.Instance) *wire.Node {
	block := &wire.Node{Node: i.Node, Address: i.NodeAddress}
	if cluster := w.Cluster(); cluster != nil {
		block.Datacenter = cluster.Datacenter
	}
	if node := w.Node(i.Node); node != nil {
		block.TaggedAddresses, block.Meta = node.TaggedAddresses, node.Meta
		if node.Address != "" {
			block.Address = node.Address
		}
		if node.Datacenter != "" {
			block.Datacenter = node.Datacenter
		}
	}
	// A partner wants an IP address here. Where the node has none, the service may.
	for _, address := range []string{i.NodeAddress, i.Service.Address} {
		if _, err := netip.ParseAddr(block.Address); err != nil {
			if _, err := netip.ParseAddr(address); err == nil || block.Address == "" {
				block.Address = address
			}
		}
	}
	return block
}

// serviceBlock describes an instance without its names.
func serviceBlock(i *snapshot.Instance) *wire.NodeService {
	block := &wire.NodeService{
		Tags: i.Service.Tags, Meta: i.Service.Meta, Address: i.Service.Address, Port: port(i.Service.Port),
		EnableTagOverride: i.Service.EnableTagOverride, EnterpriseMeta: &wire.EnterpriseMeta{},
		Weights: &wire.Weights{Passing: share(i.Service.Weights.Passing), Warning: share(i.Service.Weights.Warning)},
	}
	for name, address := range i.Service.TaggedAddresses {
		if privateAddresses[name] {
			continue
		}
		if block.TaggedAddresses == nil {
			block.TaggedAddresses = map[string]*wire.ServiceAddress{}
		}
		block.TaggedAddresses[name] = &wire.ServiceAddress{Address: address.Address, Port: port(address.Port)}
	}
	return block
}

// port is a port as it is, or when it is far from one, something else that is none either.
func port(number int) int32 { return int32(min(max(number, -1), 1<<20)) }

// share is a weight as partners take it.
func share(weight int) int32 { return int32(min(max(weight, 1), 65535)) }

// addCheck adds the one check that stands for all checks of an instance and its node. Without checks there is none.
func addCheck(w *snapshot.World, i *snapshot.Instance, entry *wire.CheckServiceNode) {
	health, any := overall(w, i)
	if !any {
		return
	}
	entry.Checks = []*wire.HealthCheck{{
		Node: entry.Node.Node, CheckID: entry.Service.ID + ":overall-check", Name: "overall-check", Status: health,
		ServiceID: entry.Service.ID, ServiceName: entry.Service.Service, EnterpriseMeta: &wire.EnterpriseMeta{},
	}}
}

// severity orders health from best to worst.
var severity = map[string]int{config.HealthPassing: 1, config.HealthWarning: 2, config.HealthCritical: 3, config.HealthMaintenance: 4}

// overall returns the worst state among the checks of an instance and its node, and whether there is any check.
func overall(w *snapshot.World, i *snapshot.Instance) (health string, any bool) {
	health = config.HealthPassing
	for _, check := range append(w.Checks(i.Node, i.Service.ID), w.Checks(i.Node, "")...) {
		status := check.Status
		if maintenance(check.CheckID) {
			status = config.HealthMaintenance
		}
		health, any = worse(health, status), true
	}
	return health, any
}

// maintenance tells the checks that only exist while an operator keeps something out of service.
func maintenance(checkID string) bool {
	return checkID == "_node_maintenance" || strings.HasPrefix(checkID, "_service_maintenance:")
}

// worse returns the worse of two states. A word that we do not know is critical.
func worse(a, b string) string {
	if severity[b] == 0 {
		b = config.HealthCritical
	}
	if severity[b] > severity[a] {
		return b
	}
	return a
}
