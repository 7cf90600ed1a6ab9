package config

import (
	"fmt"
	"net/netip"
	"time"
)

// PeerPolicy is what we let one peer (Name), or every peer without a policy of its own (Wildcard), do to us.
type PeerPolicy struct {
	Name           string
	AllowAddresses []AddressRule `json:",omitempty"` // replaces the defaults of AddressPolicy; empty keeps them
	Accept         []string      `json:",omitempty"` // names of services that may be imported; empty is all
	Quotas         Quotas        `json:",omitzero"`
	MaxStale       time.Duration `json:",omitempty"` // imports older than this are not served; 0 is for ever
}

// AddressRule allows the addresses of a prefix, on the listed ports or, when there are none, on all.
type AddressRule struct {
	Prefix netip.Prefix
	Ports  []uint16 `json:",omitempty"`
}

// Quotas bounds what one peer may send. Zero is the default of each.
type Quotas struct {
	Services         int `json:",omitempty"` // imported services, default 10,000
	Instances        int `json:",omitempty"` // instances of one service, default 1,000
	UpdatesPerSecond int `json:",omitempty"` // sustained, default 1,000
}

// AddressPolicy decides which addresses that a peer sent may be dialled. The zero value allows what is neither
// loopback, link-local, multicast nor unspecified.
type AddressPolicy struct {
	Allow []AddressRule    // from a PeerPolicy; empty is the default
	Also  []netip.Prefix   // --allow-peer-addresses: allowed besides Allow and the default
	Own   []netip.AddrPort // our own listeners: never allowed. An unspecified address stands for every local one
}

// Check returns nil for an address that may be dialled, and else which rule refuses it.
func (p AddressPolicy) Check(addr netip.AddrPort) error {
	ip := addr.Addr().Unmap().WithZone("")
	for _, own := range p.Own {
		if own.Port() == addr.Port() && (own.Addr().Unmap() == ip || own.Addr().IsUnspecified() && ip.IsLoopback()) {
			return fmt.Errorf("address %s: is a listener of our own", addr)
		}
	}
	if addr.Port() == 0 {
		return fmt.Errorf("address %s: want a port from 1 to 65535", addr)
	}
	for _, prefix := range p.Also {
		if prefix.Contains(ip) {
			return nil
		}
	}
	if len(p.Allow) > 0 {
		for _, rule := range p.Allow {
			if rule.allows(netip.AddrPortFrom(ip, addr.Port())) {
				return nil
			}
		}
		return fmt.Errorf("address %s: not in AllowAddresses of the peer's policy", addr)
	}
	switch {
	case ip.IsUnspecified():
		return fmt.Errorf("address %s: is unspecified", addr)
	case ip.IsLoopback():
		return fmt.Errorf("address %s: is loopback; allow it with --allow-peer-addresses", addr)
	case ip.IsLinkLocalUnicast():
		return fmt.Errorf("address %s: is link-local", addr)
	case ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("address %s: is multicast", addr)
	}
	return nil
}

func (r AddressRule) allows(addr netip.AddrPort) bool {
	if !r.Prefix.Contains(addr.Addr()) {
		return false
	}
	for _, port := range r.Ports {
		if port == addr.Port() {
			return true
		}
	}
	return len(r.Ports) == 0
}
