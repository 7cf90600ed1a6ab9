package peering

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

func TestSecretIsExchangedOnceAmongFifty(t *testing.T) {
	east := newCluster(t, "east")
	client, decoded := rawClient(t, east, east.token("west"))
	var mu sync.Mutex
	var secrets, refused []string
	var tries sync.WaitGroup
	for range 50 {
		tries.Go(func() {
			answer, err := client.ExchangeSecret(t.Context(), &wire.ExchangeSecretRequest{PeerID: decoded.PeerID, EstablishmentSecret: decoded.EstablishmentSecret})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				secrets = append(secrets, answer.StreamSecret)
			} else {
				refused = append(refused, status.Convert(err).Message())
			}
		})
	}
	tries.Wait()
	require.Len(t, secrets, 1)
	require.Len(t, refused, 49)
	require.Contains(t, refused[0], "invalid peering establishment secret: token "+decoded.ID+" was used at ")
	require.Contains(t, refused[0], " by 127.0.0.1:")
	require.Equal(t, snapshot.Establishing, east.store.World().Peer("west").State)
}

func TestRefusedSecretsSayWhy(t *testing.T) {
	now := time.Now()
	var clock sync.Mutex
	east := newCluster(t, "east", func(c *Config) {
		c.Now = func() time.Time { clock.Lock(); defer clock.Unlock(); return now }
	})
	exchangeError := func(client wire.PeerStreamServiceClient, peerID, secret string) string {
		_, err := client.ExchangeSecret(t.Context(), &wire.ExchangeSecretRequest{PeerID: peerID, EstablishmentSecret: secret})
		require.Equal(t, codes.PermissionDenied, status.Code(err), "%v", err)
		return status.Convert(err).Message()
	}
	const text = "invalid peering establishment secret"

	later := func(d time.Duration) { clock.Lock(); defer clock.Unlock(); now = now.Add(d) }
	client, first := rawClient(t, east, east.token("west"))
	later(time.Minute)
	require.Equal(t, text, exchangeError(client, first.PeerID, uuid.NewString()))
	require.Equal(t, text, exchangeError(client, uuid.NewString(), first.EstablishmentSecret))
	require.Equal(t, text, exchangeError(client, "no uuid", first.EstablishmentSecret))
	require.Equal(t, text, exchangeError(client, first.PeerID, ""))

	_, second := rawClient(t, east, east.token("west"))
	require.Contains(t, exchangeError(client, first.PeerID, first.EstablishmentSecret), "token "+first.ID+" was replaced by a newer one at ")

	require.NoError(t, east.RevokeToken(t.Context(), second.ID))
	require.Contains(t, exchangeError(client, second.PeerID, second.EstablishmentSecret), "token "+second.ID+" was revoked at ")

	later(time.Minute)
	_, third := rawClient(t, east, east.token("west"))
	later(24*time.Hour + time.Second)
	require.Contains(t, exchangeError(client, third.PeerID, third.EstablishmentSecret), "token "+third.ID+" expired at ")
	require.Contains(t, east.Status("west").Reason, "expired at ")

	infos := east.Tokens()
	require.Len(t, infos, 3)
	require.False(t, infos[0].Replaced.IsZero())
	require.False(t, infos[1].Revoked.IsZero())
}

func TestSecretsAreStoredAsHashes(t *testing.T) {
	east, west := newCluster(t, "east"), newCluster(t, "west")
	secret := east.token("west")
	decoded, err := decodeToken(secret)
	require.NoError(t, err)
	require.NoError(t, west.Establish(t.Context(), config.EstablishRequest{Peer: "east", Token: secret}))
	west.awaitState("east", snapshot.Active)
	stream, ok := west.vault.dialer(west.store.World().Peer("east").ID)
	require.True(t, ok)
	require.NotContains(t, east.store.secrets(), decoded.EstablishmentSecret)
	require.NotContains(t, east.store.secrets(), stream.Secret)
	require.Contains(t, west.store.secrets(), stream.Secret, "the dialer must send it, and has it in clear, in a private record")
	require.NotContains(t, west.store.secrets(), decoded.EstablishmentSecret)
}

