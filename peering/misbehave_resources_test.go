package peering

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// refusedOne sends a response that must be refused; status then shows it by its ID, with the same reason.
func refusedOne(code int32, text string, make func(*misfit) *wire.Response) func(*misfit) (snapshot.PeerState, []string) {
	return func(m *misfit) (snapshot.PeerState, []string) {
		r := make(m)
		m.nack(code, text, r)
		return active("1 resources of the peer refused, the last good ones are kept", fmt.Sprintf("%q: ", printable(r.ResourceID, longestName)), text)
	}
}

// spoiled is db's mesh form with a change to the response.
func spoiled(change func(*wire.Response)) func(*misfit) *wire.Response {
	return func(m *misfit) *wire.Response {
		r := services("db-sidecar-proxy", m.gateway("db"))
		change(r)
		return r
	}
}

// spoiledInstance is db's mesh form with a change to its one instance.
func spoiledInstance(change func(*wire.CheckServiceNode)) func(*misfit) *wire.Response {
	return func(m *misfit) *wire.Response { return services("db-sidecar-proxy", m.gateway("db", change)) }
}

var responseMisbehaviours = []misbehaviour{
	{name: "no nonce", only: newer, do: func(m *misfit) (snapshot.PeerState, []string) {
		r := services("db-sidecar-proxy", m.gateway("db"))
		m.send(responseMessage(r))
		why := m.answerTo(r).Error
		require.NotNil(m.t, why)
		require.Equal(m.t, int32(3), why.Code)
		require.Contains(m.t, why.Message, "received response without a nonce for: "+wire.TypeService+":db-sidecar-proxy")
		return active(`"db-sidecar-proxy": received response without a nonce`)
	}},
	{name: "a nonce in the older dialect", only: olderOne, do: func(m *misfit) (snapshot.PeerState, []string) {
		r := services("db-sidecar-proxy", m.gateway("db"))
		r.Nonce = "00000007"
		require.Nil(m.t, m.respond(r).Error)
		return active()
	}},
	{name: "a type never subscribed to", do: refusedOne(3, "received response for unknown resource type URL: type.googleapis.com/odd", spoiled(func(r *wire.Response) { r.ResourceURL = "type.googleapis.com/odd" }))},
	{name: "addresses to an acceptor", only: dials, do: refusedOne(3, "received response for unknown resource type URL: "+wire.TypeAddresses, func(*misfit) *wire.Response {
		return upsert(wire.TypeAddresses, wire.AddressesID, &wire.PeeringServerAddresses{Addresses: []string{"192.0.2.1:8503"}})
	})},
	{name: "the list in the older dialect", only: olderOne, do: refusedOne(3, "received response for unknown resource type URL: "+wire.TypeServiceList, func(*misfit) *wire.Response {
		return upsert(wire.TypeServiceList, wire.ServiceListID, inventory())
	})},
	{name: "another type inside", do: refusedOne(13, `resource of type "`+wire.TypeServiceList+`": want "`+wire.TypeService+`"`, spoiled(func(r *wire.Response) { r.Resource.TypeUrl = wire.TypeServiceList }))},
	{name: "DELETE in the newer dialect", only: newer, do: refusedOne(3, "unsupported operation: 2", spoiled(func(r *wire.Response) { r.Operation, r.Resource = wire.Operation_OPERATION_DELETE, nil }))},
	{name: "DELETE of the trust bundle", do: refusedOne(3, "unsupported operation: 2", func(*misfit) *wire.Response {
		return &wire.Response{ResourceURL: wire.TypeTrustBundle, ResourceID: wire.TrustBundleID, Operation: wire.Operation_OPERATION_DELETE}
	})},
	{name: "no operation", do: refusedOne(3, "unsupported operation: 0", spoiled(func(r *wire.Response) { r.Operation = 0 }))},
	{name: "an operation of the future", do: refusedOne(3, "unsupported operation: 7", spoiled(func(r *wire.Response) { r.Operation = 7 }))},
	{name: "no content", do: refusedOne(3, "received upsert response with no content", spoiled(func(r *wire.Response) { r.Resource = nil }))},
	{name: "garbage inside", do: refusedOne(13, "service db: ", spoiled(func(r *wire.Response) { r.Resource.Value = []byte{0xff, 0xff} }))},
	{name: "a name that is empty", do: refusedOne(3, "service name is empty", spoiled(func(r *wire.Response) { r.ResourceID = "" }))},
	{name: "a name that is only a suffix", do: refusedOne(3, "service name is empty", spoiled(func(r *wire.Response) { r.ResourceID = "-sidecar-proxy" }))},
	{name: "a name of another namespace", do: refusedOne(3, "want letters, digits, - and _", spoiled(func(r *wire.Response) { r.ResourceID = "ns/db-sidecar-proxy" }))},
	{name: "a name with an escape sequence", do: refusedOne(3, "want letters, digits, - and _", spoiled(func(r *wire.Response) { r.ResourceID = "\x1b[2Jdb" }))},
	{name: "a name of 1 MiB", do: refusedOne(3, "want at most 63", spoiled(func(r *wire.Response) { r.ResourceID = strings.Repeat("x", 1<<20) }))},
	{name: "a resource of 4 MiB and a byte", do: refusedOne(8, "4194305 bytes: want at most 4194304", spoiled(func(r *wire.Response) { r.Resource.Value = make([]byte, 4<<20+1) }))},
	{name: "more services than the quota", gone: true, do: func(m *misfit) (snapshot.PeerState, []string) {
		for i := range 49 {
			name := fmt.Sprintf("s-%d", i)
			m.taken(wire.TypeService, name, serviceSet(plainInstance(name)))
		}
		const text = "50 services are imported already: want at most 50"
		m.nack(8, text, services("one-more", plainInstance("one-more")))
		require.Len(m.t, m.east.store.World().Imports("west"), 50)
		m.keptDB(m.east.t)
		return active(`"one-more": service one-more: ` + text)
	}},
	{name: "5,000 services and a quota of 50", only: newer, gone: true, do: func(m *misfit) (snapshot.PeerState, []string) {
		const count = 5_000
		var sending sync.WaitGroup
		sending.Go(func() {
			for n := range count {
				name := fmt.Sprintf("service-%d", n)
				r := services(name, plainInstance(name))
				r.Nonce = fmt.Sprint("flood-", n)
				m.send(responseMessage(r))
			}
		})
		m.others.fine(m.t, "during the flood")
		last := m.next("the last answer", func(r *wire.ReplicationMessage) bool {
			return r.GetRequest().GetResponseNonce() == fmt.Sprint("flood-", count-1)
		}).GetRequest()
		sending.Wait()
		require.Equal(m.t, int32(8), last.GetError().GetCode())
		require.Len(m.t, m.east.store.World().Imports("west"), 50)
		m.keptDB(m.t)
		return active("1000 resources of the peer refused", "50 services are imported already: want at most 50")
	}},
	{name: "a list of 100,000 services", only: newer, gone: true, do: func(m *misfit) (snapshot.PeerState, []string) {
		names := make([]string, 100_000)
		for i := range names {
			names[i] = fmt.Sprintf("service-%d", i)
		}
		m.taken(wire.TypeServiceList, wire.ServiceListID, inventory(names...))
		require.Empty(m.t, m.east.store.World().Imports("west"), "what is not in it is gone, and names alone are nothing")
		return active()
	}},
	{name: "more instances than the quota", do: refusedOne(8, "service db: 1001 instances: want at most 1000", func(m *misfit) *wire.Response {
		var nodes []*wire.CheckServiceNode
		for i := range 1001 {
			nodes = append(nodes, m.gateway("db", func(n *wire.CheckServiceNode) { n.Service.ID = fmt.Sprint(i) }))
		}
		return services("db-sidecar-proxy", nodes...)
	})},
}

