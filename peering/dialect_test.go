package peering

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// dial113 opens a stream as a dialer of the older dialect does: no locality, and no list of services.
func dial113(t testing.TB, acceptor *cluster, name string) *rawPeer {
	t.Helper()
	client, decoded := rawClient(t, acceptor, acceptor.token(name))
	secret := exchange(t, client, decoded)
	stream, err := client.StreamResources(t.Context())
	require.NoError(t, err)
	p := newRawPeer(t, stream)
	p.send(&wire.ReplicationMessage{Payload: &wire.ReplicationMessage_Open{Open: &wire.Open{PeerID: decoded.PeerID, StreamSecretID: secret}}})
	p.subscribe(wire.TypeService, wire.TypeTrustBundle, wire.TypeAddresses)
	return p
}

// offer113 sends a resource as a peer of the older dialect does, without a nonce, and wants it taken.
func (p *rawPeer) offer113(url, id string, set *wire.ExportedService) {
	p.t.Helper()
	r := &wire.Response{ResourceURL: url, ResourceID: id, Operation: wire.Operation_OPERATION_DELETE}
	if set != nil {
		packed, err := anypb.New(set)
		require.NoError(p.t, err)
		r.Operation, r.Resource = wire.Operation_OPERATION_UPSERT, packed
	}
	p.send(responseMessage(r))
	p.answered113(url)
}

// answered113 waits for an ACK, which carries no nonce, as what it answers has none.
func (p *rawPeer) answered113(url string) {
	p.t.Helper()
	reply := p.next("an answer", func(m *wire.ReplicationMessage) bool { return m.GetRequest() != nil }).GetRequest()
	require.Equal(p.t, url, reply.ResourceURL)
	require.Empty(p.t, reply.ResponseNonce)
	require.Nil(p.t, reply.Error)
}

// subscribed113 reads the subscriptions of the other end.
func (p *rawPeer) subscribed113(urls ...string) {
	p.t.Helper()
	for _, url := range urls {
		request := p.next("a subscription", func(m *wire.ReplicationMessage) bool { return m.GetRequest() != nil }).GetRequest()
		require.Equal(p.t, url, request.ResourceURL)
	}
}

func TestDialerOfTheOlderDialect(t *testing.T) {
	east, west := newCluster(t, "east"), foreign(t)
	east.commit(append(append(reachable("db"), instance("node-1", "plain", 80, false)...), exports("west", "db", "plain"))...)
	p := dial113(t, east, "west")
	p.subscribed113(wire.TypeService, wire.TypeTrustBundle)
	p.send(responseMessage(offer("", wire.TypeTrustBundle, wire.TrustBundleID, bundle(west)).GetResponse()))
	p.answered113(wire.TypeTrustBundle)
	require.Equal(t, "1.13", east.store.World().Peer("west").Dialect)

	p.offer113(wire.TypeService, "web-sidecar-proxy", serviceSet(meshInstance("web", "east", west.trustDomain)))
	p.offer113(wire.TypeService, "old", serviceSet(plainInstance("old")))
	require.Empty(t, east.store.World().Import("west", "web").NotRoutable)
	p.offer113(wire.TypeService, "old", nil)
	require.Nil(t, east.store.World().Import("west", "old"))
	p.offer113(wire.TypeService, "unknown", nil)

	seen := map[string]int{}
	east.awaitStatus("west", "exports", func(s snapshot.PeerStatus) bool { return len(s.Exported) == 2 && len(s.NotExported) == 1 })
	again := dial113(t, east, "west")
	for len(seen) < 4 {
		r := again.next("a service", func(m *wire.ReplicationMessage) bool { return m.GetResponse() != nil }).GetResponse()
		again.send(answer(r, 0, ""))
		require.NotEqual(t, wire.TypeServiceList, r.ResourceURL, "which the peer would refuse")
		if r.ResourceURL == wire.TypeService {
			seen[r.ResourceID] = len(again.instances(r))
		}
	}
	require.Equal(t, map[string]int{"db": 1, "db-sidecar-proxy": 1, "plain": 1, "plain-sidecar-proxy": 1}, seen, "this dialect has a mesh form of every name")
}

