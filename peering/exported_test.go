package peering

import (
	"github.com/isthmus-mesh/isthmus/peering/wire"
)

// meshInstance is the mesh form of a service as a peer in trustDomain sends it, who calls us ourName.
func meshInstance(service, ourName, trustDomain string, change ...func(*wire.CheckServiceNode)) *wire.CheckServiceNode {
	node := &wire.CheckServiceNode{
		Node: &wire.Node{Node: "gateway-node", Address: "192.0.2.1", Datacenter: "dc1"},
		Service: &wire.NodeService{
			Kind: "connect-proxy", ID: service + "-sidecar-proxy-instance-0", Service: service + "-sidecar-proxy", Address: "192.0.2.1", Port: 8443,
			TaggedAddresses: map[string]*wire.ServiceAddress{"wan": {Address: "192.0.2.1", Port: 443}},
			Proxy:           &wire.ConnectProxyConfig{DestinationServiceName: service, DestinationServiceID: service + "-instance-0"},
			Connect: &wire.ServiceConnect{PeerMeta: &wire.PeeringServiceMeta{
				SNI:      []string{service + ".default.default." + ourName + ".external." + trustDomain},
				SpiffeID: []string{"spiffe://" + trustDomain + "/ns/default/dc/dc1/svc/" + service, "spiffe://" + trustDomain + "/gateway/mesh/dc/dc1"},
				Protocol: "tcp",
			}},
		},
		Checks: []*wire.HealthCheck{{Node: "gateway-node", CheckID: service + "-sidecar-proxy-instance-0:overall-check", Status: "passing", ServiceID: service + "-sidecar-proxy-instance-0"}},
	}
	for _, f := range change {
		f(node)
	}
	return node
}

// plainInstance is one instance of a service's normal form.
func plainInstance(service string, change ...func(*wire.CheckServiceNode)) *wire.CheckServiceNode {
	node := &wire.CheckServiceNode{
		Node:    &wire.Node{Node: "node-1", Address: "192.0.2.7", Datacenter: "dc1"},
		Service: &wire.NodeService{ID: service + "-1", Service: service, Port: 5432},
	}
	for _, f := range change {
		f(node)
	}
	return node
}

func serviceSet(nodes ...*wire.CheckServiceNode) *wire.ExportedService {
	return &wire.ExportedService{Nodes: nodes}
}

func inventory(names ...string) *wire.ExportedServiceList {
	return &wire.ExportedServiceList{Services: names}
}
