package bootstrap

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
)

const serverID = "spiffe://11111111-2222-3333-4444-555555555555.consul/agent/server/dc/dc1"

// An emptyXDS answers every delta subscription with nothing, which is all that Envoy waits for, and tells who came.
type emptyXDS struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	callers chan caller // the first request of each stream
}

type caller struct {
	token   []string
	request *discoveryv3.DeltaDiscoveryRequest
}

func (x *emptyXDS) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	headers, _ := metadata.FromIncomingContext(stream.Context())
	for first := true; ; first = false {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		if first {
			x.callers <- caller{headers.Get("x-consul-token"), request}
		}
		if request.GetResponseNonce() != "" {
			continue
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: request.GetTypeUrl(), Nonce: request.GetTypeUrl()}); err != nil {
			return err
		}
	}
}

// serveXDS starts a control plane with a certificate for serverID and returns its address and roots.
func serveXDS(t *testing.T) (address, rootPEM string, x *emptyXDS) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := url.Parse(serverID)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		URIs: []*url.URL{id}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x = &emptyXDS{callers: make(chan caller, 16)}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:   tls.VersionTLS13,
	})))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, x)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(listener) }() // Stop ends it
	t.Cleanup(func() { server.Stop(); <-ended })
	return listener.Addr().String(), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), x
}
