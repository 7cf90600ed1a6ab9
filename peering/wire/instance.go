package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"
)

// An Instance is one instance that a partner's server can take: a server of some versions ends when a node, a service
// ID or a check ID is empty, so that no such value exists here. NewInstance makes it.
type Instance struct{ node *CheckServiceNode }

// NewInstance checks an instance and keeps a copy of it. The error names the field and what was wanted.
func NewInstance(given *CheckServiceNode) (Instance, error) {
	node, service := given.GetNode(), given.GetService()
	switch {
	case node == nil || node.Node == "":
		return Instance{}, fmt.Errorf("instance %q: the node has no name", service.GetID())
	case node.Address == "":
		return Instance{}, fmt.Errorf("instance %q: node %s has no address", service.GetID(), node.Node)
	case service == nil || service.ID == "":
		return Instance{}, fmt.Errorf("instance on node %s: the service has no ID", node.Node)
	case service.Port < 0 || service.Port > 65535:
		return Instance{}, fmt.Errorf("instance %s: port %d: want 0 to 65535", service.ID, service.Port)
	}
	if err := CheckName(service.Service); err != nil {
		return Instance{}, fmt.Errorf("instance %s: %w", service.ID, err)
	}
	for name, address := range service.TaggedAddresses {
		if address.GetAddress() == "" || address.Port < 0 || address.Port > 65535 {
			return Instance{}, fmt.Errorf("instance %s: tagged address %s is %q port %d: want an address, and a port from 0 to 65535", service.ID, name, address.GetAddress(), address.GetPort())
		}
	}
	for _, check := range given.Checks {
		if check.GetCheckID() == "" || check.Node != node.Node || check.ServiceID != service.ID {
			return Instance{}, fmt.Errorf("instance %s on %s: check %q of %q on %q: want an ID, and the instance's own", service.ID, node.Node, check.GetCheckID(), check.GetServiceID(), check.GetNode())
		}
	}
	if err := checkMesh(service); err != nil {
		return Instance{}, fmt.Errorf("instance %s: %w", service.ID, err)
	}
	return Instance{proto.Clone(given).(*CheckServiceNode)}, nil
}

// checkMesh wants all of the mesh form or nothing of it.
func checkMesh(service *NodeService) error {
	const sidecar = "connect-proxy"
	meta := service.GetConnect().GetPeerMeta()
	if service.Kind == "" && meta == nil && service.Proxy == nil {
		return nil
	}
	destination := service.GetProxy().GetDestinationServiceName()
	switch {
	case service.Kind != sidecar:
		return fmt.Errorf("kind %q: want %q or none", service.Kind, sidecar)
	case service.Service != destination+ProxySuffix:
		return fmt.Errorf("service %q stands for %q: want %q", service.Service, destination, destination+ProxySuffix)
	case len(meta.GetSNI()) == 0 || meta.SNI[0] == "":
		return fmt.Errorf("no server name")
	case len(meta.SpiffeID) == 0 || meta.SpiffeID[0] == "":
		return fmt.Errorf("no SPIFFE ID")
	case meta.Protocol == "":
		return fmt.Errorf("no protocol")
	case service.Port == 0 && service.TaggedAddresses["wan"].GetPort() == 0:
		return fmt.Errorf("no port: want one, of the service or of its wan address")
	}
	return nil
}
