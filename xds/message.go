package xds

import (
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// A message is a marshalled DeltaDiscoveryResponse, in pieces. It is not written afterwards, so that streams may share it.
type message struct{ pieces mem.BufferSlice }

// A codec sends a message as the bytes that it is, and leaves everything else to protobuf's codec.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(protocodec.Name)} }

// Marshal returns the pieces themselves: there is nothing to give back when they have been sent.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*message); ok {
		return m.pieces, nil
	}
	return c.CodecV2.Marshal(v)
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

// encode returns a DeltaDiscoveryResponse with the resources as the bytes that they are.
func encode(k kind, nonce string, items []item, removed []string) *message {
	var e encoder
	for _, it := range items {
		it.encode(&e, k)
	}
	e.small = appendString(e.small, fieldTypeURL, typeURLs[k])
	e.small = appendString(e.small, fieldNonce, nonce)
	for _, name := range removed {
		e.small = appendString(e.small, fieldRemoved, name)
	}
	e.flush()
	return &message{e.pieces}
}

// An encoder puts pieces together: small ones are copied into one, large ones stay where they are.
type encoder struct {
	pieces mem.BufferSlice
	small  []byte // the next piece, unless it is empty
}

// largePiece is from how many bytes on a piece costs more to copy than to keep apart.
const largePiece = 512

func (e *encoder) add(piece []byte) {
	if len(piece) < largePiece {
		e.small = append(e.small, piece...)
		return
	}
	e.flush()
	e.pieces = append(e.pieces, mem.SliceBuffer(piece))
}

func (e *encoder) flush() {
	if n := len(e.small); n > 0 {
		e.pieces = append(e.pieces, mem.SliceBuffer(e.small[:n:n]))
		e.small = e.small[n:]
	}
}

func (it item) sizeBody() int {
	size := len(it.body)
	for _, chain := range it.chains {
		size += envoy.SizeChain(chain)
	}
	return size
}

// encode adds the resource as a field of the response.
func (it item) encode(e *encoder, k kind) {
	body := it.sizeBody()
	value := sizeBytes(len(typeURLs[k])) + sizeBytes(body)
	e.small = appendHeader(e.small, fieldResources, sizeBytes(len(it.version))+sizeBytes(value)+sizeBytes(len(it.name)))
	e.small = appendString(e.small, fieldVersion, it.version)
	e.small = appendHeader(e.small, fieldResource, value)
	e.small = appendString(e.small, fieldAnyType, typeURLs[k])
	e.small = appendHeader(e.small, fieldAnyValue, body)
	e.add(it.body)
	for _, chain := range it.chains {
		e.small = envoy.AppendChainHeader(e.small, chain)
		e.add(chain)
	}
	e.small = appendString(e.small, fieldName, it.name)
}

// sizeBytes is the size of a field of n bytes with its tag, which is one byte for every field used here.
func sizeBytes(n int) int { return 1 + protowire.SizeBytes(n) }

// appendHeader appends what goes before the size bytes of a field.
func appendHeader(b []byte, field protowire.Number, size int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(size))
}

func appendString(b []byte, field protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), value)
}
