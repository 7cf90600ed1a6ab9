package wire

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// A Resource is one thing that may be sent to a peer. The zero value cannot be sent; the constructors make the others.
type Resource struct {
	url, id string
	value   []byte
	gone    bool
}

// NewService returns the complete set of instances of a name, which ends in ProxySuffix for the mesh form. Without
// instances it says that the name is gone.
func NewService(name string, instances []Instance) (Resource, error) {
	if err := CheckName(name); err != nil {
		return Resource{}, err
	}
	if strings.TrimSuffix(name, ProxySuffix) == "consul" && len(instances) > 0 {
		return Resource{}, fmt.Errorf("service %s: that name is every cluster's own", name)
	}
	if _, left := Distinct(instances); len(left) > 0 {
		return Resource{}, fmt.Errorf("service %s: %s", name, left[0])
	}
	var set []byte
	for _, i := range instances {
		switch {
		case i.value == nil:
			return Resource{}, fmt.Errorf("service %s: an instance that NewInstance did not make", name)
		case i.service != name:
			return Resource{}, fmt.Errorf("service %s: instance %s is of service %s", name, i.id, i.service)
		case i.mesh != strings.HasSuffix(name, ProxySuffix):
			return Resource{}, fmt.Errorf("service %s: instance %s is of the other form", name, i.id)
		}
		set = protowire.AppendTag(set, exportedServiceNodes, protowire.BytesType)
		set = protowire.AppendBytes(set, i.value)
	}
	r, err := sized(TypeService, name, set)
	r.gone = len(instances) == 0
	return r, err
}

// exportedServiceNodes is the number of ExportedService's one field.
const exportedServiceNodes = 1

// NewServiceList returns the complete list of the exported names, sorted, without those of mesh forms.
func NewServiceList(names []string) (Resource, error) {
	for i, name := range names {
		if err := CheckName(name); err != nil {
			return Resource{}, err
		}
		if i > 0 && names[i-1] >= name || strings.HasSuffix(name, ProxySuffix) {
			return Resource{}, fmt.Errorf("list of services: %s: want each name once, in order, and none of a mesh form", name)
		}
	}
	return newResource(TypeServiceList, ServiceListID, &ExportedServiceList{Services: names})
}

// NewTrustBundle returns the complete set of our roots, in PEM.
func NewTrustBundle(trustDomain string, roots []string) (Resource, error) {
	if checkIdentifier("", trustDomain) != nil || len(roots) == 0 {
		return Resource{}, fmt.Errorf("trust bundle of %.100q: %d roots: want a trust domain and at least one root", trustDomain, len(roots))
	}
	pems := slices.Clone(roots)
	for i, text := range pems {
		block, _ := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE" {
			return Resource{}, fmt.Errorf("trust bundle of %s: root %d is not the PEM of a certificate", trustDomain, i)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return Resource{}, fmt.Errorf("trust bundle of %s: root %d: %w", trustDomain, i, err)
		}
		if text[len(text)-1] != '\n' {
			pems[i] = text + "\n"
		}
	}
	return newResource(TypeTrustBundle, TrustBundleID, &PeeringTrustBundle{TrustDomain: trustDomain, RootPEMs: pems})
}

// NewAddresses returns the complete list of addresses at which we accept streams. A dialer cannot take an empty one.
func NewAddresses(addresses []string) (Resource, error) {
	if len(addresses) == 0 {
		return Resource{}, fmt.Errorf("server addresses: none: want at least one")
	}
	for _, address := range addresses {
		if err := checkHostPort(address); err != nil {
			return Resource{}, err
		}
	}
	return newResource(TypeAddresses, AddressesID, &PeeringServerAddresses{Addresses: addresses})
}

func newResource(url, id string, message proto.Message) (Resource, error) {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return Resource{}, fmt.Errorf("%s: %w", id, err)
	}
	return sized(url, id, value)
}

// envelope is more than a message adds to the resource that it carries. Some servers take no message above MaxResource.
const envelope = 1 << 10

func sized(url, id string, value []byte) (Resource, error) {
	if most := MaxResource - envelope; len(value) > most {
		return Resource{}, fmt.Errorf("%s: %d bytes: want at most %d", id, len(value), most)
	}
	return Resource{url: url, id: id, value: value}, nil
}

// URL returns the resource's type URL.
func (r Resource) URL() string { return r.url }

// ID returns the resource's name within its type.
func (r Resource) ID() string { return r.id }

// Gone tells whether the resource says that a name has no instances.
func (r Resource) Gone() bool { return r.gone }

// Sum identifies the content.
func (r Resource) Sum() [sha256.Size]byte { return sha256.Sum256(r.value) }

// Message returns the message that carries the resource. With deletes, a name that is gone is a DELETE, which only the
// 1.13 dialect knows; without, it is an empty set. A resource that no constructor made, and an empty nonce, which the
// newer dialect refuses, are errors.
func (r Resource) Message(nonce string, deletes bool) (Message, error) {
	if r.url == "" || nonce == "" || len(nonce) > 64 {
		return Message{}, fmt.Errorf("resource %q with nonce %.64q: want one that a constructor made, and a nonce", r.id, nonce)
	}
	response := &Response{Nonce: nonce, ResourceURL: r.url, ResourceID: r.id, Operation: Operation_OPERATION_UPSERT}
	if r.gone && deletes {
		response.Operation = Operation_OPERATION_DELETE
	} else {
		response.Resource = &anypb.Any{TypeUrl: r.url, Value: r.value}
	}
	return Message{&ReplicationMessage{Payload: &ReplicationMessage_Response{Response: response}}}, nil
}

// CheckName returns nil for a name that a service may have on the wire: 1 to 63 letters, digits, - and _, or that and
// ProxySuffix.
func CheckName(name string) error {
	const longest = 63
	if name == "" {
		return fmt.Errorf("service name is empty: want letters, digits, - and _")
	}
	if len(name) > longest+len(ProxySuffix) {
		return fmt.Errorf("service name %.40q… is %d bytes: want at most %d", name, len(name), longest)
	}
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return fmt.Errorf("service name %.40q holds %q: want letters, digits, - and _", name, string(rune(c)))
		}
	}
	if name[0] == '-' || name[len(name)-1] == '-' {
		return fmt.Errorf("service name %.40q: want no - at either end", name)
	}
	return nil
}
