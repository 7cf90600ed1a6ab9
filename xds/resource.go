package xds

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// A kind is one type of resource. Their order is the order in which a push sends what is new: what others refer to first.
type kind int

const (
	secrets kind = iota
	clusters
	endpoints
	extensions
	listeners
	kinds
)

var typeURLs = [kinds]string{
	secrets:    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
	clusters:   "type.googleapis.com/envoy.config.cluster.v3.Cluster",
	endpoints:  "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
	extensions: "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
	listeners:  "type.googleapis.com/envoy.config.listener.v3.Listener",
}

var kindOf = func() map[string]kind {
	index := make(map[string]kind, kinds)
	for k, url := range typeURLs {
		index[url] = kind(k)
	}
	return index
}()

func (k kind) String() string { return typeURLs[k] }

// wildcards tells whether Envoy may ask for all of the kind at once. All others it asks for by name.
func (k kind) wildcards() bool { return k == clusters || k == listeners }

// An item is one resource as it goes out.
type item struct {
	name, version string
	body          []byte          // value of the Any
	resource      *envoy.Resource // where it comes from a set
}

// Numbers of the fields of DeltaDiscoveryResponse, of its Resource and of Any.
const (
	fieldResources protowire.Number = 2
	fieldTypeURL   protowire.Number = 4
	fieldNonce     protowire.Number = 5
	fieldRemoved   protowire.Number = 6

	fieldVersion  protowire.Number = 1
	fieldResource protowire.Number = 2
	fieldName     protowire.Number = 3

	fieldAnyType  protowire.Number = 1
	fieldAnyValue protowire.Number = 2
)

// encode returns a DeltaDiscoveryResponse. The resources go into it as the bytes that they are: the message is an Empty
// whose unknown fields are the response, since protobuf writes fields that it does not know as it got them. It is not written
// afterwards, so that streams may share it.
func encode(k kind, nonce string, items []item, removed []string) *emptypb.Empty {
	size := sizeBytes(len(typeURLs[k])) + sizeBytes(len(nonce))
	for _, it := range items {
		size += sizeBytes(it.size(k))
	}
	for _, name := range removed {
		size += sizeBytes(len(name))
	}
	b := make([]byte, 0, size)
	for _, it := range items {
		b = it.append(b, k)
	}
	b = appendString(b, fieldTypeURL, typeURLs[k])
	b = appendString(b, fieldNonce, nonce)
	for _, name := range removed {
		b = appendString(b, fieldRemoved, name)
	}
	message := &emptypb.Empty{}
	message.ProtoReflect().SetUnknown(b)
	return message
}

func (it item) sizeAny(k kind) int { return sizeBytes(len(typeURLs[k])) + sizeBytes(len(it.body)) }

func (it item) size(k kind) int {
	return sizeBytes(len(it.version)) + sizeBytes(it.sizeAny(k)) + sizeBytes(len(it.name))
}

func (it item) append(b []byte, k kind) []byte {
	b = protowire.AppendTag(b, fieldResources, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(it.size(k)))
	b = appendString(b, fieldVersion, it.version)
	b = protowire.AppendTag(b, fieldResource, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(it.sizeAny(k)))
	b = appendString(b, fieldAnyType, typeURLs[k])
	b = protowire.AppendTag(b, fieldAnyValue, protowire.BytesType)
	b = protowire.AppendBytes(b, it.body)
	return appendString(b, fieldName, it.name)
}

// sizeBytes is the size of a field of n bytes with its tag, which is one byte for every field used here.
func sizeBytes(n int) int { return 1 + protowire.SizeBytes(n) }

func appendString(b []byte, field protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), value)
}

// emptyAssignment is the value of a ClusterLoadAssignment without endpoints. Envoy ignores the removal of one.
func emptyAssignment(name string) item {
	const fieldClusterName = 1
	body := appendString(nil, fieldClusterName, name)
	return item{name: name, version: envoy.Hash(body), body: body}
}
