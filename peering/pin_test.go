package peering

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// bareRoot is a root without a SPIFFE ID, as a CA of some other make would be.
func bareRoot(t testing.TB, isCA bool) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: isCA, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
}

func TestBundlesThatAreRefused(t *testing.T) {
	east, west, south := newCluster(t, "east"), foreign(t), newCluster(t, "south")
	south.peerWith(east)
	before := *east.store.World().Peer("south")
	own, theirs := bundle(east), bundle(west)
	for _, tc := range []struct {
		name   string
		bundle *wire.PeeringTrustBundle
		text   string
		alarm  bool // kept in the peer's row until the peer comes with a good one
	}{
		{"ours", own, "trust domain " + east.trustDomain + " is our own", true},
		{"another peer's", bundle(south), "trust domain " + south.trustDomain + " is already peer south; federated datacenters share one trust domain: peer with one of them", true},
		{"another peer's, with other roots", &wire.PeeringTrustBundle{TrustDomain: south.trustDomain, RootPEMs: []string{bareRoot(t, true)}}, "is already peer south", true},
		{"roots of another domain", &wire.PeeringTrustBundle{TrustDomain: west.trustDomain, RootPEMs: own.RootPEMs}, "is of trust domain " + east.trustDomain, false},
		{"no domain", &wire.PeeringTrustBundle{RootPEMs: theirs.RootPEMs}, "trust domain", false},
		{"no domain of SPIFFE", &wire.PeeringTrustBundle{TrustDomain: "Upper.Case", RootPEMs: theirs.RootPEMs}, "want a name in lower case", false},
		{"path in the domain", &wire.PeeringTrustBundle{TrustDomain: west.trustDomain + "/x", RootPEMs: theirs.RootPEMs}, "want a name in lower case", false},
		{"no roots", &wire.PeeringTrustBundle{TrustDomain: west.trustDomain}, "0 roots: want 1 to 32", false},
		{"garbage", &wire.PeeringTrustBundle{TrustDomain: west.trustDomain, RootPEMs: []string{"garbage"}}, "not the PEM of one certificate", false},
		{"two in one", &wire.PeeringTrustBundle{TrustDomain: west.trustDomain, RootPEMs: []string{bareRoot(t, true) + bareRoot(t, true)}}, "not the PEM of one certificate", false},
		{"no authority", &wire.PeeringTrustBundle{TrustDomain: west.trustDomain, RootPEMs: []string{bareRoot(t, false)}}, "is not a certificate authority", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, _ := dialRaw(t, east, "west")
			p.subscribe()
			p.resource(wire.TypeTrustBundle, wire.TrustBundleID)
			service := p.offer(wire.TypeService, "db", serviceSet(plainInstance("db")))
			nonce := p.offer(wire.TypeTrustBundle, wire.TrustBundleID, tc.bundle)
			answers := map[string]*wire.Request{} // the first one waits for the second, unless the alarm stands already
			for answers[nonce] == nil || tc.alarm && answers[service] == nil {
				reply := p.next("answers", func(m *wire.ReplicationMessage) bool { return m.GetRequest().GetResponseNonce() != "" }).GetRequest()
				answers[reply.ResponseNonce] = reply
			}
			why := answers[nonce].Error
			require.NotNil(t, why)
			if tc.alarm {
				require.Equal(t, refusedDomain, why.Message, "names and trust domains of others are not the peer's to know")
				require.Equal(t, refusedDomain, answers[service].Error.GetMessage())
			} else {
				require.Contains(t, why.Message, tc.text)
			}
			row := east.store.World().Peer("west")
			require.Empty(t, row.TrustDomain)
			require.Empty(t, row.Roots)
			require.False(t, row.Usable())
			require.Empty(t, east.store.World().Imports("west"))
			status := east.Status("west")
			require.Equal(t, snapshot.Establishing, status.State)
			if tc.alarm {
				require.Contains(t, row.Problem, tc.text)
				require.Contains(t, status.Reason, tc.text)
			}
		})
	}
	require.Equal(t, before, *east.store.World().Peer("south"), "nothing of it touches the other peer")

	// The peer that was refused comes back with what it should have sent: it is pinned, and asked for everything again.
	p, _ := dialRaw(t, east, "west")
	p.subscribe()
	p.offer(wire.TypeTrustBundle, wire.TrustBundleID, theirs)
	p.ended()
	row := east.store.World().Peer("west")
	require.Empty(t, row.Problem)
	require.Equal(t, west.trustDomain, row.TrustDomain)
}

