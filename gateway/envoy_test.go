package gateway_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"regexp"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
	"github.com/isthmus-mesh/isthmus/xds/envoy/envoytest"
)

// A real gateway passes what is exported, on the listener that it is for, and closes everything else: what an attacker
// learns from its own configuration opens nothing.
func TestOnlyNamedServicesPass(t *testing.T) {
	const exported, imported = "db.default.default.east.external.5f5a.consul", "billing.default.default.north.external.7c7c.consul"
	db, billing := newServer(t, "db"), newServer(t, "billing")
	ingress, egress := envoytest.FreeAddress(t), envoytest.FreeAddress(t)
	set, err := gateway.Resources(&snapshot.MeshGateway{
		ID: "gw", Ingress: bind(ingress), Egress: new(bind(egress)),
		Exports: []*snapshot.GatewayExport{{Peer: "east", Service: "db", ServerName: exported, Endpoints: "svc~db~default"}},
		Imports: []*snapshot.GatewayImport{{Peer: "east", ServerNames: "*.north.external.7c7c.consul", Endpoints: "gw~east"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	proxy, ok := envoytest.Start(t, set, tls.Certificate{}, endpoints("svc~db~default", db), endpoints("gw~east", billing))
	if !ok {
		return
	}
	for _, c := range []struct {
		listener   netip.AddrPort
		serverName string
		want       string
	}{
		{ingress, exported, "db"},
		{ingress, "DB.default.default.EAST.external.5f5a.consul", "db"}, // names on the wire have no case
		{egress, imported, "billing"},
		{ingress, imported, ""},
		{egress, exported, ""},
		{egress, "north.external.7c7c.consul", ""},
		{ingress, "x" + exported, ""},
		{ingress, "", ""},
	} {
		if got := ask(t, c.listener, c.serverName); got != c.want {
			t.Errorf("%v: sni %q: reached %q, want %q", c.listener, c.serverName, got, c.want)
		}
	}
	for _, name := range regexp.MustCompile(`"name": "([^"]+)"`).FindAllStringSubmatch(proxy.Admin("/config_dump"), -1) {
		for _, listener := range []netip.AddrPort{ingress, egress} {
			if got := ask(t, listener, name[1]); got != "" {
				t.Errorf("%v: sni %q, from the gateway's configuration: reached %q", listener, name[1], got)
			}
		}
	}
	plain, err := net.Dial("tcp", ingress.String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_ = plain.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(plain, "GET / HTTP/1.0\r\n\r\n")
	if got, _ := io.ReadAll(plain); len(got) > 0 {
		t.Errorf("no TLS: got %q", got)
	}
}

func endpoints(name string, address netip.AddrPort) *envoy.Resource {
	return gateway.EndpointResource(&snapshot.EndpointSet{Name: name, Endpoints: []snapshot.Endpoint{{Address: address, Healthy: true, Weight: 1}}})
}

func bind(address netip.AddrPort) snapshot.Bind {
	return snapshot.Bind{Address: address.Addr().String(), Port: address.Port()}
}

// newServer answers every TLS connection with its name.
func newServer(t *testing.T, name string) netip.AddrPort {
	t.Helper()
	leaf := envoytest.NewAuthority(t).Issue(t, nil, nil)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{leaf}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.WriteString(conn, name)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// ask returns which server answers, empty when the connection is closed.
func ask(t *testing.T, listener netip.AddrPort, serverName string) string {
	t.Helper()
	plain, err := net.Dial("tcp", listener.String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_ = plain.SetDeadline(time.Now().Add(5 * time.Second))
	got, _ := io.ReadAll(tls.Client(plain, &tls.Config{ServerName: serverName, InsecureSkipVerify: true}))
	return string(bytes.TrimSpace(got))
}
