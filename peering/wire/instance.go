package wire

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/protobuf/proto"
)

// Limits on what one instance says: more than any that works needs, and far below what a partner can take.
const (
	maxIdentifier = 1 << 10
	maxSpiffeIDs  = 16
	maxServerName = 253
	maxWeight     = 65535
)

// An Instance is one instance that a partner's server can take: a server of some versions ends when a node, a service
// ID or a check ID is empty, so that no such value exists here. NewInstance makes it; the zero value cannot be sent.
type Instance struct {
	service, node, id string
	mesh              bool
	value             []byte
}

// NewInstance checks an instance and keeps a copy of it. The error names the field and what was wanted.
func NewInstance(given *CheckServiceNode) (Instance, error) {
	service := given.GetService()
	if err := checkNode(given.GetNode()); err != nil {
		return Instance{}, fmt.Errorf("instance %q: %w", service.GetID(), err)
	}
	if service.GetID() == "" {
		return Instance{}, fmt.Errorf("instance on node %s: the service has no ID", given.Node.Node)
	}
	if err := checkIdentifier("service ID", service.ID); err != nil {
		return Instance{}, fmt.Errorf("instance on node %s: %w", given.Node.Node, err)
	}
	for _, check := range []func(*CheckServiceNode) error{checkService, checkTagged, checkChecks, checkMesh} {
		if err := check(given); err != nil {
			return Instance{}, fmt.Errorf("instance %s: %w", service.ID, err)
		}
	}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(given)
	if err != nil {
		return Instance{}, fmt.Errorf("instance %s: %w", service.ID, err)
	}
	return Instance{service: service.Service, node: given.Node.Node, id: service.ID, mesh: service.Kind != "", value: value}, nil
}

// Distinct returns the instances that a partner keeps apart, in their order, and says of each other one why it is left out:
// partners know instances by node and ID, and nodes by name, without regard to upper and lower case.
func Distinct(instances []Instance) (kept []Instance, left []string) {
	nodes := make(map[string]string, len(instances))
	ids := make(map[[2]string]bool, len(instances))
	for _, i := range instances {
		node, key := strings.ToLower(i.node), [2]string{strings.ToLower(i.node), strings.ToLower(i.id)}
		known, seen := nodes[node]
		switch {
		case seen && known != i.node:
			left = append(left, fmt.Sprintf("instance %s: node %s differs from node %s only in upper and lower case", i.id, i.node, known))
		case ids[key]:
			left = append(left, fmt.Sprintf("instance %s comes twice on node %s", i.id, i.node))
		default:
			nodes[node], ids[key] = i.node, true
			kept = append(kept, i)
		}
	}
	return kept, left
}

func checkNode(node *Node) error {
	switch {
	case node.GetNode() == "":
		return fmt.Errorf("the node has no name")
	case node.ID != "":
		return fmt.Errorf("node %s has the ID %.40q: want none", node.Node, node.ID)
	case node.PeerName != "" || node.Partition != "":
		return fmt.Errorf("node %s names a peer or a partition: want neither", node.Node)
	case node.Address == "":
		return fmt.Errorf("node %s has no address", node.Node)
	}
	if err := checkIdentifier("node name", node.Node); err != nil {
		return err
	}
	if _, err := netip.ParseAddr(node.Address); err != nil {
		return fmt.Errorf("node %s: address %.100q: want an IP address", node.Node, node.Address)
	}
	return nil
}

// checkIdentifier wants what can stand in a partner's index and in its logs.
func checkIdentifier(what, text string) error {
	switch {
	case text == "":
		return fmt.Errorf("the %s is empty", what)
	case len(text) > maxIdentifier:
		return fmt.Errorf("%s of %d bytes: want at most %d", what, len(text), maxIdentifier)
	case strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%s %.100q: want printable characters only", what, text)
	}
	return nil
}

