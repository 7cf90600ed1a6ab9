package peering

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/peering/wire"
)

// rawPeer is one end of a stream that says exactly what a test wants it to say.
type rawPeer struct {
	t        testing.TB
	stream   messageStream
	messages chan *wire.ReplicationMessage
	over     chan error // has the error that ended the stream
	nonce    int
}

func newRawPeer(t testing.TB, stream messageStream) *rawPeer {
	p := &rawPeer{t: t, stream: stream, messages: make(chan *wire.ReplicationMessage, 10_000), over: make(chan error, 1)}
	go func() {
		for {
			message, err := stream.Recv()
			if err != nil {
				p.over <- err
				close(p.messages)
				return
			}
			p.messages <- message
		}
	}()
	return p
}

// rawClient returns a client of a cluster's peering port, as a token tells to make it.
func rawClient(t testing.TB, c *cluster, given redact.String) (wire.PeerStreamServiceClient, token) {
	decoded, err := decodeToken(given)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	for _, root := range decoded.CA {
		roots.AppendCertsFromPEM([]byte(root))
	}
	transport := credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: decoded.ServerName})
	conn, err := grpc.NewClient("passthrough:///"+decoded.ServerAddresses[0], grpc.WithTransportCredentials(transport),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return c.Dial(ctx, "tcp", address) }))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return wire.NewPeerStreamServiceClient(conn), decoded
}

// exchange trades a token for a stream secret.
func exchange(t testing.TB, client wire.PeerStreamServiceClient, decoded token) string {
	answer, err := client.ExchangeSecret(t.Context(), &wire.ExchangeSecretRequest{PeerID: decoded.PeerID, EstablishmentSecret: decoded.EstablishmentSecret})
	require.NoError(t, err)
	return answer.StreamSecret
}

// dialRaw opens a stream to acceptor as the peer it calls name, with a new token, and subscribes to nothing.
func dialRaw(t testing.TB, acceptor *cluster, name string) (*rawPeer, token) {
	t.Helper()
	client, decoded := rawClient(t, acceptor, acceptor.token(name))
	return openRaw(t, client, decoded.PeerID, exchange(t, client, decoded)), decoded
}

func openRaw(t testing.TB, client wire.PeerStreamServiceClient, peerID, secret string) *rawPeer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	stream, err := client.StreamResources(ctx)
	require.NoError(t, err)
	p := newRawPeer(t, stream)
	p.send(openMessage(peerID, secret))
	return p
}

func openMessage(peerID, secret string) *wire.ReplicationMessage {
	return &wire.ReplicationMessage{Payload: &wire.ReplicationMessage_Open{Open: &wire.Open{
		PeerID: peerID, StreamSecretID: secret, Remote: &wire.RemoteInfo{Datacenter: "dc9"},
	}}}
}

func (p *rawPeer) send(messages ...*wire.ReplicationMessage) {
	for _, message := range messages {
		if err := p.stream.Send(message); err != nil {
			return // the reason comes with the end of the stream
		}
	}
}

// subscribe subscribes to types, by default to all that a dialer takes.
func (p *rawPeer) subscribe(urls ...string) {
	if len(urls) == 0 {
		urls = dialect114.dialer
	}
	for _, url := range urls {
		p.send(subscription("", url))
	}
}

// offer sends one resource with the next nonce, and returns the nonce.
func (p *rawPeer) offer(url, id string, resource proto.Message) string {
	p.nonce++
	nonce := fmt.Sprintf("%08x", p.nonce)
	p.send(offer(nonce, url, id, resource))
	return nonce
}

func offer(nonce, url, id string, resource proto.Message) *wire.ReplicationMessage {
	value, err := proto.Marshal(resource)
	if err != nil {
		panic(err)
	}
	return responseMessage(&wire.Response{
		Nonce: nonce, ResourceURL: url, ResourceID: id, Operation: wire.Operation_OPERATION_UPSERT, Resource: &anypb.Any{TypeUrl: url, Value: value},
	})
}

