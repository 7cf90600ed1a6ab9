package peering

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// A misbehaviour is something that no peer should do. do does it and asserts what the peer sees of it; then the operator
// must read state and every text in the peering's status.
type misbehaviour struct {
	name string
	// fresh: do begins with a stream that is not open yet; else with a peer that is in order and has exported db to us.
	fresh bool
	only  func(cell) bool // the cells where it can be expressed; nil: all
	// gone: nothing good is left to be kept, because that is what was asked for.
	gone bool
	do   func(*misfit) (state snapshot.PeerState, texts []string)
}

func dials(c cell) bool    { return c.dials }
func dialled(c cell) bool  { return !c.dials }
func newer(c cell) bool    { return !c.older }
func olderOne(c cell) bool { return c.older }

// Every misbehaviour, in both dialects, of a peer that dials us and of one that we dial, over real gRPC: it is refused or
// bounded, the operator reads what and why, and a peer in order of the same cluster notices nothing. See also
// TestPeersThatStall for those that take time.
func TestMisbehavingPeers(t *testing.T) {
	east, south := newCluster(t, "east"), newCluster(t, "south")
	east.listens(ownListener)
	east.commit(entry(&config.PeerPolicy{Name: "west", Quotas: config.Quotas{Services: 50, UpdatesPerSecond: 1_000_000}}))
	others := newNeighbour(east, south)
	south.peerWith(east)
	others.fine(t, "at first")
	for _, rows := range [][]misbehaviour{openings, streamMisbehaviours, responseMisbehaviours, instanceMisbehaviours, metadataMisbehaviours, bundleMisbehaviours, addressMisbehaviours} {
		for _, row := range rows {
			for _, c := range cells {
				if row.only == nil || row.only(c) {
					t.Run(fmt.Sprintf("%s/%s", row.name, c), func(t *testing.T) {
						others.failing(t)
						misbehave(t, row, newMisfit(t, "west", east, others, c, nil, ""))
					})
				}
			}
		}
	}
	t.Logf("slowest change of the peer in order, both ways: %s", others.slowest)
}

func misbehave(t *testing.T, row misbehaviour, m *misfit) {
	defer m.close(t)
	if !row.fresh {
		m.open(t)
	}
	state, texts := row.do(m)
	m.others.fine(t, "while "+row.name)
	m.shows(t, state, texts...)
	if !row.fresh && !row.gone {
		m.keptDB(t)
	}
	m.others.fine(t, "after "+row.name)
}

// active is what a misbehaviour leaves that costs nobody the stream.
func active(texts ...string) (snapshot.PeerState, []string) { return snapshot.Active, texts }

func failing(texts ...string) (snapshot.PeerState, []string) { return snapshot.Failing, texts }

func request(r *wire.Request) *wire.ReplicationMessage {
	return &wire.ReplicationMessage{Payload: &wire.ReplicationMessage_Request{Request: r}}
}

const notOpen = "first message when initiating a peering must be: Open"

// refusedOpening opens a stream with a first message. Nobody knows then which peer it is, so that its peering just waits.
func refusedOpening(first func(*misfit) *wire.ReplicationMessage, code codes.Code, text string) func(*misfit) (snapshot.PeerState, []string) {
	return func(m *misfit) (snapshot.PeerState, []string) {
		stream, err := m.client.StreamResources(m.east.t.Context())
		require.NoError(m.east.t, err)
		m.rawPeer = newRawPeer(m.east.t, stream)
		m.send(first(m))
		m.subscribe(m.urls()...)
		m.cutOff(code, text)
		return snapshot.Establishing, []string{"waiting for the peer to dial"}
	}
}

