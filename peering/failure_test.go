package peering

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// refuseTable makes a store refuse commits that touch a private record of a kind, or with an empty kind a peer's row.
func refuseTable(kind string) func([]snapshot.Event) error {
	return func(events []snapshot.Event) error {
		for _, event := range events {
			if parts := event.Key.Parts(); event.Key.Table == snapshot.TablePrivate && parts[1] == kind || kind == "" && event.Key.Table == snapshot.TablePeers {
				return errors.New("disk full")
			}
		}
		return nil
	}
}

// A token is spent when the secret that it was traded for is stored, and not before.
func TestSecretIsStoredBeforeItIsAnswered(t *testing.T) {
	east, west := newCluster(t, "east"), newCluster(t, "west")
	secret := east.token("west")
	client, decoded := rawClient(t, east, secret)
	east.store.setRefuse(refuseTable(kindAcceptor))
	_, err := client.ExchangeSecret(t.Context(), &wire.ExchangeSecretRequest{PeerID: decoded.PeerID, EstablishmentSecret: decoded.EstablishmentSecret})
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.ErrorContains(t, west.Establish(t.Context(), config.EstablishRequest{Peer: "east", Token: secret}), "the secret could not be stored: try again")
	require.True(t, east.Tokens()[0].Used.IsZero())
	east.store.setRefuse(nil)

	west.store.setRefuse(refuseTable(kindDialer))
	err = west.Establish(t.Context(), config.EstablishRequest{Peer: "east", Token: secret})
	require.ErrorContains(t, err, "the secret could not be stored, and the token is spent: disk full")
	west.store.setRefuse(nil)
	west.peerWith(east)
}

func TestNothingIsAnsweredThatIsNotStored(t *testing.T) {
	east := newCluster(t, "east")
	east.store.setRefuse(refuseTable(""))
	_, err := east.GenerateToken(t.Context(), config.TokenRequest{Peer: "west"})
	require.ErrorContains(t, err, "disk full")
	require.Empty(t, east.Tokens())
	east.store.setRefuse(nil)
	_, decoded := rawClient(t, east, east.token("west"))
	east.store.setRefuse(refuseTable(kindToken))
	require.ErrorContains(t, east.RevokeToken(t.Context(), decoded.ID), "disk full")
	require.True(t, east.Tokens()[0].Revoked.IsZero())
}

func TestDeletionIsTriedAgainWhenTheStoreRefuses(t *testing.T) {
	east := newCluster(t, "east")
	east.token("west")
	tries := make(chan struct{}, 100)
	east.store.setRefuse(func(events []snapshot.Event) error {
		for _, event := range events {
			if event.Key.Table == snapshot.TablePeers && event.Object == nil && len(tries) < 3 {
				tries <- struct{}{}
				return errors.New("disk full")
			}
		}
		return nil
	})
	require.NoError(t, east.Delete(t.Context(), "west"))
	east.await("gone", func(w *snapshot.World) bool { return w.Peer("west") == nil })
	require.Len(t, tries, 3)
}

// A dialer that has no stream when it deletes opens one to say so.
func TestDialerTellsOfADeletionWithoutAStream(t *testing.T) {
	east, west := newCluster(t, "east"), newCluster(t, "west")
	west.peerWith(east)
	west.stop()
	east.awaitState("west", snapshot.Failing)
	require.NoError(t, west.Delete(t.Context(), "east"))
	west.start()
	east.awaitState("west", snapshot.Terminated)
	west.await("gone", func(w *snapshot.World) bool { return w.Peer("east") == nil })
}

func TestPanicEndsOneCall(t *testing.T) {
	east := newCluster(t, "east")
	client, decoded := rawClient(t, east, east.token("west"))
	east.store.setRefuse(func([]snapshot.Event) error { panic("boom") })
	_, err := client.ExchangeSecret(t.Context(), &wire.ExchangeSecretRequest{PeerID: decoded.PeerID, EstablishmentSecret: decoded.EstablishmentSecret})
	require.Equal(t, codes.Internal, status.Code(err))
	require.Equal(t, "grpc: panic serving request", status.Convert(err).Message())
	east.store.setRefuse(nil)
	exchange(t, client, decoded)
}

func TestRunListensByItself(t *testing.T) {
	east := newCluster(t, "east")
	second, err := New(Config{
		Store: east.store, Publisher: east.store.publisher, Log: east.Log, Roots: east.Roots, AllowPlaintext: true, Addr: east.Advertise[0],
	})
	require.NoError(t, err)
	require.ErrorContains(t, second.Run(t.Context()), "peering: listen on "+east.Advertise[0])

	third, err := New(Config{
		Store: east.store, Publisher: east.store.publisher, Log: east.Log, Roots: east.Roots, AllowPlaintext: true, Addr: "127.0.0.1:0",
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- third.Run(ctx) }()
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

func TestNodesAreDescribedAsTheyAre(t *testing.T) {
	east := newCluster(t, "east")
	east.commit(append(append(reachable("db"), exports("west", "db")), snapshot.Event{Key: snapshot.NewKey(snapshot.TableNodes, "node-1"), Object: &snapshot.Node{
		ID: "7d4e7b5c-0000-4000-8000-000000000001", Name: "node-1", Address: "10.1.1.1", Datacenter: "dc7",
		TaggedAddresses: map[string]string{"wan": "198.51.100.7"}, Meta: map[string]string{"rack": "2"},
	}})...)
	p, _ := importerOf(t, east)
	for _, id := range []string{"db-sidecar-proxy", "db"} {
		node := p.instances(p.resource(wire.TypeService, id))[0].Node
		require.Equal(t, "node-1", node.Node)
		require.Empty(t, node.ID, "two nodes with one ID would be refused")
		require.Equal(t, "10.1.1.1", node.Address)
		require.Equal(t, "dc7", node.Datacenter)
		require.Equal(t, map[string]string{"rack": "2"}, node.Meta)
	}
	east.commit(snapshot.Event{Key: snapshot.NewKey(snapshot.TableNodes, "node-1")})
	node := p.instances(p.resource(wire.TypeService, "db"))[0].Node
	require.Equal(t, "10.0.0.9", node.Address, "as it was registered")
}

func TestStoredRecordsThatCannotBeReadAreNamed(t *testing.T) {
	east := newCluster(t, "east")
	east.commit(snapshot.Event{Key: snapshot.NewKey(snapshot.TablePrivate, owner, kindToken, "x"), Object: []byte("garbage")})
	_, err := New(Config{Store: east.store, Publisher: east.store.publisher, Log: east.Log, AllowPlaintext: true})
	require.ErrorContains(t, err, "peering: private record private/peering/token/x: ")
}