// subscription returns the first Request for a type.
func subscription(peerID, url string) *wire.ReplicationMessage {
	return &wire.ReplicationMessage{Payload: &wire.ReplicationMessage_Request{Request: &wire.Request{PeerID: peerID, ResourceURL: url}}}
}

func heartbeat() *wire.ReplicationMessage {
	return &wire.ReplicationMessage{Payload: &wire.ReplicationMessage_Heartbeat{Heartbeat: &wire.Heartbeat{}}}
}

func terminated() *wire.ReplicationMessage {
	return &wire.ReplicationMessage{Payload: &wire.ReplicationMessage_Terminated{Terminated: &wire.Terminated{}}}
}

func responseMessage(r *wire.Response) *wire.ReplicationMessage {
	return &wire.ReplicationMessage{Payload: &wire.ReplicationMessage_Response{Response: r}}
}

// answer returns the reply to a Response: an ACK, or with a reason a NACK.
func answer(to *wire.Response, code int32, reason string) *wire.ReplicationMessage {
	request := &wire.Request{ResourceURL: to.ResourceURL, ResponseNonce: to.Nonce}
	if reason != "" {
		request.Error = &wire.Status{Code: code, Message: reason}
	}
	return &wire.ReplicationMessage{Payload: &wire.ReplicationMessage_Request{Request: request}}
}

// next waits for a message that is wanted, and forgets those before it.
func (p *rawPeer) next(what string, wanted func(*wire.ReplicationMessage) bool) *wire.ReplicationMessage {
	p.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		select {
		case message, ok := <-p.messages:
			if !ok {
				require.FailNow(p.t, "the stream ended", "waiting for %s: %v", what, <-p.over)
			}
			if wanted(message) {
				return message
			}
		case <-limit.C:
			require.FailNow(p.t, "waited in vain", what)
		}
	}
}

// reply waits for the answer to a nonce.
func (p *rawPeer) reply(nonce string) *wire.Request {
	p.t.Helper()
	return p.next("the answer to "+nonce, func(m *wire.ReplicationMessage) bool { return m.GetRequest().GetResponseNonce() == nonce }).GetRequest()
}

// accepted wants an ACK.
func (p *rawPeer) accepted(nonce string) {
	p.t.Helper()
	require.Nil(p.t, p.reply(nonce).Error, "nonce %s", nonce)
}

// refused wants a NACK.
func (p *rawPeer) refused(nonce string, code int32, text string) {
	p.t.Helper()
	why := p.reply(nonce).Error
	require.NotNil(p.t, why, "nonce %s was accepted", nonce)
	require.Equal(p.t, code, why.Code)
	require.Contains(p.t, why.Message, text)
}

// resource waits for a resource of a type and ID, and acknowledges it.
func (p *rawPeer) resource(url, id string) *wire.Response {
	p.t.Helper()
	response := p.next(url+" "+id, func(m *wire.ReplicationMessage) bool {
		return m.GetResponse().GetResourceURL() == url && m.GetResponse().GetResourceID() == id
	}).GetResponse()
	p.send(answer(response, 0, ""))
	return response
}

// resources waits for several resources, which may come in any order, and acknowledges them.
func (p *rawPeer) resources(ids ...string) {
	p.t.Helper()
	for wanted := slices.Clone(ids); len(wanted) > 0; {
		r := p.next(fmt.Sprint(wanted), func(m *wire.ReplicationMessage) bool { return m.GetResponse() != nil }).GetResponse()
		p.send(answer(r, 0, ""))
		wanted = slices.DeleteFunc(wanted, func(id string) bool { return id == r.ResourceID })
	}
}

// instances reads an exported service.
func (p *rawPeer) instances(r *wire.Response) []*wire.CheckServiceNode {
	p.t.Helper()
	var set wire.ExportedService
	require.NoError(p.t, r.Resource.UnmarshalTo(&set))
	return set.Nodes
}

// ended waits for the end of the stream.
func (p *rawPeer) ended() *status.Status {
	p.t.Helper()
	select {
	case err := <-p.over:
		return status.Convert(err)
	case <-time.After(patience):
		require.FailNow(p.t, "the stream does not end")
		return nil
	}
}