var instanceMisbehaviours = []misbehaviour{
	{name: "an instance of nothing", do: refusedOne(3, "instance 0: the node has no name", func(*misfit) *wire.Response { return services("db-sidecar-proxy", &wire.CheckServiceNode{}) })},
	{name: "no node", do: refusedOne(3, "the node has no name", spoiledInstance(func(n *wire.CheckServiceNode) { n.Node = nil }))},
	{name: "no service", do: refusedOne(3, "the service has no ID", spoiledInstance(func(n *wire.CheckServiceNode) { n.Service = nil }))},
	{name: "an empty node name", do: refusedOne(3, "the node has no name", spoiledInstance(func(n *wire.CheckServiceNode) { n.Node.Node = "" }))},
	{name: "an empty service ID", do: refusedOne(3, "the service has no ID", spoiledInstance(func(n *wire.CheckServiceNode) { n.Service.ID = "" }))},
	{name: "an empty service name", do: refusedOne(3, `is of service "": want "db-sidecar-proxy"`, spoiledInstance(func(n *wire.CheckServiceNode) { n.Service.Service = "" }))},
	{name: "another service's instance", do: refusedOne(3, `is of service "web-sidecar-proxy": want "db-sidecar-proxy"`, func(m *misfit) *wire.Response { return services("db-sidecar-proxy", m.gateway("web")) })},
	{name: "another kind", do: refusedOne(3, `is of kind "mesh-gateway": want "connect-proxy"`, spoiledInstance(func(n *wire.CheckServiceNode) { n.Service.Kind = "mesh-gateway" }))},
	{name: "a sidecar of another service", do: refusedOne(3, `does not stand for "db"`, spoiledInstance(func(n *wire.CheckServiceNode) { n.Service.Proxy.DestinationServiceName = "web" }))},
	{name: "a mesh form as a normal one", do: refusedOne(3, `want "db"`, func(m *misfit) *wire.Response { return services("db", m.gateway("db")) })},
	{name: "a port below 0", do: refusedOne(3, "port -1: want 0 to 65535", spoiledInstance(func(n *wire.CheckServiceNode) { n.Service.Port = -1 }))},
	{name: "a tagged port above 65535", do: refusedOne(3, "port 65536 of address", spoiledInstance(func(n *wire.CheckServiceNode) {
		n.Service.TaggedAddresses["wan"] = &wire.ServiceAddress{Address: "192.0.2.1", Port: 65536}
	}))},
	{name: "control characters in a node name", do: refusedOne(3, `node name "gate\x1b[2Jway": want printable characters only`, spoiledInstance(func(n *wire.CheckServiceNode) { n.Node.Node = "gate\x1b[2Jway" }))},
	{name: "control characters in a service ID", do: refusedOne(3, `service ID "a\x00b": want printable characters only`, spoiledInstance(func(n *wire.CheckServiceNode) { n.Service.ID = "a\x00b" }))},
	{name: "control characters in an address", do: refusedOne(3, `service address "10.0.0.1\n": want printable characters only`, spoiledInstance(func(n *wire.CheckServiceNode) { n.Service.Address = "10.0.0.1\n" }))},
	{name: "a node name of 64 KiB", do: refusedOne(3, "node name of 65536 bytes: want at most 1024", spoiledInstance(func(n *wire.CheckServiceNode) { n.Node.Node = strings.Repeat("x", 64<<10) }))},
	{name: "a datacenter of 1 MiB", do: refusedOne(3, "bytes: want at most 65536", spoiledInstance(func(n *wire.CheckServiceNode) { n.Node.Datacenter = strings.Repeat("x", 1<<20) }))},
	{name: "tags of 1 MiB", do: refusedOne(3, "bytes: want at most 65536", spoiledInstance(func(n *wire.CheckServiceNode) { n.Service.Tags = []string{strings.Repeat("x", 1<<20)} }))},
	{name: "one instance twice", do: refusedOne(3, "comes twice", func(m *misfit) *wire.Response { return services("db-sidecar-proxy", m.gateway("db"), m.gateway("db")) })},
}

