package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// callers is a listener without a network.
type callers chan net.Conn

func (c callers) Accept() (net.Conn, error) {
	conn, open := <-c
	if !open {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (c callers) Close() error   { close(c); return nil }
func (c callers) Addr() net.Addr { return &net.TCPAddr{} }

// caller is one end of a pipe, that seems to come from an address.
type caller struct {
	net.Conn
	from net.Addr
}

func (c caller) RemoteAddr() net.Addr { return c.from }

// dial returns the caller's end of a connection from an address.
func (c callers) dial(from string) net.Conn {
	ours, theirs := net.Pipe()
	c <- caller{ours, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))}
	return theirs
}

// ended tells whether a connection was closed by its other end.
func ended(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := conn.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

func countEnded(conns []net.Conn) (n int) {
	for _, conn := range conns {
		if ended(conn) {
			n++
		}
	}
	return n
}

// Strangers of one address have a share and ten seconds; who has shown a token has both no more, from the same address too.
func TestDoor(t *testing.T) {
	inBubble(t, Config{Limits: Limits{Connections: 9, Strangers: 3}}, func(t *testing.T, s *Server) {
		outside := make(callers)
		d := newDoor(s, outside)
		inside := make(chan net.Conn, 100)
		go func() {
			for {
				conn, err := d.Accept()
				if err != nil {
					return
				}
				inside <- conn
			}
		}()
		var known []net.Conn
		for range 5 {
			known = append(known, outside.dial("10.0.0.1:1"))
			recognize(peer.NewContext(t.Context(), &peer.Peer{Addr: (<-inside).RemoteAddr()}))
		}
		var strangers []net.Conn
		for _, from := range []string{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1", "[2001:db8::4]:1", "10.0.0.1:2", "10.0.0.2:1"} {
			strangers = append(strangers, outside.dial(from))
		}
		synctest.Wait()
		if n := countEnded(strangers); n != 2 || !ended(strangers[3]) || !ended(strangers[5]) {
			t.Errorf("%d of 6 strangers were closed, want the one beyond the share of its address and the one beyond all", n)
		}
		if full, share := count(s.metrics.refused.WithLabelValues("full")), count(s.metrics.refused.WithLabelValues("address")); full != 1 || share != 1 {
			t.Errorf("counted: %v full, %v of one address, want 1 and 1", full, share)
		}
		wait(strangerTime)
		if n, k := countEnded(strangers), countEnded(known); n != 6 || k != 0 {
			t.Errorf("after %v %d of 6 strangers and %d of 5 with a token were closed, want all and none", strangerTime, n, k)
		}
		if len(d.strangers) != 0 || len(d.guests) != 5 {
			t.Errorf("%d guests, strangers %v: want 5 and none", len(d.guests), d.strangers)
		}
		for range 4 {
			_ = (<-inside).Close() // those of the strangers: what has ended is not counted down again
		}
		late := outside.dial("[2001:db8::1]:2")
		if _ = (<-inside).Close(); !ended(late) || len(d.guests) != 5 {
			t.Errorf("%d guests, want 5", len(d.guests))
		}
		_ = outside.Close()
		for _, conn := range known {
			_ = conn.Close()
		}
	})
}

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
