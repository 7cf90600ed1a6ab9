package peering

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/sni"
)

// The straight line of the product: a token, a peering, and a service of one side is routable on the other, both ways.
func TestServiceOfOneClusterIsRoutableInTheOther(t *testing.T) {
	east, west := newCluster(t, "east"), newCluster(t, "west")
	east.commit(append(reachable("db"), exports("west", "db"))...)
	west.commit(append(reachable("web"), exports("east", "web"))...)
	west.peerWith(east)

	imported := west.awaitImport("east", "db", "routable", func(i *snapshot.Import) bool { return routable(i) && len(i.Instances) == 1 })
	require.Equal(t, "db.default.default.west.external."+east.trustDomain, imported.ServerName)
	require.Equal(t, []string{sni.ServiceID{TrustDomain: east.trustDomain, Namespace: "default", Datacenter: "dc1", Service: "db"}.String()}, imported.SpiffeIDs)
	require.Equal(t, "tcp", imported.Protocol)
	require.Len(t, imported.Gateways, 1)
	require.Equal(t, map[string]config.Address{"wan": {Address: "198.51.100.1", Port: 443}, "lan": {Address: "10.0.0.2", Port: 8443}}, imported.Gateways[0].Service.TaggedAddresses)

	imported = east.awaitImport("west", "web", "routable", routable)
	require.Equal(t, "web.default.default.east.external."+west.trustDomain, imported.ServerName)

	dialer, acceptor := west.store.World().Peer("east"), east.store.World().Peer("west")
	require.Equal(t, east.trustDomain, dialer.TrustDomain)
	require.Equal(t, west.trustDomain, acceptor.TrustDomain)
	require.Equal(t, "west", dialer.OurName)
	require.True(t, dialer.Usable() && acceptor.Usable())
	require.Equal(t, "1.14", dialer.Dialect)
	require.Equal(t, []string{"db"}, west.Status("east").Imported)
	require.Equal(t, []string{"web"}, west.Status("east").Exported)
}