// unroutable exports web with a change to its service metadata, which is taken for people to see and never routed.
func unroutable(text func(*misfit) string, change func(*misfit, *wire.CheckServiceNode)) func(*misfit) (snapshot.PeerState, []string) {
	return func(m *misfit) (snapshot.PeerState, []string) {
		m.taken(wire.TypeService, "web-sidecar-proxy", serviceSet(m.gateway("web", func(n *wire.CheckServiceNode) { change(m, n) })))
		imported := m.east.store.World().Import("west", "web")
		require.Contains(m.t, imported.NotRoutable, text(m))
		require.Empty(m.t, imported.ServerName)
		require.Empty(m.t, imported.SpiffeIDs)
		return active("1 services of the peer are not routable", `"web": `, text(m))
	}
}

func says(text string) func(*misfit) string { return func(*misfit) string { return text } }

func wantsDomain(text string) func(*misfit) string {
	return func(m *misfit) string { return text + m.is.trustDomain }
}

func serverName(format string) func(*misfit, *wire.CheckServiceNode) {
	return func(m *misfit, n *wire.CheckServiceNode) {
		n.Service.Connect.PeerMeta.SNI = []string{strings.ReplaceAll(format, "TD", m.is.trustDomain)}
	}
}

func spiffeIDs(formats ...string) func(*misfit, *wire.CheckServiceNode) {
	return func(m *misfit, n *wire.CheckServiceNode) {
		n.Service.Connect.PeerMeta.SpiffeID = nil
		for _, format := range formats {
			id := strings.ReplaceAll(strings.ReplaceAll(format, "TD", m.is.trustDomain), "OURS", m.east.trustDomain)
			n.Service.Connect.PeerMeta.SpiffeID = append(n.Service.Connect.PeerMeta.SpiffeID, id)
		}
	}
}

