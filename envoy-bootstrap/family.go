package bootstrap

import "net"

// Families returns the address families in which this machine has an address that others could have: "ipv4", "ipv6".
// Where it has neither, as without a network, it is "ipv4".
func Families() []string {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return []string{"ipv4"}
	}
	return families(addresses)
}

func families(addresses []net.Addr) []string {
	var four, six bool
	for _, address := range addresses {
		network, ok := address.(*net.IPNet)
		if !ok || network.IP.IsLoopback() || network.IP.IsLinkLocalUnicast() {
			continue
		}
		if network.IP.To4() != nil {
			four = true
		} else {
			six = true
		}
	}
	switch {
	case four && six:
		return []string{"ipv4", "ipv6"}
	case six:
		return []string{"ipv6"}
	}
	return []string{"ipv4"}
}
