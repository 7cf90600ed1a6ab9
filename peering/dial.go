package peering

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	unchecked "google.golang.org/grpc/experimental/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// cipherSuites are those of TLS 1.2 that we speak: ephemeral keys and authenticated encryption. TLS 1.3 has no others.
var cipherSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305,
}

// targets returns the addresses to dial, those that an operator wrote before those that the peer announces.
func targets(peer *snapshot.Peer) []string {
	if len(peer.ManualAddresses) > 0 {
		return peer.ManualAddresses
	}
	return peer.ServerAddresses
}

// transport returns how to speak to a peer. Consul's servers do not answer the offer of HTTP/2, and speak it all the same.
func (s *Service) transport(peer *snapshot.Peer) (credentials.TransportCredentials, error) {
	if len(peer.CAPEMs) == 0 {
		if !s.AllowPlaintext {
			return nil, errors.New("the token names no CA, so that nobody could tell whom we speak to: want a token of a server with TLS")
		}
		return insecure.NewCredentials(), nil
	}
	roots := x509.NewCertPool()
	for _, root := range peer.CAPEMs {
		if !roots.AppendCertsFromPEM([]byte(root)) {
			return nil, errors.New("a root of the peer is not a certificate")
		}
	}
	return unchecked.NewTLSWithALPNDisabled(&tls.Config{
		RootCAs: roots, ServerName: peer.ServerName, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13, CipherSuites: cipherSuites,
	}), nil
}

// connect dials one address of a peer. A host name is resolved first, every IP is held against the address policy, and
// the IP that was checked is the one that is dialled.
func (s *Service) connect(ctx context.Context, peer, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timing.Connect)
	defer cancel()
	ips, err := s.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	rules := addressPolicy(s.Store.World(), peer)
	var problems []error
	for _, ip := range ips {
		target, err := netip.ParseAddrPort(net.JoinHostPort(ip.String(), port))
		if err != nil {
			return nil, err
		}
		if err := rules.Check(target); err != nil {
			problems = append(problems, err)
			continue
		}
		conn, err := s.Dial(ctx, "tcp", target.String())
		if err == nil {
			return conn, nil
		}
		problems = append(problems, err)
	}
	return nil, errors.Join(problems...)
}

func (s *Service) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap().WithZone("")}, nil
	}
	ips, err := s.Resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("%s: no address", host)
	}
	for i, ip := range ips {
		ips[i] = ip.Unmap().WithZone("")
	}
	return ips, nil
}

// A peerConn is a gRPC connection to one address of a peer. It is for one use: it does not connect again by itself.
type peerConn struct {
	*grpc.ClientConn
	under *onceConn
}

// Close closes the connection, also when gRPC has not asked for it yet.
func (c *peerConn) Close() {
	_ = c.ClientConn.Close()
	if conn, err := c.under.take(); err == nil {
		_ = conn.Close()
	}
}

func (s *Service) client(ctx context.Context, peer *snapshot.Peer, address string) (*peerConn, error) {
	transport, err := s.transport(peer)
	if err != nil {
		return nil, err
	}
	conn, err := s.connect(ctx, peer.Name, address)
	if err != nil {
		return nil, err
	}
	once := &onceConn{conn: conn}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return once.take() }),
		grpc.WithMaxHeaderListSize(maxHeader), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithIdleTimeout(0),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
	}
	client, err := grpc.NewClient("passthrough:///"+address, options...)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &peerConn{client, once}, nil
}

// onceConn gives a connection away once.
type onceConn struct {
	mu   sync.Mutex
	conn net.Conn
}

func (o *onceConn) take() (net.Conn, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn == nil {
		return nil, errors.New("the connection was lost")
	}
	conn := o.conn
	o.conn = nil
	return conn, nil
}

// backoff returns a random pause, of at most twice as long after each failure, between nothing and the longest.
func (t Timing) backoff(failures int) time.Duration {
	longest := t.MaxRetry
	if failures < 16 {
		longest = min(longest, t.MinRetry<<failures)
	}
	return rand.N(longest) + time.Millisecond
}

// attempts collects why each address could not be used, the newest reason of each.
type attempts struct {
	order   []string
	reasons map[string]error
}

func (a *attempts) failed(address string, err error) {
	if a.reasons == nil {
		a.reasons = map[string]error{}
	}
	if _, known := a.reasons[address]; !known {
		a.order = append(a.order, address)
	}
	a.reasons[address] = err
}

func (a *attempts) String() string {
	var lines []string
	for _, address := range a.order {
		lines = append(lines, fmt.Sprintf("%s: %v", address, a.reasons[address]))
	}
	return strings.Join(lines, "; ")
}