func TestChangedTrustDomainFreezesThePeer(t *testing.T) {
	east, west, other := newCluster(t, "east"), foreign(t), newCluster(t, "other")
	p := connectRaw(t, east, west)
	p.accepted(p.offer(wire.TypeServiceList, wire.ServiceListID, inventory("db")))
	p.accepted(p.offer(wire.TypeService, "db-sidecar-proxy", serviceSet(meshInstance("db", "east", west.trustDomain))))
	good := *east.store.World().Import("west", "db")
	roots := east.store.World().Peer("west").Roots

	changed := "trust domain changed from " + west.trustDomain + " to " + other.trustDomain
	p.refused(p.offer(wire.TypeTrustBundle, wire.TrustBundleID, bundle(other)), 13, refusedDomain)
	p.refused(p.offer(wire.TypeService, "db-sidecar-proxy", serviceSet(meshInstance("db", "east", other.trustDomain))), 13, refusedDomain)
	p.refused(p.offer(wire.TypeServiceList, wire.ServiceListID, inventory()), 13, refusedDomain)
	row := east.store.World().Peer("west")
	require.Equal(t, roots, row.Roots)
	require.Equal(t, west.trustDomain, row.TrustDomain)
	require.Equal(t, good, *east.store.World().Import("west", "db"), "the last good state stays, to the byte")
	status := east.Status("west")
	require.Equal(t, snapshot.Failing, status.State)
	require.Contains(t, status.Reason, changed)
}

func TestRootsAreReplacedAsAWhole(t *testing.T) {
	east, west := newCluster(t, "east"), foreign(t)
	p := connectRaw(t, east, west)
	added := bundle(west)
	added.RootPEMs = append(added.RootPEMs, bareRoot(t, true), added.RootPEMs[0])
	p.accepted(p.offer(wire.TypeTrustBundle, wire.TrustBundleID, added))
	require.Len(t, east.store.World().Peer("west").Roots, 2, "both, and no duplicate")
	p.accepted(p.offer(wire.TypeTrustBundle, wire.TrustBundleID, bundle(west)))
	require.Len(t, east.store.World().Peer("west").Roots, 1)
}

// The dialer knows whom it speaks to from its token, before anything was sent.
func TestDialerPinsFromTheToken(t *testing.T) {
	west, east := newCluster(t, "west"), foreign(t)
	acceptor := newRawAcceptor(t, east)
	p := acceptor.accept(west, "east")
	require.Equal(t, east.trustDomain, west.store.World().Peer("east").TrustDomain)
	require.False(t, west.store.World().Peer("east").Usable(), "there are no roots yet")
	other := newCluster(t, "other")
	p.refused(p.offer(wire.TypeTrustBundle, wire.TrustBundleID, bundle(other)), 13, refusedDomain)
	require.Contains(t, west.Status("east").Reason, "trust domain changed from "+east.trustDomain)
}

func TestTokenOfAKnownTrustDomainIsRefused(t *testing.T) {
	west, east := newCluster(t, "west"), newCluster(t, "east")
	west.peerWith(east)
	second, err := east.GenerateToken(t.Context(), config.TokenRequest{Peer: "west-again"})
	require.NoError(t, err)
	err = west.Establish(t.Context(), config.EstablishRequest{Peer: "east-again", Token: second})
	require.ErrorContains(t, err, "is already peer east; federated datacenters share one trust domain: peer with one of them")
	require.Nil(t, west.store.World().Peer("east-again"))
}

// A peer whose trust domain is taken by another peering gets it when that one goes.
func TestRefusedPeerIsAskedAgain(t *testing.T) {
	east, south := newCluster(t, "east"), newCluster(t, "south")
	south.peerWith(east)
	p, _ := dialRaw(t, east, "west")
	p.subscribe()
	p.refused(p.offer(wire.TypeTrustBundle, wire.TrustBundleID, bundle(south)), 13, refusedDomain)
	require.NoError(t, east.Delete(t.Context(), "south"))
	east.await("south is gone", func(w *snapshot.World) bool { return w.Peer("south") == nil })
	require.Contains(t, p.ended().Message(), "sent everything again")
	again, _ := dialRaw(t, east, "west")
	again.subscribe()
	again.offer(wire.TypeTrustBundle, wire.TrustBundleID, bundle(south))
	east.await("pinned", func(w *snapshot.World) bool {
		return w.Peer("west").TrustDomain == south.trustDomain && w.Peer("west").Problem == ""
	})
}

// Our own rotation reaches the peer at once, with both roots while both are good.
func TestRotatedRootsAreSent(t *testing.T) {
	east := newCluster(t, "east")
	p, _ := importerOf(t, east)
	roots, _ := east.ca.Bundle()
	both := append(roots, bareRoot(t, true))
	east.commit(snapshot.Event{Key: snapshot.NewKey(snapshot.TableRoots, ""), Object: &snapshot.Bundle{TrustDomain: east.trustDomain, Roots: both}})
	var sent wire.PeeringTrustBundle
	require.NoError(t, p.resource(wire.TypeTrustBundle, wire.TrustBundleID).Resource.UnmarshalTo(&sent))
	require.Len(t, sent.RootPEMs, 2)
}
