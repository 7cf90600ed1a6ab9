package peering

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// httpStatus is what an API would answer with.
func httpStatus(t testing.TB, err error) int {
	var client interface{ HTTPStatus() int }
	require.ErrorAs(t, err, &client)
	return client.HTTPStatus()
}

func TestEstablishRefusesWhatCannotWork(t *testing.T) {
	west, east := newCluster(t, "west"), foreign(t)
	acceptor := newRawAcceptor(t, east)
	west.token("accepted")
	ended := snapshot.Peer{Name: "ended", ID: "1", Role: snapshot.Dialer, State: snapshot.Terminated}
	west.commit(snapshot.Event{Key: snapshot.NewKey(snapshot.TablePeers, "ended"), Object: &ended})
	change := func(f func(*token)) redact.String { return acceptor.token(f) }
	for _, tc := range []struct {
		name, peer string
		token      redact.String
		code       int
		text       string
	}{
		{"bad name", "East", acceptor.token(), 400, "peer name is"},
		{"no token", "east", redact.NewString(" "), 400, "peering token is empty"},
		{"no base64", "east", redact.NewString("?"), 400, "not base64"},
		{"no JSON", "east", redact.NewString("e30="), 400, "PeerID is empty"},
		{"no secret", "east", change(func(t *token) { t.EstablishmentSecret = "" }), 400, "EstablishmentSecret is empty"},
		{"no address", "east", change(func(t *token) { t.ServerAddresses = nil }), 400, "ServerAddresses is empty: want at least one host:port"},
		{"bad address", "east", change(func(t *token) { t.ServerAddresses = []string{"10.0.0.1"} }), 400, "want host:port"},
		{"bad manual address", "east", change(func(t *token) { t.ManualServerAddresses = []string{"10.0.0.1:0"} }), 400, "ManualServerAddresses: address"},
		{"bad CA", "east", change(func(t *token) { t.CA = []string{"garbage"} }), 400, "CA: a root is not the PEM"},
		{"no server name", "east", change(func(t *token) { t.ServerName = "" }), 400, "ServerName is empty"},
		{"no CA", "east", change(func(t *token) { t.CA = nil }), 400, "CA is empty"},
		{"CA of another domain", "east", change(func(t *token) { t.ServerName = "server.dc1.peering.other.consul" }), 400, "is of trust domain " + east.trustDomain + ": want other.consul"},
		{"our own token", "east", west.token("somebody"), 400, "cannot create a peering within the same cluster"},
		{"a name that is dialled by the peer", "accepted", acceptor.token(), 409, `cannot create peering with name: "accepted"; there is an existing peering expecting to be dialed`},
		{"a terminated one", "ended", acceptor.token(), 409, `peering "ended" was terminated by the peer: delete it`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := west.Establish(t.Context(), config.EstablishRequest{Peer: tc.peer, Token: tc.token})
			require.ErrorContains(t, err, tc.text)
			require.Equal(t, tc.code, httpStatus(t, err))
			require.Nil(t, west.store.World().Peer("east"), "nothing is written")
		})
	}
	require.NoError(t, west.Establish(t.Context(), config.EstablishRequest{Peer: "east", Token: acceptor.token()}))
	_, err := west.GenerateToken(t.Context(), config.TokenRequest{Peer: "east"})
	require.ErrorContains(t, err, `cannot create peering with name: "east"; there is already an established peering`)
	require.Equal(t, http.StatusConflict, httpStatus(t, err))
}