// What a dialer is told when its stream is refused, also when it has sent its subscriptions without waiting.
func TestStreamsAreRefusedWithTheirReason(t *testing.T) {
	east := newCluster(t, "east")
	client, decoded := rawClient(t, east, east.token("west"))
	secret := exchange(t, client, decoded)
	dialing := snapshot.Peer{Name: "dialed", ID: uuid.NewString(), Role: snapshot.Dialer, State: snapshot.Establishing}
	ended := snapshot.Peer{Name: "ended", ID: uuid.NewString(), Role: snapshot.Acceptor, State: snapshot.Terminated}
	empty := snapshot.Peer{Name: "empty", ID: uuid.NewString(), Role: snapshot.Acceptor, State: snapshot.Pending}
	for _, peer := range []*snapshot.Peer{&dialing, &ended, &empty} {
		east.commit(snapshot.Event{Key: snapshot.NewKey(snapshot.TablePeers, peer.Name), Object: peer})
	}
	for _, tc := range []struct {
		name  string
		first *wire.ReplicationMessage
		code  codes.Code
		text  string
	}{
		{"no Open", subscription("", wire.TypeService), codes.InvalidArgument, "first message when initiating a peering must be: Open"},
		{"heartbeat", heartbeat(), codes.InvalidArgument, "first message when initiating a peering must be: Open"},
		{"nothing", &wire.ReplicationMessage{}, codes.InvalidArgument, "first message when initiating a peering must be: Open"},
		{"no ID", openMessage("", secret), codes.InvalidArgument, "initial subscription request must specify a PeerID"},
		{"unknown ID", openMessage(uuid.NewString(), secret), codes.InvalidArgument, "initial subscription for unknown PeerID: "},
		{"odd ID", openMessage("odd", secret), codes.InvalidArgument, "initial subscription for unknown PeerID: odd"},
		{"wrong secret", openMessage(decoded.PeerID, uuid.NewString()), codes.PermissionDenied, "invalid peering stream secret"},
		{"no secret", openMessage(decoded.PeerID, ""), codes.PermissionDenied, "invalid peering stream secret"},
		{"wrong end", openMessage(dialing.ID, secret), codes.InvalidArgument, "expected PeerID to be empty; the wrong end of peering is being dialed"},
		{"terminated", openMessage(ended.ID, secret), codes.Aborted, "peering is marked as deleted: " + ended.ID},
		{"never exchanged", openMessage(empty.ID, secret), codes.Internal, "unable to authorize connection, peering must be re-established"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stream, err := client.StreamResources(t.Context())
			require.NoError(t, err)
			p := newRawPeer(t, stream)
			require.NoError(t, stream.Send(tc.first))
			for _, url := range dialect114.dialer {
				require.NoError(t, stream.Send(subscription(decoded.PeerID, url)), "a subscription met a stream that had ended")
			}
			got := p.ended()
			require.Equal(t, tc.code, got.Code(), got.Message())
			require.Contains(t, got.Message(), tc.text)
		})
	}
}

func TestFirstRequestMustBeASubscription(t *testing.T) {
	east := newCluster(t, "east")
	for _, tc := range []struct {
		name    string
		request *wire.Request
		text    string
	}{
		{"unknown type", &wire.Request{ResourceURL: "type.googleapis.com/strange"}, "subscription request to unknown resource URL: type.googleapis.com/strange"},
		{"nonce", &wire.Request{ResourceURL: wire.TypeService, ResponseNonce: "00000001"}, "initial subscription requests for a resource type must not contain a nonce"},
		{"error", &wire.Request{ResourceURL: wire.TypeService, Error: &wire.Status{Code: 13}}, "must not contain an error"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, _ := dialRaw(t, east, "west")
			p.send(&wire.ReplicationMessage{Payload: &wire.ReplicationMessage_Request{Request: tc.request}})
			got := p.ended()
			require.Equal(t, codes.InvalidArgument, got.Code())
			require.Contains(t, got.Message(), tc.text)
		})
	}
}

