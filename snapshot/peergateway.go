package snapshot

import (
	"strconv"
	"strings"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/isthmus-mesh/isthmus/config"
)

// A PeerGateway is one mesh gateway of a peer, as the peer's exports describe it: not yet checked against any policy.
type PeerGateway struct {
	Host    string // IP or host name
	Port    int
	Healthy bool
	// Maintenance: the peer's operator asks for no traffic, not even as a last resort.
	Maintenance bool
	Weight      uint32 // 1 to 128
}

// gatewayCount is how many routable imports name a gateway in just these words.
type gatewayCount struct {
	gateway PeerGateway
	imports int
}

// PeerGateways returns the gateways that the routable imports of a peer name, sorted by host. One whose imports
// describe it differently appears once for each description. It costs the number of gateways, not of imports.
func (w *World) PeerGateways(peer string) []PeerGateway {
	var found []PeerGateway
	w.gateways.Root().WalkPrefix([]byte(peer+sep), func(_ []byte, c gatewayCount) bool {
		found = append(found, c.gateway)
		return false
	})
	return found
}

// countGateways keeps gateways true while an import, if it is one, goes from before to after.
func countGateways(gateways *iradix.Txn[gatewayCount], before, after any) {
	if old, ok := before.(*Import); ok {
		for _, gateway := range gatewaysOf(old) {
			countGateway(gateways, old.Peer, gateway, -1)
		}
	}
	if fresh, ok := after.(*Import); ok {
		for _, gateway := range gatewaysOf(fresh) {
			countGateway(gateways, fresh.Peer, gateway, 1)
		}
	}
}

func countGateway(gateways *iradix.Txn[gatewayCount], peer string, gateway PeerGateway, by int) {
	key := []byte(strings.Join([]string{
		peer, gateway.Host, strconv.Itoa(gateway.Port), strconv.FormatBool(gateway.Healthy), strconv.FormatBool(gateway.Maintenance),
		strconv.Itoa(int(gateway.Weight)),
	}, sep))
	count, _ := gateways.Get(key)
	count.gateway, count.imports = gateway, count.imports+by
	if count.imports > 0 {
		gateways.Insert(key, count)
	} else {
		gateways.Delete(key)
	}
}

// gatewaysOf returns the gateways that an import names; none when it is not routable.
func gatewaysOf(imported *Import) []PeerGateway {
	if imported.NotRoutable != "" {
		return nil
	}
	var found []PeerGateway
	for i := range imported.Gateways {
		instance := &imported.Gateways[i]
		if instance.Service == nil {
			continue
		}
		host, port := wanAddress(instance)
		found = append(found, PeerGateway{
			Host: host, Port: port, Healthy: serving(instance.Health), Maintenance: instance.Health == config.HealthMaintenance,
			Weight: weight(instance.Service.Weights, instance.Health),
		})
	}
	return found
}

// wanAddress returns where a peer's gateway is dialled: its wan address, else its own, else its node's.
func wanAddress(instance *ImportedInstance) (string, int) {
	service := instance.Service
	if wan, ok := service.TaggedAddresses["wan"]; ok && wan.Address != "" {
		if wan.Port == 0 {
			return wan.Address, service.Port
		}
		return wan.Address, wan.Port
	}
	switch {
	case service.Address != "":
		return service.Address, service.Port
	case instance.NodeTagged["wan"] != "":
		return instance.NodeTagged["wan"], service.Port
	}
	return instance.NodeAddress, service.Port
}

// serving tells whether an instance in a state of health is sent traffic. No checks at all means it is.
func serving(health string) bool {
	return health != config.HealthCritical && health != config.HealthMaintenance
}

// weight returns an instance's share of traffic, between 1 and Envoy's 128.
func weight(weights config.Weights, health string) uint32 {
	share := weights.Passing
	if health == config.HealthWarning {
		share = weights.Warning
	}
	return uint32(min(max(share, 1), 128))
}