func TestEstablishTellsWhatHappenedAtEachAddress(t *testing.T) {
	west, east := newCluster(t, "west"), foreign(t)
	acceptor := newRawAcceptor(t, east)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	refusing := closed.Addr().String()
	require.NoError(t, closed.Close())
	secret := acceptor.token(func(t *token) { t.ServerAddresses = []string{refusing, "169.254.169.254:80", "192.0.2.1:0x50"} })
	require.ErrorContains(t, west.Establish(t.Context(), config.EstablishRequest{Peer: "east", Token: secret}), "want a port from 1 to 65535")

	secret = acceptor.token(func(t *token) { t.ServerAddresses = []string{refusing, "169.254.169.254:80"} })
	err = west.Establish(t.Context(), config.EstablishRequest{Peer: "east", Token: secret})
	require.ErrorContains(t, err, "peer east: no address answered: "+refusing+": ")
	require.ErrorContains(t, err, "connection refused; 169.254.169.254:80: address 169.254.169.254:80: is link-local")
	require.Equal(t, snapshot.Pending, west.store.World().Peer("east").State)
	require.Equal(t, snapshot.Pending, west.Status("east").State)

	require.NoError(t, west.Establish(t.Context(), config.EstablishRequest{Peer: "east", Token: acceptor.token()}), "a later token finds the way")
	acceptor.stream()
}

func TestSpentTokenIsForbidden(t *testing.T) {
	west, east := newCluster(t, "west"), newCluster(t, "east")
	secret := east.token("west")
	require.NoError(t, west.Establish(t.Context(), config.EstablishRequest{Peer: "east", Token: secret}))
	other := newCluster(t, "other")
	err := other.Establish(t.Context(), config.EstablishRequest{Peer: "east", Token: secret})
	require.ErrorContains(t, err, "a new peering token must be generated: invalid peering establishment secret: token ")
	require.ErrorContains(t, err, " was used at ")
	require.Equal(t, http.StatusForbidden, httpStatus(t, err))
}

// A host name is resolved once; the address that was checked is the one that is dialled.
func TestDialedAddressIsTheCheckedOne(t *testing.T) {
	var mu sync.Mutex
	var dialed []string
	answers := map[string][]netip.Addr{
		"good.example.com":   {netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")},
		"meta.example.com":   {netip.MustParseAddr("169.254.169.254")},
		"mapped.example.com": {netip.MustParseAddr("::ffff:169.254.169.254")},
		"none.example.com":   {},
	}
	west := newCluster(t, "west", func(c *Config) {
		c.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
			if found, ok := answers[host]; ok {
				return append([]netip.Addr(nil), found...), nil
			}
			return nil, errors.New("no such host")
		}
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			mu.Lock()
			dialed = append(dialed, address)
			mu.Unlock()
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	})
	acceptor := newRawAcceptor(t, foreign(t))
	_, port, _ := net.SplitHostPort(acceptor.address)
	for _, host := range []string{"meta.example.com", "mapped.example.com", "none.example.com", "gone.example.com", "0.0.0.0", "[::]", "224.0.0.1", "[fe80::1]"} {
		secret := acceptor.token(func(t *token) { t.ServerAddresses = []string{host + ":" + port} })
		require.ErrorContains(t, west.Establish(t.Context(), config.EstablishRequest{Peer: "east", Token: secret}), "no address answered", host)
	}
	require.Empty(t, dialed, "nothing that is refused is dialled")
	secret := acceptor.token(func(t *token) { t.ServerAddresses = []string{"good.example.com:" + port} })
	require.NoError(t, west.Establish(t.Context(), config.EstablishRequest{Peer: "east", Token: secret}))
	acceptor.stream()
	for _, address := range dialed {
		require.Equal(t, "127.0.0.1:"+port, address, "::1 is loopback and not allowed")
	}
}

// What the peer announces later passes the same rules, and the operator's addresses win over it.
func TestAnnouncedAddressesAreCheckedWhenDialed(t *testing.T) {
	west, east := newCluster(t, "west"), foreign(t)
	acceptor := newRawAcceptor(t, east)
	p := acceptor.accept(west, "east")
	p.refused(p.offer(wire.TypeAddresses, wire.AddressesID, &wire.PeeringServerAddresses{}), 3, "want at least one")
	p.refused(p.offer(wire.TypeAddresses, wire.AddressesID, &wire.PeeringServerAddresses{Addresses: []string{"unix:/tmp/x"}}), 3, "want")
	p.accepted(p.offer(wire.TypeAddresses, wire.AddressesID, &wire.PeeringServerAddresses{Addresses: []string{"169.254.169.254:80", acceptor.address}}))
	require.Equal(t, []string{"169.254.169.254:80", acceptor.address}, west.store.World().Peer("east").ServerAddresses)
	acceptor.finish <- errHangUp
	acceptor.stream() // comes after at most one attempt at the other address, which is refused
}