// rawAcceptor is a peer that accepts streams and hands them to the test. It selects no ALPN protocol, as Consul's servers.
type rawAcceptor struct {
	wire.UnimplementedPeerStreamServiceServer
	*cluster // for its CA and its names only: it is not served
	t        testing.TB
	address  string
	streams  chan *rawPeer
	finish   chan error // the handler returns what it gets from here
	exchange func(*wire.ExchangeSecretRequest) (*wire.ExchangeSecretResponse, error)
	hear     func(messageStream) messageStream // how streams are read; nil: at once
}

func newRawAcceptor(t testing.TB, c *cluster) *rawAcceptor {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return newRawAcceptorOn(t, c, listener, listener.Addr().String())
}

func newRawAcceptorOn(t testing.TB, c *cluster, listener net.Listener, address string) *rawAcceptor {
	certificate, err := c.ca.ServerCertificate([]string{"server.dc1.peering." + c.trustDomain}, nil)
	require.NoError(t, err)
	a := &rawAcceptor{
		cluster: c, t: t, address: address, streams: make(chan *rawPeer, 10), finish: make(chan error, 10),
		exchange: func(*wire.ExchangeSecretRequest) (*wire.ExchangeSecretResponse, error) {
			return &wire.ExchangeSecretResponse{StreamSecret: "stream-secret"}, nil
		},
	}
	server := grpc.NewServer() // the listener below does the TLS
	wire.RegisterPeerStreamServiceServer(server, a)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(tls.NewListener(listener, &tls.Config{GetCertificate: certificate}))
	}()
	t.Cleanup(func() { server.Stop(); <-served })
	return a
}

func (a *rawAcceptor) ExchangeSecret(_ context.Context, r *wire.ExchangeSecretRequest) (*wire.ExchangeSecretResponse, error) {
	return a.exchange(r)
}

func (a *rawAcceptor) StreamResources(stream wire.PeerStreamService_StreamResourcesServer) error {
	heard := messageStream(stream)
	if a.hear != nil {
		heard = a.hear(stream)
	}
	p := newRawPeer(a.t, heard)
	a.streams <- p
	select {
	case err := <-a.finish:
		return err
	case err := <-p.over:
		p.over <- err
		return nil
	}
}

// token returns a token for this acceptor.
func (a *rawAcceptor) token(change ...func(*token)) redact.String {
	roots, _ := a.ca.Bundle()
	made := token{
		CA: roots, ServerAddresses: []string{a.address}, ServerName: "server.dc1.peering." + a.trustDomain,
		PeerID: "5a3c6f0e-0000-4000-8000-000000000001", EstablishmentSecret: "establishment", Remote: &tokenRemote{Datacenter: "dc1"},
	}
	for _, f := range change {
		f(&made)
	}
	return made.encode()
}

// accept establishes a peering from dialer, and returns the stream after Open, with the first subscriptions sent.
func (a *rawAcceptor) accept(dialer *cluster, name string, urls ...string) *rawPeer {
	a.t.Helper()
	require.NoError(a.t, dialer.Establish(a.t.Context(), config.EstablishRequest{Peer: name, Token: a.token()}))
	p := a.stream()
	if len(urls) == 0 {
		urls = dialect114.acceptor
	}
	p.subscribe(urls...)
	return p
}

// stream waits for the next stream, and for its Open.
func (a *rawAcceptor) stream() *rawPeer {
	a.t.Helper()
	select {
	case p := <-a.streams:
		open := p.next("Open", func(*wire.ReplicationMessage) bool { return true }).GetOpen()
		require.NotNil(a.t, open, "the first message is not Open")
		require.Equal(a.t, "stream-secret", open.StreamSecretID)
		return p
	case <-time.After(patience):
		require.FailNow(a.t, "nobody dials")
		return nil
	}
}

// bundle is the raw peer's own trust bundle.
func bundle(c *cluster) *wire.PeeringTrustBundle {
	roots, _ := c.ca.Bundle()
	return &wire.PeeringTrustBundle{TrustDomain: c.trustDomain, RootPEMs: roots}
}

// errHangUp ends a raw acceptor's stream.
var errHangUp = errors.New("hang up")