var openings = []misbehaviour{
	{name: "a subscription before Open", fresh: true, only: dials, do: refusedOpening(
		func(*misfit) *wire.ReplicationMessage { return subscription("", wire.TypeService) }, codes.InvalidArgument, notOpen)},
	{name: "a response before Open", fresh: true, only: dials, do: refusedOpening(
		func(m *misfit) *wire.ReplicationMessage { return responseMessage(services("db", plainInstance("db"))) }, codes.InvalidArgument, notOpen)},
	{name: "Terminated before Open", fresh: true, only: dials, do: refusedOpening(
		func(*misfit) *wire.ReplicationMessage { return terminated() }, codes.InvalidArgument, notOpen)},
	{name: "Open with another secret", fresh: true, only: dials, do: refusedOpening(
		func(m *misfit) *wire.ReplicationMessage { return openMessage(m.token.PeerID, "guessed") }, codes.PermissionDenied, "invalid peering stream secret")},
	{name: "Open for an unknown peering, of 64 KiB", fresh: true, only: dials, do: refusedOpening(
		func(m *misfit) *wire.ReplicationMessage { return openMessage(strings.Repeat("x", 64<<10), m.secret) }, codes.InvalidArgument, "initial subscription for unknown PeerID: xxx")},
	{name: "Open from the end that accepts", fresh: true, only: dialled, do: func(m *misfit) (snapshot.PeerState, []string) {
		m.start(m.east.t)
		m.send(openMessage("", ""))
		m.subscribe(m.urls()...)
		m.ended()
		return failing("the peer opened the stream twice")
	}},
	{name: "a refusal that nobody can read", fresh: true, only: dialled, do: func(m *misfit) (snapshot.PeerState, []string) {
		m.start(m.east.t)
		m.acceptor.finish <- status.Error(codes.PermissionDenied, "\x1b[2J\a no "+strings.Repeat("x", 4000))
		return failing(`PermissionDenied: \x1b[2J\a no xxx`)
	}},
	{name: "a first subscription with a nonce", fresh: true, do: func(m *misfit) (snapshot.PeerState, []string) {
		m.start(m.east.t)
		m.send(request(&wire.Request{ResourceURL: wire.TypeService, ResponseNonce: "00000001"}))
		m.subscribe(m.urls()...)
		m.cutOff(codes.InvalidArgument, "initial subscription requests for a resource type must not contain a nonce")
		return failing("must not contain a nonce")
	}},
	{name: "a first subscription with an error", fresh: true, do: func(m *misfit) (snapshot.PeerState, []string) {
		m.start(m.east.t)
		m.send(request(&wire.Request{ResourceURL: wire.TypeService, Error: &wire.Status{Code: 13, Message: "no"}}))
		m.subscribe(m.urls()...)
		m.cutOff(codes.InvalidArgument, "must not contain an error")
		return failing("must not contain an error")
	}},
	{name: "services before the trust bundle", fresh: true, do: func(m *misfit) (snapshot.PeerState, []string) {
		m.start(m.east.t)
		m.subscribed()
		early := services("db-sidecar-proxy", m.gateway("db"))
		if !m.older {
			early.Nonce = "early"
		}
		m.send(responseMessage(early))
		m.await("our trust bundle", func(r *wire.ReplicationMessage) bool { return r.GetResponse().GetResourceID() == wire.TrustBundleID })
		m.shows(m.east.t, snapshot.Establishing, "the peer has sent no trust bundle yet")
		require.Empty(m.t, m.east.store.World().Imports("west"))
		m.taken(wire.TypeTrustBundle, wire.TrustBundleID, bundle(m.is))
		require.Nil(m.t, m.answerTo(early).Error)
		m.keptDB(m.east.t)
		return active()
	}},
	{name: "services without end and no trust bundle", fresh: true, do: func(m *misfit) (snapshot.PeerState, []string) {
		m.start(m.east.t)
		m.subscribed()
		fat := services("db", plainInstance("db", func(n *wire.CheckServiceNode) { n.Service.Tags = []string{strings.Repeat("x", 4<<20-200)} }))
		for n := range 9 {
			fat.Nonce = fmt.Sprint(n)
			m.send(responseMessage(fat))
		}
		m.cutOff(codes.Unavailable, "and no trust bundle")
		require.Empty(m.t, m.east.store.World().Imports("west"))
		return failing("the peer sent 8 resources and no trust bundle")
	}},
}

