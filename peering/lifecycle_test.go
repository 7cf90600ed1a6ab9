package peering

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// Either end may delete: the other is told, keeps the row so that people see it, and loses all that came from the peer.
func TestDeletionIsToldToThePeer(t *testing.T) {
	for _, by := range []string{"dialer", "acceptor"} {
		t.Run("by the "+by, func(t *testing.T) {
			east, west := newCluster(t, "east"), newCluster(t, "west")
			for c, peer := range map[*cluster]string{east: "west", west: "east"} {
				c.commit(append(reachable("db"), exports(peer, "db"))...)
			}
			west.peerWith(east)
			west.awaitImport("east", "db", "routable", routable)
			east.awaitImport("west", "db", "routable", routable)
			here, there := west, east
			if by == "acceptor" {
				here, there = east, west
			}
			commits := len(there.store.since(0))
			require.NoError(t, here.Delete(t.Context(), there.name))
			world := here.store.World()
			if peer := world.Peer(there.name); peer != nil {
				require.Equal(t, snapshot.Deleting, peer.State)
			}
			require.Empty(t, world.Imports(there.name), "what came from the peer goes at once")
			here.await("gone", func(w *snapshot.World) bool { return w.Peer(there.name) == nil })
			require.NotContains(t, here.store.secrets(), "acceptor")
			require.NotContains(t, here.store.secrets(), "dialer")

			there.await("terminated", func(w *snapshot.World) bool { return w.Peer(here.name).State == snapshot.Terminated })
			world = there.store.World()
			require.Empty(t, world.Imports(here.name))
			require.Empty(t, world.Peer(here.name).Roots)
			require.False(t, world.Peer(here.name).Usable())
			require.Equal(t, 1, goneWithTheRow(there.store.since(commits), here.name), "roots and imports go in one commit")
			status := there.Status(here.name)
			require.Equal(t, snapshot.Terminated, status.State)
			require.Contains(t, status.Reason, "the peer deleted the peering")

			require.NoError(t, there.Delete(t.Context(), here.name), "a terminated peering can be deleted")
			there.await("gone", func(w *snapshot.World) bool { return w.Peer(here.name) == nil })
			west.peerWith(east)
			west.awaitImport("east", "db", "routable again", routable)
		})
	}
}

// goneWithTheRow counts the imports that go in the commit that makes a peer TERMINATED.
func goneWithTheRow(commits [][]snapshot.Event, peer string) int {
	for _, commit := range commits {
		ended, imports := false, 0
		for _, event := range commit {
			if row, ok := event.Object.(*snapshot.Peer); ok && row.Name == peer && row.State == snapshot.Terminated {
				ended = true
			}
			if event.Key.Table == snapshot.TableImports && event.Object == nil {
				imports++
			}
		}
		if ended {
			return imports
		}
	}
	return -1
}

func TestDeletingNobodyIsNoError(t *testing.T) {
	east := newCluster(t, "east")
	require.NoError(t, east.Delete(t.Context(), "nobody"))
	east.token("west")
	require.NoError(t, east.Delete(t.Context(), "west"))
	require.NoError(t, east.Delete(t.Context(), "west"))
	east.await("gone", func(w *snapshot.World) bool { return w.Peer("west") == nil })
	require.Empty(t, east.Tokens())
	require.Empty(t, east.store.secrets())
}

// A stream's secret is replaced by a new token under the same name. Nothing is disturbed, and the former secret is void once
// the dialer has come with the new one; until then status says that it is good.
func TestNewTokenReplacesTheSecret(t *testing.T) {
	east, west := newCluster(t, "east"), newCluster(t, "west")
	west.peerWith(east)
	id := west.store.World().Peer("east").ID
	former, _ := west.vault.dialer(id)
	given := east.token("west")
	require.NoError(t, west.Establish(t.Context(), config.EstablishRequest{Peer: "east", Token: given}))
	for c, peer := range map[*cluster]string{east: "west", west: "east"} {
		require.Equal(t, snapshot.Active, c.Status(peer).State)
	}
	require.Contains(t, east.Status("west").Reason, "a new secret waits for the peer's next stream: until then the former is good")
	fresh, _ := west.vault.dialer(id)
	require.NotEqual(t, former, fresh)
	require.NotContains(t, west.store.secrets(), former.Secret)

	west.stop()
	west.start()
	west.awaitState("east", snapshot.Active)
	east.awaitStatus("west", "active", func(s snapshot.PeerStatus) bool { return s.State == snapshot.Active && s.Reason == "" })
	client, decoded := rawClient(t, east, given)
	require.Equal(t, codes.PermissionDenied, openRaw(t, client, decoded.PeerID, former.Secret).ended().Code())
	require.Equal(t, snapshot.Active, east.Status("west").State, "who comes with the former secret disturbs nobody")
}

// A server that ends while a peering is being deleted finishes that when it starts again.
func TestDeletionSurvivesARestart(t *testing.T) {
	east := newCluster(t, "east")
	east.token("west")
	east.stop()
	require.NoError(t, east.Delete(t.Context(), "west"))
	require.NotNil(t, east.store.World().Peer("west"))
	require.Contains(t, east.Status("west").Reason, "being deleted since")
	east.start()
	east.await("gone", func(w *snapshot.World) bool { return w.Peer("west") == nil })
}

// The states of an acceptor as people see them.
func TestStatesOfAnAcceptor(t *testing.T) {
	east, west := newCluster(t, "east"), newCluster(t, "west")
	require.Equal(t, "no such peer", east.Status("west").Reason)
	secret := east.token("west")
	status := east.Status("west")
	require.Equal(t, snapshot.Pending, status.State)
	require.Contains(t, status.Reason, "waiting for the peer to use the token, until ")
	require.NoError(t, west.Establish(t.Context(), config.EstablishRequest{Peer: "east", Token: secret}))
	status = east.awaitState("west", snapshot.Active)
	require.Empty(t, status.Reason)
	require.Positive(t, status.RoundTrip)
	require.False(t, status.LastReceive.IsZero())
	require.False(t, status.LastSend.IsZero())
	west.stop()
	status = east.awaitState("west", snapshot.Failing)
	require.Contains(t, status.Reason, "waiting for the peer to dial again")
	east.stop()
	east.start()
	status = east.Status("west")
	require.Equal(t, snapshot.Establishing, status.State)
	require.Contains(t, status.Reason, "waiting for the peer to dial")
}

// A peer that sends and never reads ends its own session, and holds nothing up.
func TestPeerThatDoesNotReadIsCutOff(t *testing.T) {
	east := newCluster(t, "east")
	east.maxControl = 1000
	east.commit(append(manyExports(200), entry(&config.PeerPolicy{Name: "west", Quotas: config.Quotas{UpdatesPerSecond: 1_000_000}}))...)
	client, decoded := rawClient(t, east, east.token("west"))
	stream, err := client.StreamResources(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(openMessage(decoded.PeerID, exchange(t, client, decoded))))
	for _, url := range dialect114.dialer {
		require.NoError(t, stream.Send(subscription("", url)))
	}
	for err == nil { // every message asks for an answer that is never read
		err = stream.Send(offer("n", "type.googleapis.com/odd", "x", &wire.RemoteInfo{}))
	}
	for err = nil; err == nil; {
		_, err = stream.Recv()
	}
	require.Equal(t, codes.Unavailable, status.Code(err), "the connection is closed: a status would not get through")
	require.Contains(t, east.awaitState("west", snapshot.Failing).Reason, "the peer does not read")
}
