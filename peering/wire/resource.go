package wire

import (
	"crypto/sha256"
	"fmt"
	"slices"

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
	set := &ExportedService{}
	for _, instance := range instances {
		if instance.node == nil {
			return Resource{}, fmt.Errorf("service %s: an instance that NewInstance did not make", name)
		}
		if instance.node.Service.Service != name {
			return Resource{}, fmt.Errorf("service %s: instance %s is of service %s", name, instance.node.Service.ID, instance.node.Service.Service)
		}
		set.Nodes = append(set.Nodes, instance.node)
	}
	r, err := newResource(TypeService, name, set)
	r.gone = len(instances) == 0
	return r, err
}

// NewServiceList returns the complete list of the exported names, without those of mesh forms.
func NewServiceList(names []string) (Resource, error) {
	for _, name := range names {
		if err := CheckName(name); err != nil {
			return Resource{}, err
		}
	}
	return newResource(TypeServiceList, ServiceListID, &ExportedServiceList{Services: names})
}

// NewTrustBundle returns the complete set of our roots, in PEM.
func NewTrustBundle(trustDomain string, roots []string) (Resource, error) {
	if trustDomain == "" || len(roots) == 0 {
		return Resource{}, fmt.Errorf("trust bundle of %q: %d roots: want a trust domain and at least one root", trustDomain, len(roots))
	}
	pems := slices.Clone(roots)
	for i, pem := range pems {
		if pem != "" && pem[len(pem)-1] != '\n' {
			pems[i] = pem + "\n"
		}
	}
	return newResource(TypeTrustBundle, TrustBundleID, &PeeringTrustBundle{TrustDomain: trustDomain, RootPEMs: pems})
}

// NewAddresses returns the complete list of addresses at which we accept streams. A dialer cannot take an empty one.
func NewAddresses(addresses []string) (Resource, error) {
	if len(addresses) == 0 || slices.Contains(addresses, "") {
		return Resource{}, fmt.Errorf("server addresses %q: want at least one, and none empty", addresses)
	}
	return newResource(TypeAddresses, AddressesID, &PeeringServerAddresses{Addresses: addresses})
}

func newResource(url, id string, message proto.Message) (Resource, error) {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return Resource{}, fmt.Errorf("%s: %w", id, err)
	}
	if len(value) > MaxResource {
		return Resource{}, fmt.Errorf("%s: %d bytes: want at most %d", id, len(value), MaxResource)
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

// Response returns the message that carries the resource. With deletes, a name that is gone is a DELETE, which only the
// 1.13 dialect knows; without, it is an empty set.
func (r Resource) Response(nonce string, deletes bool) *Response {
	if r.url == "" {
		panic("wire: a Resource that no constructor made")
	}
	response := &Response{Nonce: nonce, ResourceURL: r.url, ResourceID: r.id, Operation: Operation_OPERATION_UPSERT}
	if r.gone && deletes {
		response.Operation = Operation_OPERATION_DELETE
		return response
	}
	response.Resource = &anypb.Any{TypeUrl: r.url, Value: r.value}
	return response
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
