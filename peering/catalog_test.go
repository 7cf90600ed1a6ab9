package peering

import (
	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// instance is the registration of an ordinary service, and of its sidecar when sidecar is true.
func instance(node, service string, port int, sidecar bool) []snapshot.Event {
	events := []snapshot.Event{registration(node, &config.Service{ID: service + "-1", Name: service, Port: port, Address: "10.0.0.1"})}
	if sidecar {
		events = append(events, registration(node, &config.Service{
			Kind: config.KindSidecar, ID: service + "-1-sidecar-proxy", Name: service + "-sidecar-proxy", Port: 21000, Address: "10.0.0.1",
			Proxy: &config.Proxy{DestinationServiceName: service, DestinationServiceID: service + "-1"},
		}))
	}
	return events
}

func registration(node string, service *config.Service) snapshot.Event {
	return snapshot.Event{
		Key:    snapshot.NewKey(snapshot.TableInstances, service.Name, node, service.ID),
		Object: &snapshot.Instance{Node: node, NodeAddress: "10.0.0.9", Service: service},
	}
}

func deregistration(node, service, id string) snapshot.Event {
	return snapshot.Event{Key: snapshot.NewKey(snapshot.TableInstances, service, node, id)}
}

// meshGateway is the registration of a gateway with a wan address.
func meshGateway(node, id, wan string, port int) snapshot.Event {
	return registration(node, &config.Service{
		Kind: config.KindMeshGateway, ID: id, Name: "mesh-gateway", Address: "10.0.0.2", Port: 8443,
		TaggedAddresses: map[string]config.Address{"wan": {Address: wan, Port: port}, "lan": {Address: "10.0.0.2", Port: 8443}, "egress": {Address: "10.0.0.2", Port: 8444}},
	})
}

func check(node, serviceID, status string) snapshot.Event {
	return snapshot.Event{
		Key:    snapshot.NewKey(snapshot.TableChecks, node, serviceID, "check"),
		Object: &snapshot.Check{Node: node, ServiceID: serviceID, CheckID: "check", Status: status},
	}
}

func entry(value config.Entry) snapshot.Event {
	return snapshot.Event{
		Key: snapshot.NewKey(snapshot.TableEntries, value.EntryKind(), value.EntryName()), Object: &snapshot.Entry{Value: value},
	}
}

// exports is an exported-services entry that exports services to one peer.
func exports(peer string, services ...string) snapshot.Event {
	value := &config.ExportedServices{Name: "default"}
	for _, service := range services {
		value.Services = append(value.Services, config.ExportedService{Name: service, Consumers: []config.Consumer{{Peer: peer}}})
	}
	return entry(value)
}

// reachable is everything that makes a service reachable for a peer.
func reachable(service string) []snapshot.Event {
	return append(instance("node-1", service, 5432, true), meshGateway("node-1", "gateway-1", "198.51.100.1", 443))
}