// gatewayAt exports web through a gateway that our policy does not let us dial.
func gatewayAt(host string, port int32, text string) func(*misfit) (snapshot.PeerState, []string) {
	return func(m *misfit) (snapshot.PeerState, []string) {
		m.taken(wire.TypeService, "web-sidecar-proxy", serviceSet(m.gateway("web", func(n *wire.CheckServiceNode) {
			n.Service.TaggedAddresses, n.Service.Port = map[string]*wire.ServiceAddress{"wan": {Address: host, Port: port}}, port
		})))
		return active("1 gateways of the peer are not dialled", text)
	}
}

var metadataMisbehaviours = []misbehaviour{
	{name: "no server name", do: unroutable(wantsDomain("no server name, wanted web.default.default.<name>.external."), func(_ *misfit, n *wire.CheckServiceNode) { n.Service.Connect.PeerMeta.SNI = nil })},
	{name: "a server name of our own cluster's shape", do: unroutable(wantsDomain("wanted web.default.default.<name>.external."), serverName("web.default.dc1.internal.TD"))},
	{name: "a server name in another trust domain", do: unroutable(wantsDomain("server name in trust domain evil.consul, wanted "), serverName("web.default.default.east.external.evil.consul"))},
	{name: "a server name of another service", do: unroutable(says("server name of service db, wanted web"), serverName("db.default.default.east.external.TD"))},
	{name: "a server name that calls us otherwise", do: unroutable(says("server name calls us south, wanted east as for the other services"), serverName("web.default.default.south.external.TD"))},
	{name: "a server name with a wildcard", do: unroutable(wantsDomain("wanted web.default.default.<name>.external."), serverName("*.default.default.east.external.TD"))},
	{name: "a server name of 64 KiB", do: unroutable(says("want at most 253"), serverName(strings.Repeat("a", 60<<10)+".TD"))},
	{name: "a protocol with an escape sequence", do: unroutable(says(`protocol \x1b[2Jhttp, wanted tcp`), func(_ *misfit, n *wire.CheckServiceNode) { n.Service.Connect.PeerMeta.Protocol = "\x1b[2Jhttp" })},
	{name: "an identity in another trust domain", do: unroutable(wantsDomain("SPIFFE ID in trust domain evil.consul, wanted "), spiffeIDs("spiffe://TD/ns/default/dc/dc1/svc/web", "spiffe://evil.consul/ns/default/dc/dc1/svc/web"))},
	{name: "an identity in our trust domain", do: unroutable(wantsDomain(", wanted "), spiffeIDs("spiffe://OURS/ns/default/dc/dc1/svc/web"))},
	{name: "a gateway's identity only", do: unroutable(wantsDomain("no SPIFFE ID of a service, wanted spiffe://"), spiffeIDs("spiffe://TD/gateway/mesh/dc/dc1"))},
	{name: "an identity that is none", do: unroutable(wantsDomain("wanted spiffe://"), spiffeIDs("spiffe://TD/ns/default/dc/dc1/svc/w%65b"))},
	{name: "no metadata", do: unroutable(says("protocol none, wanted tcp"), func(_ *misfit, n *wire.CheckServiceNode) { n.Service.Connect = nil })},
	{name: "a gateway on loopback", do: gatewayAt("::1", 443, "gateway address [::1]:443: is loopback")},
	{name: "a gateway on link-local", do: gatewayAt("169.254.169.254", 80, "gateway address 169.254.169.254:80: is link-local")},
	{name: "a gateway that is a listener of ours", do: gatewayAt(ownListener.Addr().String(), int32(ownListener.Port()), "gateway address 192.0.2.200:8443: is a listener of our own")},
	{name: "a gateway that is our gateway", do: gatewayAt("198.51.100.1", 443, "gateway address 198.51.100.1:443: is a listener of our own")},
	{name: "a gateway on port 0", do: gatewayAt("192.0.2.1", 0, "gateway address 192.0.2.1: port 0: want 1 to 65535")},
}