// Without a list the exporter must say of each name that it is gone, also when it went while the peer was away.
func TestOlderDialectIsToldWhatWentWhileItWasAway(t *testing.T) {
	east := newCluster(t, "east")
	east.commit(append(reachable("db"), exports("west", "db"))...)
	p := dial113(t, east, "west")
	p.resource(wire.TypeService, "db")
	east.commit(exports("west"))
	gone := map[string]wire.Operation{}
	for len(gone) < 2 {
		r := p.next("a deletion", func(m *wire.ReplicationMessage) bool {
			return m.GetResponse().GetOperation() == wire.Operation_OPERATION_DELETE
		}).GetResponse()
		require.Nil(t, r.Resource)
		gone[r.ResourceID] = r.Operation
		p.send(answer(r, 0, ""))
	}
	require.Contains(t, gone, "db")
	require.Contains(t, gone, "db-sidecar-proxy")

	east.commit(exports("west", "db"))
	p.resource(wire.TypeService, "db")
	east.stop()
	p.ended()
	east.commit(exports("west"))
	east.start()
	again := dial113(t, east, "west")
	for wanted := map[string]bool{"db": true, "db-sidecar-proxy": true}; len(wanted) > 0; {
		r := again.next("a deletion", func(m *wire.ReplicationMessage) bool {
			return m.GetResponse().GetOperation() == wire.Operation_OPERATION_DELETE
		}).GetResponse()
		delete(wanted, r.ResourceID)
	}
}

func TestImportsOfTheOlderDialectAreSwept(t *testing.T) {
	east, west := newCluster(t, "east", func(c *Config) { c.Timing.Sweep = 50 * time.Millisecond }), foreign(t)
	for n, names := range [][]string{{"db", "web"}, {"db"}} {
		p := dial113(t, east, "west")
		p.subscribed113(wire.TypeService, wire.TypeTrustBundle)
		p.send(responseMessage(offer("", wire.TypeTrustBundle, wire.TrustBundleID, bundle(west)).GetResponse()))
		p.answered113(wire.TypeTrustBundle)
		for _, name := range names {
			p.offer113(wire.TypeService, name, serviceSet(plainInstance(name)))
		}
		if n == 0 {
			require.Len(t, east.store.World().Imports("west"), 2)
		}
	}
	east.await("swept", func(w *snapshot.World) bool { return w.Import("west", "web") == nil && w.Import("west", "db") != nil })
}

func TestAcceptorOfTheOlderDialect(t *testing.T) {
	west, east := newCluster(t, "west"), foreign(t)
	west.commit(append(reachable("db"), exports("east", "db"))...)
	acceptor := newRawAcceptor(t, east)
	p := acceptor.accept(west, "east", wire.TypeService, wire.TypeTrustBundle, wire.TypeAddresses)
	p.subscribed113(wire.TypeService, wire.TypeTrustBundle, wire.TypeAddresses)
	p.resources(wire.TrustBundleID, "db-sidecar-proxy")
	p.send(responseMessage(offer("", wire.TypeTrustBundle, wire.TrustBundleID, bundle(east)).GetResponse()))
	p.answered113(wire.TypeTrustBundle)
	peer := west.store.World().Peer("east")
	require.Equal(t, "1.13", peer.Dialect)
	before, _ := acceptor.ca.Bundle()
	require.Equal(t, before, peer.CAPEMs, "the token's CA stays: certificates do not follow the bundle in this dialect")
	west.awaitState("east", snapshot.Active)
	p.send(subscription("", wire.TypeServiceList))
	p.ended()
	require.Contains(t, west.awaitState("east", snapshot.Failing).Reason, "subscription request to unknown resource URL: "+wire.TypeServiceList)
}

// A dialer that says nothing of where it is may still speak the newer dialect.
func TestListOfServicesTellsTheNewerDialect(t *testing.T) {
	east := newCluster(t, "east")
	client, decoded := rawClient(t, east, east.token("west"))
	secret := exchange(t, client, decoded)
	stream, err := client.StreamResources(t.Context())
	require.NoError(t, err)
	p := newRawPeer(t, stream)
	p.send(&wire.ReplicationMessage{Payload: &wire.ReplicationMessage_Open{Open: &wire.Open{PeerID: decoded.PeerID, StreamSecretID: secret}}})
	p.subscribe()
	p.subscribed113(dialect114.acceptor...)
	p.resource(wire.TypeServiceList, wire.ServiceListID)
}
