package config

import (
	"fmt"
	"net/netip"
	"slices"
)

// AddressPolicy decides which addresses that a peer sent may be dialled. The zero value allows private and public
// addresses, and none that stands for this machine, for its network segment or for a group.
type AddressPolicy struct {
	Allow []AddressRule    // from a PeerPolicy; empty is the default
	Also  []netip.Prefix   // --allow-peer-addresses: allowed besides Allow and the default
	Own   []netip.AddrPort // our own listeners: never allowed. An unspecified address stands for every local one
	Local []netip.Addr     // the machine's own addresses besides loopback: what an unspecified address in Own stands for
}

// What no policy can allow: nothing there is a peer's gateway, whatever the network.
var neverDialled = []struct {
	prefix netip.Prefix
	is     string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"}, // 0.0.0.0 reaches whatever listens on this machine
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved or broadcast"},
}

// What only an explicit rule allows. The metadata services of clouds hand out credentials to whoever asks.
var dialledIfAllowed = []struct {
	prefix netip.Prefix
	is     string
}{
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback; allow it with --allow-peer-addresses"},
	{netip.MustParsePrefix("::1/128"), "loopback; allow it with --allow-peer-addresses"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("100.100.100.200/32"), "a cloud's metadata service"},
	{netip.MustParsePrefix("168.63.129.16/32"), "a cloud's metadata service"},
	{netip.MustParsePrefix("192.0.0.192/32"), "a cloud's metadata service"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "a cloud's metadata service"},
	{netip.MustParsePrefix("fd20:ce::254/128"), "a cloud's metadata service"},
	{netip.MustParsePrefix("::/96"), "an IPv4 address in an outdated IPv6 form"},
	{netip.MustParsePrefix("::ffff:0:0:0/96"), "an IPv4 address in an outdated IPv6 form"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "translated to IPv4 in a way that cannot be checked"},
	{netip.MustParsePrefix("2001::/32"), "tunnelled to IPv4 in a way that cannot be checked"},
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
)

// Check returns nil for an address that may be dialled, and else which rule refuses it.
func (p AddressPolicy) Check(addr netip.AddrPort) error {
	ip := addr.Addr().Unmap().WithZone("")
	switch {
	case !ip.IsValid():
		return fmt.Errorf("address %s: is not an address", addr)
	case addr.Addr().Zone() != "":
		return fmt.Errorf("address %s: has a zone, which means something on one machine only", addr)
	case addr.Port() == 0:
		return fmt.Errorf("address %s: want a port from 1 to 65535", addr)
	case p.isOwn(ip, addr.Port()):
		return fmt.Errorf("address %s: is a listener of our own", addr)
	}
	for _, never := range neverDialled {
		if never.prefix.Contains(ip) {
			return fmt.Errorf("address %s: is %s", addr, never.is)
		}
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
	for _, each := range []netip.Addr{ip, embedded(ip)} {
		for _, special := range dialledIfAllowed {
			if special.prefix.Contains(each) {
				return fmt.Errorf("address %s: is %s", addr, special.is)
			}
		}
		for _, never := range neverDialled {
			if never.prefix.Contains(each) {
				return fmt.Errorf("address %s: is %s", addr, never.is)
			}
		}
	}
	return nil
}

func (p AddressPolicy) isOwn(ip netip.Addr, port uint16) bool {
	return slices.ContainsFunc(p.Own, func(own netip.AddrPort) bool {
		listens := own.Addr().Unmap()
		if own.Port() != port {
			return false
		}
		return listens == ip || listens.IsUnspecified() && (ip.IsLoopback() || ip.IsUnspecified() || slices.Contains(p.Local, ip))
	})
}

// embedded returns the IPv4 address that a translator on the way would dial for ip, or ip itself.
func embedded(ip netip.Addr) netip.Addr {
	bytes := ip.As16()
	switch {
	case nat64.Contains(ip):
		return netip.AddrFrom4([4]byte(bytes[12:]))
	case sixToFour.Contains(ip):
		return netip.AddrFrom4([4]byte(bytes[2:6]))
	}
	return ip
}

func (r AddressRule) allows(addr netip.AddrPort) bool {
	return r.Prefix.Contains(addr.Addr()) && (len(r.Ports) == 0 || slices.Contains(r.Ports, addr.Port()))
}
