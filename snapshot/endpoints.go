package snapshot

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/isthmus-mesh/isthmus/config"
)

// A setKey names an endpoint set: of a service, of a peer's gateways, or, when both are empty, of our own gateways.
type setKey struct{ service, peer string }

func (k setKey) name() string {
	switch {
	case k.service != "":
		return EndpointsOf(k.service)
	case k.peer != "":
		return EndpointsOfPeer(k.peer)
	}
	return LocalGateways
}

// endpointSet returns what is known of where a set's members listen, and of how they are.
func endpointSet(r *reader, key setKey) *EndpointSet {
	set := &EndpointSet{Name: key.name()}
	switch {
	case key.service != "":
		serviceEndpoints(r, set, key.service)
	case key.peer != "":
		peerEndpoints(r, set, key.peer)
	default:
		egressEndpoints(r, set)
	}
	slices.SortFunc(set.Endpoints, func(a, b Endpoint) int { return a.Address.Compare(b.Address) })
	set.Endpoints = merge(set.Endpoints)
	slices.SortFunc(set.Skipped, compareSkipped)
	set.Skipped = slices.Compact(set.Skipped)
	return set
}

// merge makes one endpoint of neighbours with one address: it is healthy if any of them is.
func merge(sorted []Endpoint) []Endpoint {
	merged := sorted[:0]
	for _, e := range sorted {
		if last := len(merged) - 1; last >= 0 && merged[last].Address == e.Address {
			merged[last].Healthy = merged[last].Healthy || e.Healthy
			merged[last].Weight = max(merged[last].Weight, e.Weight)
			continue
		}
		merged = append(merged, e)
	}
	return merged
}

func serviceEndpoints(r *reader, set *EndpointSet, service string) {
	for _, instance := range r.proxies(service) {
		host, port := instance.Address()
		set.add(r, host, port, instance, instanceHealth(r, instance))
	}
}

func egressEndpoints(r *reader, set *EndpointSet) {
	for _, gateway := range r.ofKind(config.KindMeshGateway) {
		if host, port, ok := egressAddress(gateway); ok {
			set.add(r, host, port, gateway, instanceHealth(r, gateway))
		}
	}
}

// egressAddress returns where a gateway takes what its own cluster sends to peers in mode local.
func egressAddress(gateway *Instance) (host string, port int, ok bool) {
	egress, ok := gateway.Service.TaggedAddresses["egress"]
	if egress.Address == "" {
		egress.Address, _ = gateway.Address()
	}
	return egress.Address, egress.Port, ok
}

func (set *EndpointSet) add(r *reader, host string, port int, instance *Instance, health string) {
	addresses, reason := resolve(r, host, port)
	if reason != "" {
		set.Skipped = append(set.Skipped, Skipped{
			Origin: Origin{Kind: "service", Name: instance.Service.Name}, Reason: instance.Service.ID + ": " + reason,
		})
	}
	for _, address := range addresses {
		set.Endpoints = append(set.Endpoints, Endpoint{address, serving(health), weight(instance.Service.Weights, health)})
	}
}

// peerEndpoints fills in the gateways of a peer, as far as its policy lets us dial them. An address at which a gateway of
// our own listens is never dialled: a peer that names it would send our traffic round in a circle.
func peerEndpoints(r *reader, set *EndpointSet, peer string) {
	policy := addressPolicy(r, peer)
	for _, gateway := range r.ofKind(config.KindMeshGateway) {
		policy.Own = append(policy.Own, gatewayAddresses(r, gateway)...)
	}
	origin := Origin{Kind: "peering", Name: peer, Peer: peer}
	for _, gateway := range r.peerGateways(peer) {
		if gateway.Maintenance {
			address := net.JoinHostPort(gateway.Host, strconv.Itoa(gateway.Port))
			set.Skipped = append(set.Skipped, Skipped{Origin: origin, Reason: "gateway address " + address + ": is in maintenance"})
			continue
		}
		addresses, reason := resolve(r, gateway.Host, gateway.Port)
		if reason != "" {
			set.Skipped = append(set.Skipped, Skipped{Origin: origin, Reason: "gateway " + reason})
		}
		for _, address := range addresses {
			if err := policy.Check(address); err != nil {
				set.Skipped = append(set.Skipped, Skipped{Origin: origin, Reason: "gateway " + err.Error()})
				continue
			}
			set.Endpoints = append(set.Endpoints, Endpoint{address, gateway.Healthy, gateway.Weight})
		}
	}
}

// RefusedGateways says of each gateway of a peer that is not dialled why not.
func RefusedGateways(w *World, peer string) []string {
	var reasons []string
	for _, skipped := range endpointSet(plain(w), setKey{peer: peer}).Skipped {
		reasons = append(reasons, skipped.Reason)
	}
	return reasons
}

// gatewayAddresses returns all addresses that a gateway of ours registered, as far as they are known.
func gatewayAddresses(r *reader, gateway *Instance) []netip.AddrPort {
	host, port := gateway.Address()
	addresses, _ := resolve(r, host, port)
	for _, tagged := range gateway.Service.TaggedAddresses {
		more, _ := resolve(r, cmp.Or(tagged.Address, host), tagged.Port)
		addresses = append(addresses, more...)
	}
	return addresses
}

// resolve returns the addresses of a host, or why there are none.
func resolve(r *reader, host string, port int) ([]netip.AddrPort, string) {
	if port < 1 || port > 65535 {
		return nil, fmt.Sprintf("address %s: port %d: want 1 to 65535", host, port)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap().WithZone(""), uint16(port))}, ""
	}
	name := r.resolved(host)
	if name == nil || len(name.Addresses) == 0 {
		return nil, fmt.Sprintf("address %q: is no IP address and did not resolve", host)
	}
	var addresses []netip.AddrPort
	for _, ip := range name.Addresses {
		addresses = append(addresses, netip.AddrPortFrom(ip.Unmap().WithZone(""), uint16(port)))
	}
	return addresses, ""
}

// instanceHealth returns the worst state of an instance: its own checks, those of the instance that it stands for, and
// its node's.
func instanceHealth(r *reader, instance *Instance) string {
	ids := []string{instance.Service.ID, ""}
	if proxy := instance.Service.Proxy; proxy != nil && proxy.DestinationServiceID != "" {
		ids = append(ids, proxy.DestinationServiceID)
	}
	worst := config.HealthPassing
	for _, id := range ids {
		for _, check := range r.checks(instance.Node, id) {
			if severity(check.Status) > severity(worst) {
				worst = check.Status
			}
		}
	}
	return worst
}

// severity orders the states of a check. A state that is not known is critical.
func severity(status string) int {
	switch status {
	case config.HealthPassing:
		return 0
	case config.HealthWarning:
		return 1
	case config.HealthMaintenance:
		return 3
	}
	return 2
}

func compareSkipped(a, b Skipped) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Peer, b.Peer), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Reason, b.Reason))
}