// certificate is a root that was made by hand.
func certificate(t testing.TB, change func(*x509.Certificate)) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	change(template)
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
}

// badBundle sends another trust bundle after the good one, whose roots must stay.
func badBundle(code int32, text string, change func(*misfit, *wire.PeeringTrustBundle)) func(*misfit) (snapshot.PeerState, []string) {
	return func(m *misfit) (snapshot.PeerState, []string) {
		before := m.east.store.World().Peer("west").Roots
		given := bundle(m.is)
		change(m, given)
		told := text
		if code == wire.CodeInternal {
			told = refusedDomain
		}
		m.nack(code, told, upsert(wire.TypeTrustBundle, wire.TrustBundleID, given))
		require.Equal(m.t, before, m.east.store.World().Peer("west").Roots)
		require.Equal(m.t, m.is.trustDomain, m.east.store.World().Peer("west").TrustDomain)
		if code == wire.CodeInternal {
			return failing(text)
		}
		return active(`"roots": trust bundle: `, text)
	}
}

func withRoot(change func(*x509.Certificate)) func(*misfit, *wire.PeeringTrustBundle) {
	return func(m *misfit, b *wire.PeeringTrustBundle) { b.RootPEMs = []string{certificate(m.t, change)} }
}

var bundleMisbehaviours = []misbehaviour{
	{name: "a first bundle without roots", fresh: true, do: func(m *misfit) (snapshot.PeerState, []string) {
		m.start(m.east.t)
		m.subscribed()
		m.nack(3, "0 roots: want 1 to 32", upsert(wire.TypeTrustBundle, wire.TrustBundleID, &wire.PeeringTrustBundle{TrustDomain: m.is.trustDomain}))
		require.False(m.t, m.east.store.World().Peer("west").Usable())
		return snapshot.Establishing, []string{`"roots": trust bundle: 0 roots: want 1 to 32`}
	}},
	{name: "a first bundle in our trust domain", fresh: true, do: func(m *misfit) (snapshot.PeerState, []string) {
		m.start(m.east.t)
		m.subscribed()
		text := "trust domain " + m.east.trustDomain + " is our own"
		m.nack(13, refusedDomain, upsert(wire.TypeTrustBundle, wire.TrustBundleID, bundle(m.east)))
		return snapshot.Establishing, []string{text}
	}},
	{name: "a first bundle in the other peer's trust domain", fresh: true, do: func(m *misfit) (snapshot.PeerState, []string) {
		m.start(m.east.t)
		m.subscribed()
		text := "is already peer south; federated datacenters share one trust domain: peer with one of them"
		if !m.dials {
			text = "trust domain changed from " + m.is.trustDomain // the token has said
		}
		m.nack(13, refusedDomain, upsert(wire.TypeTrustBundle, wire.TrustBundleID, bundle(m.others.south)))
		return snapshot.Establishing, []string{text}
	}},
	{name: "a bundle without roots", do: badBundle(3, "0 roots: want 1 to 32", func(_ *misfit, b *wire.PeeringTrustBundle) { b.RootPEMs = nil })},
	{name: "a bundle of 33 roots", do: badBundle(3, "33 roots: want 1 to 32", func(_ *misfit, b *wire.PeeringTrustBundle) {
		for len(b.RootPEMs) < 33 {
			b.RootPEMs = append(b.RootPEMs, b.RootPEMs[0])
		}
	})},
	{name: "a bundle that is no certificate", do: badBundle(3, "a root is not the PEM of one certificate", func(_ *misfit, b *wire.PeeringTrustBundle) { b.RootPEMs = []string{"\x1b[2J"} })},
	{name: "a bundle without an authority", do: badBundle(3, "is not a certificate authority", withRoot(func(c *x509.Certificate) { c.IsCA = false }))},
	{name: "a bundle that has expired", do: badBundle(3, "expired at ", withRoot(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }))},
	{name: "a bundle with another domain's root", do: badBundle(3, "is of trust domain ", func(m *misfit, b *wire.PeeringTrustBundle) { b.RootPEMs = bundle(m.east).RootPEMs })},
	{name: "a bundle without a trust domain", do: badBundle(3, "want a name in lower case", func(_ *misfit, b *wire.PeeringTrustBundle) { b.TrustDomain = "" })},
	{name: "another trust domain", do: badBundle(13, "trust domain changed from ", func(m *misfit, b *wire.PeeringTrustBundle) {
		b.TrustDomain = "evil.consul"
		withRoot(func(*x509.Certificate) {})(m, b)
	})},
	{name: "our trust domain later", do: badBundle(13, " is our own", func(m *misfit, b *wire.PeeringTrustBundle) {
		b.TrustDomain, b.RootPEMs = m.east.trustDomain, bundle(m.east).RootPEMs
	})},
}

// badAddresses announces addresses that are not to be dialled; the former ones must stay.
func badAddresses(text string, addresses ...string) misbehaviour {
	return misbehaviour{name: "addresses: " + text, only: dialled, do: func(m *misfit) (snapshot.PeerState, []string) {
		m.nack(3, text, upsert(wire.TypeAddresses, wire.AddressesID, &wire.PeeringServerAddresses{Addresses: addresses}))
		require.Equal(m.t, []string{m.acceptor.address}, m.east.store.World().Peer("west").ServerAddresses)
		return active(`"server-addrs": server addresses: `, text)
	}}
}

var addressMisbehaviours = []misbehaviour{
	badAddresses("none: want at least one"),
	badAddresses("want host:port", "192.0.2.1"),
	badAddresses("want a port from 1 to 65535", "192.0.2.1:0"),
	badAddresses("last part is not a number", "0x7f.1:8503"),
	badAddresses("is link-local", "169.254.169.254:80"),
	badAddresses("is loopback", "[::1]:8503", "[::1]:8300"),
	badAddresses("is a listener of our own", ownListener.String()),
	badAddresses("65 addresses: want at most 64", strings.Split(strings.Repeat("192.0.2.1:8503 ", 64)+"192.0.2.1:8503", " ")...),
}
