package envoy

import (
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Shell is all of a listener but its chains. Any change of it drains every connection of the listener.
type Shell struct {
	Name        string
	Address     *corev3.Address
	Also        []*corev3.Address // further addresses of the same listener
	Direction   corev3.TrafficDirection
	BufferLimit uint32 // bytes per connection and direction
	Keepalive   Keepalive
}

func (s Shell) protobuf() *listenerv3.Listener {
	var also []*listenerv3.AdditionalAddress
	for _, address := range s.Also {
		also = append(also, &listenerv3.AdditionalAddress{Address: address})
	}
	return &listenerv3.Listener{
		Name:                          s.Name,
		Address:                       s.Address,
		AdditionalAddresses:           also,
		StatPrefix:                    s.Name,
		TrafficDirection:              s.Direction,
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(s.BufferLimit),
		TcpKeepalive:                  s.Keepalive.protobuf(),
	}
}

// ServerNameListener returns a listener that chooses its chain by SNI, which must arrive within timeout. It has no chain
// yet but ChainNone, and never one for every SNI. log is for connections that no chain wanted.
func (b *Builder) ServerNameListener(s Shell, timeout time.Duration, log *accesslogv3.AccessLog, origin Origin) *Listener {
	listener := s.protobuf()
	listener.ListenerFilters = []*listenerv3.ListenerFilter{b.TLSInspector()}
	listener.ListenerFiltersTimeout = duration(timeout)
	listener.AccessLog = []*accesslogv3.AccessLog{log}
	// Envoy refuses a listener without chains. This one has no filters, so that it closes what asks for it.
	listener.FilterChains = []*listenerv3.FilterChain{{
		Name:             ChainNone,
		FilterChainMatch: ServerNames(noneServerName),
	}}
	return b.listener(listener, origin)
}

// PlainListener returns a listener that treats every connection alike.
func (b *Builder) PlainListener(s Shell, origin Origin, filters ...*listenerv3.Filter) *Listener {
	listener := s.protobuf()
	listener.FilterChains = []*listenerv3.FilterChain{{Name: s.Name, Filters: filters}}
	return b.listener(listener, origin)
}

func (b *Builder) listener(listener *listenerv3.Listener, origin Origin) *Listener {
	shell := b.marshal(listener.Name, listener)
	return &Listener{Name: listener.Name, Shell: shell, ShellHash: Hash(shell), Origin: origin}
}

// ServerNames matches TLS connections that ask for one of the names: exact, or "*." and a suffix.
func ServerNames(names ...string) *listenerv3.FilterChainMatch {
	return &listenerv3.FilterChainMatch{ServerNames: names, TransportProtocol: "tls"}
}

// Chain validates and marshals a chain, which must hold no metadata: that is where the server puts the epoch.
func (b *Builder) Chain(chain *listenerv3.FilterChain, origin Origin) *Chain {
	body := b.marshal(chain.Name, chain)
	return &Chain{Name: chain.Name, Hash: Hash(body), Body: body, Origin: origin}
}

// EpochNamespace and EpochKey say where WithEpoch writes a chain's revocation epoch in its metadata.
const (
	EpochNamespace = "isthmus"
	EpochKey       = "revocation_epoch"
)

// Numbers of the fields that are appended to what is marshalled already.
const (
	fieldFilterChains  protowire.Number = 3 // of Listener
	fieldChainMetadata protowire.Number = 5 // of FilterChain
)

// WithEpoch returns a copy of a marshalled chain with its revocation epoch, at most 2^53. Envoy ignores the metadata, but a chain that
// differs from the last one is another chain: the connections of the old one drain.
func WithEpoch(chain []byte, epoch uint64) []byte {
	metadata, err := proto.MarshalOptions{Deterministic: true}.Marshal(&corev3.Metadata{
		FilterMetadata: map[string]*structpb.Struct{EpochNamespace: {Fields: map[string]*structpb.Value{
			EpochKey: structpb.NewNumberValue(float64(epoch)),
		}}},
	})
	if err != nil {
		panic(err) // nothing in it can be wrong
	}
	return appendBytes(append([]byte(nil), chain...), fieldChainMetadata, metadata)
}

// JoinListener returns the value of l's resource with these marshalled chains, in this order, behind those of its shell.
func JoinListener(l *Listener, chains [][]byte) []byte {
	size := len(l.Shell)
	for _, chain := range chains {
		size += SizeChain(chain)
	}
	body := append(make([]byte, 0, size), l.Shell...)
	for _, chain := range chains {
		body = append(AppendChainHeader(body, chain), chain...)
	}
	return body
}

// AppendChainHeader appends what goes before a marshalled chain to make it a field of a listener.
func AppendChainHeader(to, chain []byte) []byte {
	return protowire.AppendVarint(protowire.AppendTag(to, fieldFilterChains, protowire.BytesType), uint64(len(chain)))
}

// SizeChain returns the size of a marshalled chain as a field of a listener, in bytes.
func SizeChain(chain []byte) int {
	return protowire.SizeTag(fieldFilterChains) + protowire.SizeBytes(len(chain))
}

func appendBytes(to []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, field, protowire.BytesType), value)
}