func checkService(given *CheckServiceNode) error {
	service := given.Service
	if err := CheckName(service.Service); err != nil {
		return err
	}
	switch weights := service.Weights; {
	case service.Port < 0 || service.Port > 65535:
		return fmt.Errorf("port %d: want 0 to 65535", service.Port)
	case service.Address != "" && checkIdentifier("address", service.Address) != nil:
		return checkIdentifier("address", service.Address)
	case service.PeerName != "" || service.SocketPath != "":
		return fmt.Errorf("names a peer or a socket: want neither")
	case weights != nil && (weights.Passing < 1 || weights.Passing > maxWeight || weights.Warning < 0 || weights.Warning > maxWeight):
		return fmt.Errorf("weights %d and %d: want 1 to %d and 0 to %d", weights.Passing, weights.Warning, maxWeight, maxWeight)
	}
	return nil
}

func checkTagged(given *CheckServiceNode) error {
	for name, address := range given.Service.TaggedAddresses {
		if checkIdentifier("", name) != nil || checkIdentifier("", address.GetAddress()) != nil || address.Port < 0 || address.Port > 65535 {
			return fmt.Errorf("tagged address %.100q is %.100q port %d: want an address, and a port from 0 to 65535", name, address.GetAddress(), address.GetPort())
		}
	}
	return nil
}

func checkChecks(given *CheckServiceNode) error {
	seen := map[string]bool{}
	for _, check := range given.Checks {
		switch id := check.GetCheckID(); {
		case id == "" || check.Node != given.Node.Node || check.ServiceID != given.Service.ID || check.ServiceName != "" && check.ServiceName != given.Service.Service:
			return fmt.Errorf("on %s: check %q of %q on %q: want an ID, and the instance's own", given.Node.Node, id, check.GetServiceID(), check.GetNode())
		case seen[id]:
			return fmt.Errorf("check %.100q comes twice", id)
		default:
			seen[id] = true
		}
		switch check.Status {
		case "passing", "warning", "critical", "maintenance":
		default:
			return fmt.Errorf("check %.100q is %.40q: want passing, warning, critical or maintenance", check.CheckID, check.Status)
		}
	}
	return nil
}

// checkMesh wants all of the mesh form or nothing of it.
func checkMesh(given *CheckServiceNode) error {
	const sidecar = "connect-proxy"
	service := given.Service
	meta := service.GetConnect().GetPeerMeta()
	if service.Kind == "" && service.Connect == nil && service.Proxy == nil {
		return nil
	}
	destination := service.GetProxy().GetDestinationServiceName()
	switch {
	case service.Kind != sidecar:
		return fmt.Errorf("kind %q: want %q or none", service.Kind, sidecar)
	case service.Service != destination+ProxySuffix:
		return fmt.Errorf("service %q stands for %q: want %q", service.Service, destination, destination+ProxySuffix)
	case len(meta.GetSNI()) == 0:
		return fmt.Errorf("no server name")
	case len(meta.SpiffeID) == 0:
		return fmt.Errorf("no SPIFFE ID")
	case len(meta.SpiffeID) > maxSpiffeIDs:
		return fmt.Errorf("%d SPIFFE IDs: want at most %d", len(meta.SpiffeID), maxSpiffeIDs)
	case meta.Protocol == "":
		return fmt.Errorf("no protocol")
	case service.Port == 0 && service.TaggedAddresses["wan"].GetPort() == 0:
		return fmt.Errorf("no port: want one, of the service or of its wan address")
	}
	for _, name := range meta.SNI {
		if checkIdentifier("", name) != nil || len(name) > maxServerName {
			return fmt.Errorf("no server name: %.100q: want 1 to %d printable characters", name, maxServerName)
		}
	}
	for _, id := range meta.SpiffeID {
		if !strings.HasPrefix(id, "spiffe://") || checkIdentifier("", id) != nil {
			return fmt.Errorf("no SPIFFE ID: %.100q: want spiffe://<trust domain>/…", id)
		}
	}
	return nil
}

// checkHostPort wants an address that a dialer can dial.
func checkHostPort(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || checkIdentifier("", host) != nil {
		return fmt.Errorf("server address %.100q: want host:port", address)
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return fmt.Errorf("server address %.100q: want a port from 1 to 65535", address)
	}
	return nil
}
