package peering

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// A misfit is a peer that will misbehave: it speaks one of the dialects, at one end of a stream.
type misfit struct {
	name     string     // by which we call it; it calls us east
	*rawPeer            // nil until open
	east     *cluster   // ours
	is       *cluster   // its identity
	others   *neighbour // who shall not notice
	dials    bool       // it dials us; else we dial it
	older    bool       // it speaks the older dialect
	acceptor *rawAcceptor
	client   wire.PeerStreamServiceClient // of one that dials
	token    token
	secret   string
	hangUp   func() // ends its stream, if it dialled
	hear     func(messageStream) messageStream
}

// cell is one way in which a misfit meets us.
type cell struct{ older, dials bool }

func (c cell) String() string {
	return map[bool]string{false: "1.15", true: "1.13"}[c.older] + map[bool]string{false: "-dialled", true: "-dials"}[c.dials]
}

var cells = []cell{{false, true}, {false, false}, {true, true}, {true, false}}

// newMisfit makes a misfit that is not connected yet. listener is where it accepts streams, if it does; nil is loopback.
func newMisfit(t testing.TB, name string, east *cluster, others *neighbour, c cell, listener net.Listener, address string) *misfit {
	m := &misfit{name: name, east: east, is: newIdentity(t, name), others: others, dials: c.dials, older: c.older}
	m.hear = func(stream messageStream) messageStream { return stream }
	switch {
	case c.dials:
		m.client, m.token = rawClient(t, east, east.token(name))
		m.secret = exchange(t, m.client, m.token)
	case listener != nil:
		m.acceptor = newRawAcceptorOn(t, m.is, listener, address)
	default:
		m.acceptor = newRawAcceptor(t, m.is)
	}
	return m
}

func (m *misfit) dialect() dialect {
	if m.older {
		return dialect113
	}
	return dialect114
}