// A stream secret is pending until it is used; then the former one is void.
func TestPendingSecretReplacesTheActiveOne(t *testing.T) {
	east := newCluster(t, "east")
	client, first := rawClient(t, east, east.token("west"))
	one := exchange(t, client, first)
	openRaw(t, client, first.PeerID, one).next("a subscription", func(m *wire.ReplicationMessage) bool { return m.GetRequest() != nil })
	require.Equal(t, "dc9", east.store.World().Peer("west").RemoteDatacenter)

	_, second := rawClient(t, east, east.token("west"))
	require.Equal(t, first.PeerID, second.PeerID)
	two := exchange(t, client, second)
	openRaw(t, client, first.PeerID, one).next("the active secret still works", func(m *wire.ReplicationMessage) bool { return m.GetRequest() != nil })
	openRaw(t, client, first.PeerID, two).next("the pending secret works", func(m *wire.ReplicationMessage) bool { return m.GetRequest() != nil })
	require.Equal(t, codes.PermissionDenied, openRaw(t, client, first.PeerID, one).ended().Code())
}

func TestNewerStreamReplacesTheOlder(t *testing.T) {
	east := newCluster(t, "east")
	client, decoded := rawClient(t, east, east.token("west"))
	secret := exchange(t, client, decoded)
	older := openRaw(t, client, decoded.PeerID, secret)
	older.next("a subscription", func(m *wire.ReplicationMessage) bool { return m.GetRequest() != nil })
	newer := openRaw(t, client, decoded.PeerID, secret)
	require.Equal(t, codes.Aborted, older.ended().Code())
	newer.subscribe()
	newer.resource(wire.TypeTrustBundle, wire.TrustBundleID)
}

func TestOnlySubscribedTypesArePushed(t *testing.T) {
	east := newCluster(t, "east")
	east.commit(append(reachable("db"), exports("west", "db"))...)
	p, _ := dialRaw(t, east, "west")
	p.subscribe(wire.TypeService)
	p.send(offer("00000001", "type.googleapis.com/odd", "x", &wire.RemoteInfo{}))
	p.next("a subscription to the list", func(m *wire.ReplicationMessage) bool { return m.GetRequest().GetResponseNonce() != "" })
	require.Empty(t, p.messages, "services wait for the subscription to their list")

	p.subscribe(wire.TypeServiceList)
	list := p.next("the list", func(m *wire.ReplicationMessage) bool { return m.GetResponse() != nil }).GetResponse()
	require.Equal(t, wire.TypeServiceList, list.ResourceURL, "the list comes before the services")
	require.Len(t, p.instances(p.resource(wire.TypeService, "db-sidecar-proxy")), 1)

	p.subscribe(wire.TypeAddresses)
	var addresses wire.PeeringServerAddresses
	require.NoError(t, p.resource(wire.TypeAddresses, wire.AddressesID).Resource.UnmarshalTo(&addresses))
	require.Equal(t, east.Advertise, addresses.Addresses)
	p.subscribe(wire.TypeTrustBundle)
	got := p.resource(wire.TypeTrustBundle, wire.TrustBundleID)
	var trust wire.PeeringTrustBundle
	require.NoError(t, got.Resource.UnmarshalTo(&trust))
	require.Equal(t, east.trustDomain, trust.TrustDomain)
	require.True(t, strings.HasSuffix(trust.RootPEMs[0], "\n"))
	require.NotEmpty(t, got.Nonce)
	require.Equal(t, got.ResourceURL, got.Resource.TypeUrl)
}

// A store that panics, or a message that makes us panic, ends that session and nothing else.
func TestPanicEndsOneSession(t *testing.T) {
	east := newCluster(t, "east")
	calm, _ := dialRaw(t, east, "calm")
	victim, _ := dialRaw(t, east, "victim")
	victim.next("a subscription", func(m *wire.ReplicationMessage) bool { return m.GetRequest() != nil })
	west := newCluster(t, "west")
	east.store.setRefuse(func(events []snapshot.Event) error {
		for _, event := range events {
			if peer, ok := event.Object.(*snapshot.Peer); ok && peer.Name == "victim" {
				panic("boom")
			}
		}
		return nil
	})
	victim.offer(wire.TypeTrustBundle, wire.TrustBundleID, bundle(west))
	got := victim.ended()
	require.Equal(t, codes.Unavailable, got.Code())
	require.Contains(t, got.Message(), "panic: boom")
	calm.subscribe()
	calm.resource(wire.TypeTrustBundle, wire.TrustBundleID)
}
