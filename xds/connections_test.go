package xds

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
)

// Over real connections: the share of an address is full of connections without a token; a proxy that has one is served from
// that address before and after it, and takes no part of the share.
func TestServeManyFromOneAddress(t *testing.T) {
	serverTLS, clientTLS := selfSigned()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const share = 4
	s := newServer(Config{Limits: Limits{Strangers: share}})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener, serverTLS) }()
	for i := range 3 * share {
		id := fmt.Sprintf("web-%d", i)
		s.SetProxy(sidecar(id))
		connectProxy(t, listener.Addr().String(), id, credentials.NewTLS(clientTLS))
	}
	for range share {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	over, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = over.SetReadDeadline(time.Now().Add(5 * time.Second))
	var timeout net.Error
	if _, err := over.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("one stranger too many: %v after 5 s, want a closed connection", err)
	}
	stopping := time.Now()
	cancel()
	<-served
	if took := time.Since(stopping); took > strangerTime/2 {
		t.Errorf("the server stopped after %v: strangers held it up", took)
	}
}

// connectProxy opens a stream with the token of a proxy, and returns when it was answered.
func connectProxy(t *testing.T, address, id string, security credentials.TransportCredentials) {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(security))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), tokenHeader, "token-"+id), 10*time.Second)
	t.Cleanup(cancel)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&request{Node: node40(id), TypeUrl: typeURLs[clusters]}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatalf("proxy %s: %v", id, err)
	}
}
