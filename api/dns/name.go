package dns

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// What a name asks for: its label before the place.
const (
	kindService = "service"
	kindConnect = "connect"
	kindNode    = "node"
	kindAddress = "addr"
)

// A name is what is asked for, and where.
type name struct {
	kind    string
	service string // or the node's name, or the address in hex
	tag     string // of services; empty: any
	peer    string // empty: ours
}

// parse reads a name in our zone. ok is false for one that is nobody's. A label for the place is our datacenter, or a
// peer where "peer" follows it.
func parse(full, datacenter string) (n name, ok bool) {
	labels := dns.SplitDomainName(strings.ToLower(full))
	labels = labels[:len(labels)-1] // the zone
	at := -1
	for i := len(labels) - 1; i >= 0 && at < 0; i-- {
		switch {
		case slices.Contains([]string{kindService, kindConnect, kindNode, kindAddress}, labels[i]):
			at, n.kind = i, labels[i]
		case strings.HasPrefix(labels[i], "_") && i > 0: // _NAME._tcp.consul
			labels = slices.Insert(labels, i+1, kindService)
			at, n.kind = i+1, kindService
		}
	}
	if at < 1 {
		return name{}, false
	}
	if n.peer, ok = place(labels[at+1:], strings.ToLower(datacenter)); !ok {
		return name{}, false
	}
	what := labels[:at]
	switch last := len(what) - 1; {
	case n.kind == kindNode: // a node's name may have dots
		n.service = strings.Join(what, ".")
	case n.kind == kindService && len(what) == 2 && strings.HasPrefix(what[0], "_") && strings.HasPrefix(what[1], "_"):
		n.service, n.tag = what[0][1:], what[1][1:]
		if n.tag == "tcp" {
			n.tag = ""
		}
	default:
		n.service, n.tag = what[last], strings.Join(what[:last], ".")
	}
	return n, n.kind == kindService || n.tag == ""
}

// place reads the labels that say where: none, DC, DC.dc or PEER.peer.
func place(labels []string, datacenter string) (peer string, ok bool) {
	switch {
	case len(labels) == 0:
		return "", true
	case len(labels) == 1, len(labels) == 2 && labels[1] == "dc":
		return "", labels[0] == datacenter
	case len(labels) == 2 && labels[1] == "peer":
		return labels[0], true
	}
	return "", false
}

// addressName is the name under which an address is found: targets of SRV records need one.
func addressName(address netip.Addr, peer, datacenter string) string {
	text := hex.EncodeToString(address.AsSlice()) + "." + kindAddress + "."
	if peer == "" {
		text += datacenter + "."
	}
	return text + zone
}

// address reads the address in such a name.
func (n name) address() (netip.Addr, bool) {
	raw, err := hex.DecodeString(n.service)
	if err != nil {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(raw)
}

// nodeName is the name under which a node is found.
func nodeName(node, peer, datacenter string) string {
	if peer != "" {
		return node + "." + kindNode + "." + peer + ".peer." + zone
	}
	return node + "." + kindNode + "." + datacenter + "." + zone
}
