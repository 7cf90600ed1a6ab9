package config

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxName is the longest name: names become labels of server names, which hold 63 bytes.
const maxName = 63

var (
	registeredName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	importedName   = regexp.MustCompile(`^[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?$`)
)

// reservedPeer names the own cluster in the names of Envoy resources.
const reservedPeer = "local"

// CheckServiceName returns nil for a name that a service may be registered with.
func CheckServiceName(name string) error { return checkName(name, registeredName, "a-z, 0-9 and -") }

// CheckPeerName returns nil for a name that a peering may be made with.
func CheckPeerName(name string) error {
	switch name {
	case Wildcard:
		return fmt.Errorf("cannot use wildcard '*' in peer")
	case reservedPeer:
		return fmt.Errorf("is %q: that name stands for the own cluster", name)
	}
	return checkName(name, registeredName, "a-z, 0-9 and -")
}

// checkImportedName returns nil for a name that a peer's service may have.
func checkImportedName(name string) error {
	return checkName(name, importedName, "letters, digits, - and _")
}

// checkSource returns nil for a service of a peer, or with an empty peer of ours, or Wildcard.
func checkSource(name, peer string) error {
	switch {
	case name == Wildcard:
		return nil
	case peer != "":
		return checkImportedName(name)
	}
	return CheckServiceName(name)
}

func checkName(name string, pattern *regexp.Regexp, letters string) error {
	switch {
	case name == "":
		return fmt.Errorf("is missing")
	case name != Wildcard && strings.Contains(name, Wildcard):
		return fmt.Errorf("is %s: partial wildcards are not supported: want * alone or a whole name", quote(name))
	case name == Wildcard:
		return fmt.Errorf("is *: want one name")
	case len(name) > maxName:
		return fmt.Errorf("is %d bytes: want at most %d", len(name), maxName)
	case !pattern.MatchString(name):
		return fmt.Errorf("is %s: want %s, with a letter or digit at both ends", quote(name), letters)
	}
	return nil
}

// checkID returns nil for a service ID. IDs stand in paths and in the node IDs of proxies.
func checkID(id string) error { return checkIDFrom('!', "ASCII without spaces, / and \\", id) }

// checkCheckID returns nil for the ID of a check, which is its name where none is given, and so may hold spaces.
func checkCheckID(id string) error { return checkIDFrom(' ', "ASCII without / and \\", id) }

func checkIDFrom(lowest byte, want, id string) error {
	const most = 255
	if len(id) > most {
		return fmt.Errorf("is %d bytes: want at most %d", len(id), most)
	}
	for _, c := range []byte(id) {
		if c < lowest || c > '~' || c == '/' || c == '\\' {
			return fmt.Errorf("is %s: want %s", quote(id), want)
		}
	}
	return nil
}

var (
	hostLabel = regexp.MustCompile(`^[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?$`)
	numeric   = regexp.MustCompile(`^([0-9]+|0[xX][0-9a-fA-F]*)$`)
)

// CheckHost returns nil for an IP address or a host name. A name that some resolver would read as an address (127.1,
// 0x7f.1, 2130706433) is neither.
func CheckHost(host string) error {
	const most = 253
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" {
			return fmt.Errorf("is %s: want no zone", quote(host))
		}
		return nil
	}
	name := strings.TrimSuffix(host, ".")
	if len(name) > most {
		return fmt.Errorf("is %d bytes: want at most %d", len(name), most)
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if len(label) > maxName || !hostLabel.MatchString(label) {
			return fmt.Errorf("is %s: want an IP address or a host name", quote(host))
		}
	}
	if numeric.MatchString(labels[len(labels)-1]) {
		return fmt.Errorf("is %s: want an IP address in its usual form, or a host name whose last part is not a number", quote(host))
	}
	return nil
}

// CheckHostPort returns nil for host:port with a host as in CheckHost and a port from 1 to 65535.
func CheckHostPort(address string) error {
	colon := strings.LastIndexByte(address, ':')
	if colon < 0 {
		return fmt.Errorf("is %s: want host:port", quote(address))
	}
	host, port := address[:colon], address[colon+1:]
	if inner, ok := strings.CutPrefix(host, "["); ok {
		host, ok = strings.CutSuffix(inner, "]")
		if ip, err := netip.ParseAddr(host); !ok || err != nil || !ip.Is6() {
			return fmt.Errorf("is %s: want host:port", quote(address))
		}
	} else if strings.Contains(host, ":") {
		return fmt.Errorf("is %s: want an IPv6 address in brackets", quote(address))
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return fmt.Errorf("is %s: want a port from 1 to 65535", quote(address))
	}
	return CheckHost(host)
}

// checkMeta reports keys and values that Consul's tools could not show.
func (r *report) checkMeta(path string, meta map[string]string) {
	const mostPairs, mostKey, mostValue = 64, 128, 512
	if len(meta) > mostPairs {
		r.errorf(path, "has %d keys: want at most %d", len(meta), mostPairs)
	}
	for _, key := range sorted(meta) {
		at := join(path, clip(key))
		if key == "" || len(key) > mostKey || strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }) {
			r.errorf(at, "want a key of 1 to %d ASCII characters without spaces", mostKey)
		}
		if len(meta[key]) > mostValue {
			r.errorf(at, "is %d bytes: want at most %d", len(meta[key]), mostValue)
		}
	}
}

// sorted returns the keys of a map in order, so that what is reported has an order.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
