package envoy

import (
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// The type URLs of the resources that a Set holds, and of those that are served beside it.
const (
	TypeListener  = typePrefix + "envoy.config.listener.v3.Listener"
	TypeCluster   = typePrefix + "envoy.config.cluster.v3.Cluster"
	TypeEndpoint  = typePrefix + "envoy.config.endpoint.v3.ClusterLoadAssignment"
	TypeSecret    = typePrefix + "envoy.extensions.transport_sockets.tls.v3.Secret"
	TypeExtension = typePrefix + "envoy.config.core.v3.TypedExtensionConfig"
)

const typePrefix = "type.googleapis.com/"

// A Builder builds protobufs, checks each with its generated validator, and marshals them deterministically. It keeps the
// first error, which is a bug of the caller: what was built is good only if Err says nil. The zero value is ready; one
// Builder is for one goroutine.
type Builder struct{ err error }

// Err returns the first failed validator's error, with the kind and name of what was built.
func (b *Builder) Err() error { return b.err }

// Resource validates and marshals m under its name.
func (b *Builder) Resource(name string, m proto.Message, origin Origin) *Resource {
	body := b.marshal(name, m)
	return &Resource{
		TypeURL: typePrefix + string(m.ProtoReflect().Descriptor().FullName()),
		Name:    name, Version: Hash(body), Body: body, Origin: origin,
	}
}

// pack validates and marshals m as the value of an Any.
func (b *Builder) pack(name string, m proto.Message) *anypb.Any {
	return &anypb.Any{
		TypeUrl: typePrefix + string(m.ProtoReflect().Descriptor().FullName()),
		Value:   b.marshal(name, m),
	}
}

func (b *Builder) marshal(name string, m proto.Message) []byte {
	if v, ok := m.(interface{ Validate() error }); ok {
		b.keep(name, m, v.Validate())
	}
	// Deterministic sorts maps: the same message is the same bytes, in every process of one build.
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	b.keep(name, m, err)
	return body
}

func (b *Builder) keep(name string, m proto.Message, err error) {
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("%s %s: %w", m.ProtoReflect().Descriptor().Name(), name, err)
	}
}

// ads says that a resource comes over the stream that brought the one that names it.
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
	}
}

// SocketAddress returns a TCP address. address is an IP.
func SocketAddress(address string, port uint16) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       address,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

func duration(d time.Duration) *durationpb.Duration { return durationpb.New(d) }
