package xds

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"

	clusterservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// selfSigned returns both ends of a TLS connection to 127.0.0.1.
func selfSigned() (server, client *tls.Config) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12},
		&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
}

// Over a real connection: TLS, token, one response, and the refusal of what is not served.
func TestServe(t *testing.T) {
	serverTLS, clientTLS := selfSigned()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(Config{})
	s.SetProxy(sidecar("web"))
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener, serverTLS) }()

	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(clientTLS)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ads := discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
	tokened := metadata.AppendToOutgoingContext(t.Context(), tokenHeader, "token-web")

	stream, err := ads.DeltaAggregatedResources(tokened)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&request{Node: node40("web"), TypeUrl: typeURLs[clusters]}); err != nil {
		t.Fatal(err)
	}
	response, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := describe(response), "CDS +app +out~db"; got != want {
		t.Errorf("received %s, want %s", got, want)
	}
	acknowledges(t, s, stream, response)

	all, err := ads.StreamAggregatedResources(tokened)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := all.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("state of the world: %v, want InvalidArgument", err)
	}
	perType, err := clusterservicev3.NewClusterDiscoveryServiceClient(conn).DeltaClusters(tokened)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := perType.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("service of one type: %v, want Unimplemented", err)
	}
	cancel()
	if err := <-served; err != context.Canceled {
		t.Errorf("served: %v, want %v", err, context.Canceled)
	}
	if _, err := stream.Recv(); err == nil {
		t.Error("the stream outlived its server")
	}
}

// acknowledges answers a response, and waits until the status says so: when, and from where.
func acknowledges(t *testing.T, s *Server, stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, response *discoveryv3.DeltaDiscoveryResponse) {
	t.Helper()
	before := s.Proxies()[0]
	if from, err := netip.ParseAddrPort(before.Address); err != nil || !from.Addr().IsLoopback() || !before.LastAck.IsZero() {
		t.Errorf("address %q, last ACK %s: want this machine's, and none yet", before.Address, before.LastAck)
	}
	sent := time.Now()
	if err := stream.Send(&request{TypeUrl: response.TypeUrl, ResponseNonce: response.Nonce}); err != nil {
		t.Fatal(err)
	}
	// Its endpoints are asked for next: the answer comes after what was acknowledged before.
	if err := stream.Send(&request{TypeUrl: typeURLs[endpoints], ResourceNamesSubscribe: []string{"svc~db"}}); err != nil {
		t.Fatal(err)
	}
	s.SetEndpoints(cla("svc~db", "1"))
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if at := s.Proxies()[0].LastAck; at.Before(sent) || at.After(time.Now()) {
		t.Errorf("last ACK %s: want after %s", at, sent)
	}
}