func TestDialerFollowsTheDialectOfTheAcceptor(t *testing.T) {
	west, east := newCluster(t, "west"), foreign(t)
	acceptor := newRawAcceptor(t, east)
	p := acceptor.accept(west, "east")
	var urls []string
	for range 4 {
		request := p.next("a subscription", func(m *wire.ReplicationMessage) bool { return m.GetRequest() != nil }).GetRequest()
		require.Equal(t, "5a3c6f0e-0000-4000-8000-000000000001", request.PeerID)
		require.Empty(t, request.ResponseNonce)
		urls = append(urls, request.ResourceURL)
	}
	require.Equal(t, dialect114.dialer, urls)
	p.accepted(p.offer(wire.TypeTrustBundle, wire.TrustBundleID, bundle(east)))
	require.Equal(t, "1.14", west.store.World().Peer("east").Dialect)
	p.send(subscription("another", wire.TypeAddresses))
	got := west.awaitState("east", snapshot.Failing)
	require.Contains(t, got.Reason, "the wrong end of peering is being dialed")
}

func TestDialerSaysWhatToDoWhenItIsRefused(t *testing.T) {
	west, east := newCluster(t, "west"), foreign(t)
	acceptor := newRawAcceptor(t, east)
	require.NoError(t, west.Establish(t.Context(), config.EstablishRequest{Peer: "east", Token: acceptor.token()}))
	acceptor.stream()
	acceptor.finish <- status.Error(codes.PermissionDenied, "invalid peering stream secret")
	got := west.awaitState("east", snapshot.Failing)
	require.Contains(t, got.Reason, "establish again with a new token")
	require.Contains(t, got.Reason, acceptor.address)
	acceptor.stream() // it keeps trying
}

func TestPlaintextNeedsPermission(t *testing.T) {
	plain := func(c *Config) { c.TLS, c.AllowPlaintext = nil, true }
	east := newCluster(t, "east", plain)
	secret := east.token("west")
	contents, err := InspectToken(secret)
	require.NoError(t, err)
	require.Empty(t, contents.CAPEMs)
	careful := newCluster(t, "west")
	require.ErrorContains(t, careful.Establish(t.Context(), config.EstablishRequest{Peer: "east", Token: secret}), "CA is empty")
	west := newCluster(t, "west", func(c *Config) { c.AllowPlaintext = true })
	west.peerWith(east)
	_, err = New(Config{Store: east.store})
	require.ErrorContains(t, err, "no TLS certificate")
}

func TestPausesGrowAndStayBounded(t *testing.T) {
	timing := Timing{}.withDefaults()
	for failures := range 70 {
		most := min(50*time.Millisecond<<min(failures, 20), 10*time.Second) + time.Millisecond
		for range 50 {
			pause := timing.backoff(failures)
			require.Positive(t, pause)
			require.LessOrEqual(t, pause, most)
		}
	}
}

// A secret that was stored is all that a new process needs.
func TestRestartKeepsImportsAndComesBack(t *testing.T) {
	east, west := newCluster(t, "east"), newCluster(t, "west")
	east.commit(append(reachable("db"), exports("west", "db"))...)
	west.peerWith(east)
	west.awaitImport("east", "db", "routable", routable)

	west.stop()
	east.awaitState("west", snapshot.Failing)
	commits := len(west.store.since(0))
	west.start()
	require.NotNil(t, west.store.World().Import("east", "db"))
	west.awaitState("east", snapshot.Active)
	east.awaitState("west", snapshot.Active)
	west.awaitStatus("east", "fresh", func(s snapshot.PeerStatus) bool { return !s.Stale })
	require.Empty(t, west.store.since(commits), "nothing that was right is written again")

	require.NoError(t, west.Establish(t.Context(), config.EstablishRequest{Peer: "east", Token: east.token("west")}), "a new token for a peering that runs")
	require.Equal(t, snapshot.Active, west.Status("east").State)
	west.stop()
	west.start()
	west.awaitState("east", snapshot.Active)
}
