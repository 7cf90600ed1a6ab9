package xds

import (
	"bytes"
	"slices"
	"testing"
	"unsafe"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// What is encoded by hand is what the library would encode, byte for byte.
func TestEncode(t *testing.T) {
	large := bytes.Repeat([]byte("x"), largePiece)
	l := &envoy.Listener{Name: "in", Shell: []byte("shell")}
	chains := [][]byte{[]byte("small chain"), large, large}
	items := []item{
		{name: "a", version: "1", body: []byte("body of a")},
		{name: "b", version: "2", body: large},
		{name: "c", version: "3", body: []byte{0}},
		{name: "in", version: "4", body: l.Shell, chains: chains},
	}
	bodies := [][]byte{items[0].body, large, items[2].body, envoy.JoinListener(l, chains)}
	for k := range typeURLs {
		got, err := newCodec().Marshal(encode(kind(k), "nonce", items, []string{"gone", "too"}))
		if err != nil {
			t.Fatal(err)
		}
		var r discoveryv3.DeltaDiscoveryResponse
		if err := proto.Unmarshal(got.Materialize(), &r); err != nil {
			t.Fatal(err)
		}
		if r.TypeUrl != typeURLs[k] || r.Nonce != "nonce" || !slices.Equal(r.RemovedResources, []string{"gone", "too"}) {
			t.Errorf("decoded %v", &r)
		}
		for i, resource := range r.Resources {
			if resource.Name != items[i].name || resource.Version != items[i].version ||
				resource.GetResource().GetTypeUrl() != typeURLs[k] || !bytes.Equal(resource.GetResource().GetValue(), bodies[i]) {
				t.Errorf("resource %d: decoded %v", i, resource)
			}
		}
		again, err := proto.MarshalOptions{Deterministic: true}.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		if len(again) != got.Len() {
			t.Errorf("%d bytes, want %d: a size was computed wrong", got.Len(), len(again))
		}
	}
}

// However many chains a listener has, they are sent from where they are.
func TestLargePiecesAreNotCopied(t *testing.T) {
	chain := bytes.Repeat([]byte("x"), largePiece)
	m := encode(listeners, "nonce", []item{{name: "in", version: "1", chains: [][]byte{chain}}}, nil)
	if !slices.ContainsFunc(m.pieces, func(piece mem.Buffer) bool {
		return unsafe.SliceData(piece.ReadOnlyData()) == unsafe.SliceData(chain)
	}) {
		t.Error("the chain was copied")
	}
}

// What is not ours is protobuf's: requests, and the answers of other services.
func TestCodecLeavesTheRest(t *testing.T) {
	got, err := newCodec().Marshal(&discoveryv3.DeltaDiscoveryResponse{Nonce: "7"})
	if err != nil {
		t.Fatal(err)
	}
	var r discoveryv3.DeltaDiscoveryResponse
	if err := newCodec().Unmarshal(got, &r); err != nil || r.Nonce != "7" {
		t.Errorf("got %v, %v", &r, err)
	}
	if _, err := newCodec().Marshal("no message"); err == nil {
		t.Error("a string was taken for a message")
	}
}