var streamMisbehaviours = []misbehaviour{
	{name: "Open twice", do: func(m *misfit) (snapshot.PeerState, []string) {
		m.send(openMessage(m.token.PeerID, m.secret))
		m.cutOff(codes.Unavailable, "the peer opened the stream twice")
		return failing("the peer opened the stream twice")
	}},
	{name: "a subscription to an unknown type", do: func(m *misfit) (snapshot.PeerState, []string) {
		m.send(subscription("", "type.googleapis.com/odd"))
		m.cutOff(codes.InvalidArgument, "subscription request to unknown resource URL: type.googleapis.com/odd")
		return failing("unknown resource URL: type.googleapis.com/odd")
	}},
	{name: "a subscription to a type of 64 KiB with an escape sequence", do: func(m *misfit) (snapshot.PeerState, []string) {
		m.send(subscription("", "\x1b[2J"+strings.Repeat("x", 64<<10)))
		m.cutOff(codes.InvalidArgument, `unknown resource URL: \x1b[2Jxxx`)
		return failing(`unknown resource URL: \x1b[2Jxxx`)
	}},
	{name: "a subscription to the list in the older dialect", only: olderOne, do: func(m *misfit) (snapshot.PeerState, []string) {
		m.send(subscription("", wire.TypeServiceList))
		m.cutOff(codes.InvalidArgument, "subscription request to unknown resource URL: "+wire.TypeServiceList)
		return failing("unknown resource URL: " + wire.TypeServiceList)
	}},
	{name: "subscriptions again", do: func(m *misfit) (snapshot.PeerState, []string) {
		m.subscribe(m.urls()...)
		return active(fmt.Sprintf("%d messages of the peer mean nothing here and were passed over", len(m.urls())))
	}},
	{name: "ACK and NACK for nonces never sent", do: func(m *misfit) (snapshot.PeerState, []string) {
		m.send(request(&wire.Request{ResourceURL: wire.TypeService, ResponseNonce: "ffffffff"}))
		m.send(request(&wire.Request{ResourceURL: wire.TypeService, ResponseNonce: "fffffffe", Error: &wire.Status{Code: 13, Message: "no"}}))
		return active("2 messages of the peer mean nothing here and were passed over")
	}},
	{name: "an empty message", do: func(m *misfit) (snapshot.PeerState, []string) {
		m.send(&wire.ReplicationMessage{})
		return active("1 messages of the peer mean nothing here and were passed over")
	}},
	{name: "a NACK that nobody can read", do: func(m *misfit) (snapshot.PeerState, []string) {
		m.east.commit(instance("node-1", "shared", 9, false)...)
		sent := m.next("shared", func(r *wire.ReplicationMessage) bool { return r.GetResponse().GetResourceID() == "shared" }).GetResponse()
		m.send(answer(sent, 13, "\x1b[2J no "+strings.Repeat("x", 100_000)))
		return active(`shared: refused by the peer: \x1b[2J no xxx`)
	}},
	{name: "a nonce of 64 KiB", only: newer, do: func(m *misfit) (snapshot.PeerState, []string) {
		r := services("db", plainInstance("db"))
		r.Nonce = strings.Repeat("x", 64<<10)
		m.send(responseMessage(r))
		m.cutOff(codes.Unavailable, "a nonce or type URL of 65536 bytes: want at most 1024")
		return failing("a nonce or type URL of 65536 bytes: want at most 1024")
	}},
	{name: "a type URL of 1 MiB", do: func(m *misfit) (snapshot.PeerState, []string) {
		m.send(responseMessage(&wire.Response{Nonce: "n", ResourceURL: strings.Repeat("x", 1<<20)}))
		m.cutOff(codes.Unavailable, "a nonce or type URL of 1048576 bytes: want at most 1024")
		return failing("a nonce or type URL of 1048576 bytes: want at most 1024")
	}},
	{name: "a message of 9 MiB", do: func(m *misfit) (snapshot.PeerState, []string) {
		m.send(responseMessage(&wire.Response{Nonce: "n", ResourceURL: wire.TypeService, ResourceID: strings.Repeat("x", 9<<20)}))
		m.cutOff(codes.ResourceExhausted, "received message larger than max")
		return failing("received message larger than max")
	}},
	{name: "Terminated and more", gone: true, do: func(m *misfit) (snapshot.PeerState, []string) {
		m.send(terminated(), responseMessage(services("web", plainInstance("web"))))
		m.cutOff(codes.Unknown, "EOF")
		m.shows(m.east.t, snapshot.Terminated, "the peer deleted the peering")
		require.Empty(m.t, m.east.store.World().Imports("west"))
		return snapshot.Terminated, nil
	}},
}