// start opens the stream and says nothing on it but, if it dials, Open.
func (m *misfit) start(t testing.TB) {
	t.Helper()
	if !m.dials {
		var change []func(*token)
		if m.older {
			change = append(change, func(made *token) { made.Remote = nil })
		}
		require.NoError(t, m.east.Establish(t.Context(), config.EstablishRequest{Peer: m.name, Token: m.acceptor.token(change...)}))
		m.rawPeer = m.acceptor.stream()
		m.t = t
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	m.hangUp = cancel
	stream, err := m.client.StreamResources(ctx)
	require.NoError(t, err)
	m.rawPeer = newRawPeer(t, m.hear(stream))
	first := openMessage(m.token.PeerID, m.secret)
	if m.older {
		first.GetOpen().Remote = nil
	}
	m.send(first)
}

// urls are the types that it subscribes to, in its order.
func (m *misfit) urls() []string {
	if m.dials {
		return m.dialect().dialer
	}
	return m.dialect().acceptor113()
}

// acceptor113 is what a Consul server subscribes to when it accepts: one of the older dialect takes addresses too.
func (d dialect) acceptor113() []string {
	if d.inventory {
		return d.acceptor
	}
	return d.dialer
}

// subscribed subscribes, and reads our subscriptions.
func (m *misfit) subscribed() {
	m.t.Helper()
	m.subscribe(m.urls()...)
	ours := m.dialect().acceptor
	if !m.dials {
		ours = m.dialect().dialer
	}
	for _, url := range ours {
		m.await("our subscription to "+url, func(r *wire.ReplicationMessage) bool { return r.GetRequest().GetResourceURL() == url })
	}
}

// open makes a peer of it that is in order, and exports db to us.
func (m *misfit) open(t testing.TB) {
	t.Helper()
	m.start(t)
	m.subscribed()
	m.await("our trust bundle", func(r *wire.ReplicationMessage) bool { return r.GetResponse().GetResourceID() == wire.TrustBundleID })
	m.taken(wire.TypeTrustBundle, wire.TrustBundleID, bundle(m.is))
	if !m.older {
		m.taken(wire.TypeServiceList, wire.ServiceListID, inventory("db", "web"))
	}
	m.taken(wire.TypeService, "db-sidecar-proxy", serviceSet(m.gateway("db")))
	m.east.awaitState(m.name, snapshot.Active)
	require.Empty(t, m.east.store.World().Import(m.name, "db").NotRoutable)
}

// gateway is a good instance of a mesh form.
func (m *misfit) gateway(service string, change ...func(*wire.CheckServiceNode)) *wire.CheckServiceNode {
	return meshInstance(service, "east", m.is.trustDomain, change...)
}

// await waits for a message, and acknowledges the resources that come meanwhile.
func (m *misfit) await(what string, wanted func(*wire.ReplicationMessage) bool) *wire.ReplicationMessage {
	m.t.Helper()
	return m.next(what, func(message *wire.ReplicationMessage) bool {
		if r := message.GetResponse(); r != nil {
			m.send(answer(r, 0, ""))
		}
		return wanted(message)
	})
}

// respond sends a response, with a nonce if its dialect has them, and returns the answer.
func (m *misfit) respond(r *wire.Response) *wire.Request {
	m.t.Helper()
	if !m.older && r.Nonce == "" {
		m.nonce++
		r.Nonce = fmt.Sprintf("%08x", m.nonce)
	}
	m.send(responseMessage(r))
	return m.answerTo(r)
}

func (m *misfit) answerTo(r *wire.Response) *wire.Request {
	m.t.Helper()
	return m.await(fmt.Sprintf("the answer to %.100s", r.ResourceID), func(message *wire.ReplicationMessage) bool {
		request := message.GetRequest()
		return request != nil && request.ResourceURL == r.ResourceURL && request.ResponseNonce == r.Nonce
	}).GetRequest()
}

// taken sends a resource and wants an ACK.
func (m *misfit) taken(url, id string, resource proto.Message) {
	m.t.Helper()
	require.Nil(m.t, m.respond(upsert(url, id, resource)).Error, id)
}

// nack sends a response and wants it refused.
func (m *misfit) nack(code int32, text string, r *wire.Response) {
	m.t.Helper()
	why := m.respond(r).Error
	require.NotNil(m.t, why, "it was accepted")
	require.Equal(m.t, code, why.Code, why.Message)
	require.Contains(m.t, why.Message, text)
	require.LessOrEqual(m.t, len(why.Message), longestReason+10)
}

func upsert(url, id string, resource proto.Message) *wire.Response {
	value, err := proto.Marshal(resource)
	if err != nil {
		panic(err)
	}
	return &wire.Response{ResourceURL: url, ResourceID: id, Operation: wire.Operation_OPERATION_UPSERT, Resource: &anypb.Any{TypeUrl: url, Value: value}}
}

// services is the response that carries instances of a service's mesh form, or its normal one.
func services(id string, nodes ...*wire.CheckServiceNode) *wire.Response {
	return upsert(wire.TypeService, id, serviceSet(nodes...))
}

// cutOff wants the stream ended: with a code and a text where it dials, and with whatever the transport says where we do.
func (m *misfit) cutOff(code codes.Code, text string) {
	m.t.Helper()
	got := m.ended()
	if m.dials {
		require.Equal(m.t, code, got.Code(), got.Message())
		require.Contains(m.t, got.Message(), text)
		require.LessOrEqual(m.t, len(got.Message()), longestReason+100)
	}
}

// close ends its side of the stream, if there is one, and the peering.
func (m *misfit) close(t testing.TB) {
	t.Helper()
	if m.hangUp != nil {
		m.hangUp()
	}
	if m.acceptor != nil {
		select {
		case m.acceptor.finish <- errHangUp:
		default:
		}
	}
	require.NoError(t, m.east.Delete(t.Context(), m.name))
	m.east.await(m.name+" is deleted", func(w *snapshot.World) bool { return w.Peer(m.name) == nil })
	require.Empty(t, m.east.store.World().Imports(m.name))
}

// A neighbour is a peer in order of the same cluster. What happens to another peering must be nothing to it.
type neighbour struct {
	east, south *cluster
	changes     int
	slowest     time.Duration
}

// newNeighbour peers south with east, and each exports a service to the other. East exports to west as well.
func newNeighbour(east, south *cluster) *neighbour {
	n := &neighbour{east: east, south: south}
	var consumers []config.Consumer
	for _, peer := range []string{south.name, "west"} {
		consumers = append(consumers, config.Consumer{Peer: peer})
	}
	east.commit(append(reachable("shared"), entry(&config.ExportedServices{
		Name: "default", Services: []config.ExportedService{{Name: "shared", Consumers: consumers}},
	}))...)
	south.commit(append(reachable("tool"), meshGateway("node-1", "gateway-1", "198.51.100.2", 443), exports(east.name, "tool"))...)
	return n
}

// failing has what goes wrong with both clusters fail t, until it ends.
func (n *neighbour) failing(t testing.TB) {
	before := n.east.t
	n.east.t, n.south.t = t, t
	t.Cleanup(func() { n.east.t, n.south.t = before, before })
}

// fine wants the peering in order, in both directions, on the stream that it began with, and changes to get through.
func (n *neighbour) fine(t testing.TB, when string) {
	t.Helper()
	n.changes++
	port := 10_000 + n.changes
	began := n.east.Now()
	n.east.commit(instance("node-1", "shared", port, false)...)
	n.south.commit(instance("node-1", "tool", port, false)...)
	arrived := func(i *snapshot.Import) bool {
		return routable(i) && len(i.Instances) == 1 && i.Instances[0].Service.Port == port
	}
	n.south.awaitImport(n.east.name, "shared", "as changed "+when, arrived)
	n.east.awaitImport(n.south.name, "tool", "as changed "+when, arrived)
	n.slowest = max(n.slowest, n.east.Now().Sub(began))
	for _, end := range []struct{ of, peer *cluster }{{n.east, n.south}, {n.south, n.east}} {
		status := end.of.Status(end.peer.name)
		require.Equal(t, snapshot.Active, status.State, "%s: %s", when, status.Reason)
		require.Empty(t, status.Reason, when)
		end.of.link(end.of.store.World().Peer(end.peer.name)).note(func(notes *notes) {
			require.Equal(t, uint64(1), notes.sessions, "%s: the stream of the peer in order was cut", when)
		})
	}
}

// shows waits until the operator reads a state and all texts, and wants all of it printable.
func (m *misfit) shows(t testing.TB, state snapshot.PeerState, texts ...string) {
	t.Helper()
	status := m.east.awaitStatus(m.name, fmt.Sprint(state, texts), func(s snapshot.PeerStatus) bool {
		all := statusText(s)
		for _, text := range texts {
			if !strings.Contains(all, text) {
				return false
			}
		}
		return s.State == state
	})
	require.False(t, unprintable(statusText(status)), statusText(status))
	require.Less(t, len(statusText(status)), 10_000)
}

func statusText(s snapshot.PeerStatus) string {
	text := s.Reason
	for _, name := range s.Imported {
		text += " " + name
	}
	for name, reason := range s.NotExported {
		text += " " + name + ": " + reason
	}
	return text
}

// keptDB wants what was good before to be as it was.
func (m *misfit) keptDB(t testing.TB) {
	t.Helper()
	imported := m.east.store.World().Import(m.name, "db")
	require.NotNil(t, imported)
	require.Empty(t, imported.NotRoutable)
	require.Len(t, imported.Gateways, 1)
	require.Equal(t, "192.0.2.1", imported.Gateways[0].Service.TaggedAddresses["wan"].Address)
}

// ownListener is an address at which east says that it listens.
var ownListener = netip.MustParseAddrPort("192.0.2.200:8443")

// listens has a cluster know addresses of its own.
func (c *cluster) listens(own ...netip.AddrPort) {
	identity := *c.store.World().Cluster()
	identity.Addresses.Own = own
	c.commit(snapshot.Event{Key: snapshot.NewKey(snapshot.TableCluster, ""), Object: &identity})
}
