// Package sni formats and parses the names that meet on the wire: server names (SNI) and SPIFFE IDs, in the forms
// that Consul uses. It turns text into values and values into text, and never looks anything up.
package sni

import (
	"fmt"
	"strings"
)

// maxLength is the longest server name that Envoy and DNS accept, in bytes.
const maxLength = 253

// Peered is the server name of a service as one importing peer dials it. Peer is the name the exporting cluster gave
// the importing one, and TrustDomain is the exporting cluster's: the importer copies the name it was sent.
type Peered struct {
	Service, Namespace, Partition, Peer, TrustDomain string
}

// String returns <service>.<namespace>.<partition>.<peer>.external.<trust domain>, in lower case.
func (p Peered) String() string {
	return strings.ToLower(strings.Join([]string{p.Service, p.Namespace, p.Partition, p.Peer, "external", p.TrustDomain}, "."))
}

// ParsePeered reads the form that Peered.String writes. The error names the label that is wrong.
func ParsePeered(name string) (Peered, error) {
	labels, err := split(name, 6)
	if err != nil {
		return Peered{}, err
	}
	if labels[4] != "external" {
		return Peered{}, fmt.Errorf("sni %q: label 5 is %q: want service.namespace.partition.peer.external.trust-domain", name, labels[4])
	}
	return Peered{Service: labels[0], Namespace: labels[1], Partition: labels[2], Peer: labels[3], TrustDomain: labels[5]}, nil
}

// Egress returns *.<name>.external.<trust domain>: every service that a peer, who calls us name, may export to us.
func Egress(name, trustDomain string) string {
	return strings.ToLower("*." + name + ".external." + trustDomain)
}

// Local is the server name of a service inside its own cluster.
type Local struct {
	Service, Namespace, Datacenter, TrustDomain string
}

// String returns <service>.<namespace>.<datacenter>.internal.<trust domain>, in lower case.
func (l Local) String() string {
	return strings.ToLower(strings.Join([]string{l.Service, l.Namespace, l.Datacenter, "internal", l.TrustDomain}, "."))
}

// ParseLocal reads the form that Local.String writes.
func ParseLocal(name string) (Local, error) {
	labels, err := split(name, 5)
	if err != nil {
		return Local{}, err
	}
	if labels[3] != "internal" {
		return Local{}, fmt.Errorf("sni %q: label 4 is %q: want service.namespace.datacenter.internal.trust-domain", name, labels[3])
	}
	return Local{Service: labels[0], Namespace: labels[1], Datacenter: labels[2], TrustDomain: labels[4]}, nil
}

// PeeringServer returns the name that a peering token carries for the acceptor's certificate:
// server.<datacenter>.peering.<trust domain>.
func PeeringServer(datacenter, trustDomain string) string {
	return strings.ToLower("server." + datacenter + ".peering." + trustDomain)
}

// PeeringServerTrustDomain returns the trust domain in the form that PeeringServer writes, and false for any other name.
func PeeringServerTrustDomain(name string) (string, bool) {
	labels, err := split(name, 4)
	if err != nil || labels[0] != "server" || labels[2] != "peering" {
		return "", false
	}
	return labels[3], true
}

// split cuts a server name into n labels, the last of which takes the rest (a trust domain holds dots itself).
func split(name string, n int) ([]string, error) {
	if len(name) > maxLength {
		return nil, fmt.Errorf("sni %.40q…: %d bytes: want at most %d", name, len(name), maxLength)
	}
	if name != strings.ToLower(name) {
		return nil, fmt.Errorf("sni %q: want lower case", name)
	}
	labels := strings.SplitN(name, ".", n)
	if len(labels) < n {
		return nil, fmt.Errorf("sni %q: %d labels: want at least %d", name, len(labels), n)
	}
	for i, label := range append(labels[:n-1:n-1], strings.Split(labels[n-1], ".")...) {
		if err := checkLabel(label); err != nil {
			return nil, fmt.Errorf("sni %q: label %d %w", name, i+1, err)
		}
	}
	return labels, nil
}

func checkLabel(label string) error {
	if label == "" {
		return fmt.Errorf("is empty")
	}
	for _, c := range []byte(label) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return fmt.Errorf("holds %q: want a-z, 0-9, - and _", string(rune(c)))
		}
	}
	return nil
}
