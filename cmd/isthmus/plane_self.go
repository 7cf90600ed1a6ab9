package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/uuid"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

func (p *plane) openSelf(ctx context.Context) error { return p.writeSelf(ctx, p.cfg) }

// writeSelf writes who we are, and makes the cluster's ID at the first start.
func (p *plane) writeSelf(ctx context.Context, cfg config.Server) error {
	known := p.store.World().Cluster()
	self := snapshot.Cluster{
		Datacenter: cfg.Datacenter, NodeName: cfg.NodeName,
		DefaultAllow: cfg.DefaultIntentionPolicy == config.Allow, TLSMin13: cfg.MeshTLSMin == "1.3",
		Addresses: config.AddressPolicy{Also: cfg.AllowPeerAddresses, Own: p.ownAddresses()},
	}
	if known == nil {
		self.ID = uuid.NewString()
		self.TrustDomain = self.ID + ".consul"
	} else {
		self.ID, self.TrustDomain = known.ID, known.TrustDomain
		if known.Datacenter != self.Datacenter {
			return fmt.Errorf("data-dir %s: is of datacenter %s: its identities carry that name, want --datacenter %s", cfg.DataDir, known.Datacenter, known.Datacenter)
		}
		if known.NodeName != self.NodeName {
			return fmt.Errorf("data-dir %s: is of node %s: its registrations carry that name, want --node-name %s", cfg.DataDir, known.NodeName, known.NodeName)
		}
	}
	local, err := localAddresses()
	if err != nil {
		return err
	}
	self.Addresses.Local = local
	for {
		events := append(selfNode(p.store.World(), &self, cfg.NodeAddress), snapshot.Event{Key: snapshot.NewKey(snapshot.TableCluster), Object: &self})
		if _, err = p.store.Commit(ctx, events...); !errors.Is(err, errOvertaken) {
			return err
		}
	}
}

// errOvertaken refuses a write that was made from what is not stored any more.
var errOvertaken = errors.New("changed meanwhile")

// selfNode returns the events that register our own node. What was registered of it stays; an address that the operator
// gave is its address, and that of the instances on it that have none.
func selfNode(w *snapshot.World, self *snapshot.Cluster, address string) []snapshot.Event {
	known, node := w.Node(self.NodeName), snapshot.Node{Name: self.NodeName}
	if known != nil {
		node = *known
	}
	node.ID, node.Datacenter = cmp.Or(node.ID, self.ID), self.Datacenter
	node.Address = cmp.Or(address, node.Address, "127.0.0.1")
	events := []snapshot.Event{{
		Key: snapshot.NewKey(snapshot.TableNodes, node.Name), Object: &node,
		Check: func(now *snapshot.World) error { return unless(now.Node(node.Name) == known) },
	}}
	for _, instance := range w.OnNode(node.Name) {
		if address == "" || instance.NodeAddress == address {
			continue
		}
		moved, id := *instance, instance.Service.ID
		moved.NodeAddress = address
		events = append(events, snapshot.Event{
			Key: snapshot.NewKey(snapshot.TableInstances, instance.Service.Name, node.Name, id), Object: &moved,
			Check: func(now *snapshot.World) error { return unless(now.InstanceByID(node.Name, id) == instance) },
		})
	}
	return events
}

func unless(still bool) error {
	if still {
		return nil
	}
	return errOvertaken
}

// ownAddresses are those that no peer may make us dial.
func (p *plane) ownAddresses() []netip.AddrPort {
	var own []netip.AddrPort
	for _, l := range []net.Listener{p.listeners.http, p.listeners.xds, p.listeners.peering, p.listeners.metrics, p.listeners.dns} {
		if l != nil {
			own = append(own, l.Addr().(*net.TCPAddr).AddrPort())
		}
	}
	return own
}

// localAddresses are what a listener on every address of this machine is found at.
func localAddresses() ([]netip.Addr, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of this machine: %w", err)
	}
	var local []netip.Addr
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(network.IP); ok {
				local = append(local, ip.Unmap())
			}
		}
	}
	return local, nil
}
