package peering

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// A peer that goes from 1.13 to a later version is dialled as its token says until there is a new token: what it
// announces is a port that asks for a name, and has certificates, that the token does not know.
func TestUpgradedPeerIsDialedAsItsTokenSays(t *testing.T) {
	const trustDomain = "11111111-2222-3333-4444-555555555555.consul"
	west := newCluster(t, "west")
	for name, keeps := range map[string]bool{"server.dc1.consul": true, "server.dc1.peering." + trustDomain: false} {
		for _, d := range []dialect{dialect113, dialect114} {
			row := &snapshot.Peer{Name: "east", ID: "east-" + name + d.name, Role: snapshot.Dialer, State: snapshot.Establishing, ServerName: name,
				CAPEMs: []string{"of the token"}, ServerAddresses: []string{"10.0.0.1:8502"}, RemoteID: "5a3c6f0e-0000-4000-8000-000000000001"}
			west.commit(snapshot.Event{Key: snapshot.NewKey(snapshot.TablePeers, "east"), Object: row})
			im := newImporter(west.Service, newLink(row.ID, row.Name), row, d, false, west.Log)
			pinned := *row
			require.NoError(t, im.pin(&pinned, trustDomain, []string{"of the bundle"}))
			require.Equal(t, keeps || d.name == "1.13", pinned.CAPEMs[0] == "of the token", "%s, %s", name, d.name)

			moved := offer("1", wire.TypeAddresses, wire.AddressesID, &wire.PeeringServerAddresses{Addresses: []string{"10.0.0.1:8503"}})
			require.NoError(t, im.addresses(t.Context(), moved.GetResponse()))
			kept := west.store.World().Peer("east").ServerAddresses[0] == "10.0.0.1:8502"
			require.Equal(t, keeps && d.name == "1.14", kept, "%s, %s", name, d.name)
		}
	}
}
