package dns

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// An instance is one place where a service is, here or at a peer.
type instance struct {
	node, nodeAddress string
	address           string // its own: an IP or a host name; empty: the node's
	port              int
	weight            int
	peer              string
}

// found returns the instances of what a name asks for, but those that fail a check, in no order.
func found(w *snapshot.World, n name) []instance {
	if n.peer != "" {
		return imported(w, n)
	}
	list := w.Instances(n.service)
	if n.kind == kindConnect {
		list = w.Proxies(n.service)
	}
	var all []instance
	for _, i := range list {
		status := worst(append(w.Checks(i.Node, ""), w.Checks(i.Node, i.Service.ID)...))
		if status != config.HealthCritical && tagged(i.Service, n.tag) {
			all = append(all, of(i.Service, status, i.Node, cmp.Or(address(w, i.Node), i.NodeAddress), ""))
		}
	}
	return all
}

// imported returns the same of a peer's service: its instances, or the gateways that stand for it in the mesh.
func imported(w *snapshot.World, n name) []instance {
	service := w.Import(n.peer, n.service)
	if service == nil { // a peer's names may have upper case, and DNS has none
		for _, i := range w.Imports(n.peer) {
			if strings.EqualFold(i.Service, n.service) {
				service = i
			}
		}
	}
	if service == nil {
		return nil
	}
	list := service.Instances
	if n.kind == kindConnect {
		list = service.Gateways
	}
	var all []instance
	for _, i := range list {
		// A peer sends the word maintenance, where here it is a critical check.
		down := i.Health == config.HealthCritical || i.Health == config.HealthMaintenance
		if i.Service != nil && !down && tagged(i.Service, n.tag) {
			all = append(all, of(i.Service, i.Health, i.Node, i.NodeAddress, n.peer))
		}
	}
	return all
}

func of(service *config.Service, status, node, nodeAddress, peer string) instance {
	i := instance{node: node, nodeAddress: nodeAddress, address: service.Address, port: service.Port, weight: 1, peer: peer}
	if weights := service.Weights; weights != (config.Weights{}) {
		i.weight = weights.Passing
		if status == config.HealthWarning {
			i.weight = weights.Warning
		}
	}
	// What a peer sent is not checked like our own.
	i.weight, i.port = min(max(i.weight, 0), math.MaxUint16), min(max(i.port, 0), math.MaxUint16)
	return i
}

// address returns a node's address, "" for one that is not registered.
func address(w *snapshot.World, node string) string {
	if n := w.Node(node); n != nil {
		return n.Address
	}
	return ""
}

func worst(checks []*snapshot.Check) string {
	status := config.HealthPassing
	for _, check := range checks {
		if check.Status == config.HealthCritical || check.Status != config.HealthPassing && status == config.HealthPassing {
			status = check.Status
		}
	}
	return status
}

func tagged(service *config.Service, tag string) bool {
	return tag == "" || slices.ContainsFunc(service.Tags, func(t string) bool { return strings.EqualFold(t, tag) })
}

// node returns the address of a node, here or at a peer, and "" for none.
func node(w *snapshot.World, n name) string {
	if n.peer == "" {
		for _, known := range w.Nodes() {
			if strings.EqualFold(known.Name, n.service) {
				return known.Address
			}
		}
		return ""
	}
	for _, service := range w.Imports(n.peer) {
		for _, i := range append(slices.Clone(service.Instances), service.Gateways...) {
			if strings.EqualFold(i.Node, n.service) {
				return i.NodeAddress
			}
		}
	}
	return ""
}
