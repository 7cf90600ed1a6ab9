package sidecar_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
	"github.com/isthmus-mesh/isthmus/xds/envoy/envoytest"
)

const (
	db     = "spiffe://5f5a.consul/ns/default/dc/dc1/svc/db"
	web    = "spiffe://7c7c.consul/ns/default/dc/dc1/svc/web"
	api    = "spiffe://7c7c.consul/ns/default/dc/dc9/svc/api"
	banner = "220 who are you?\n"
)

// What a real Envoy does with the forged certificates that peers could make, with an application that speaks first.
func TestHandshakeDecides(t *testing.T) {
	b := newBench(t, snapshot.Allowed{Names: []string{"web"}})
	if b == nil {
		return
	}
	for name, c := range map[string]struct {
		by   *envoytest.Authority
		uris []string
		dns  []string
		in   bool
	}{
		"allowed":                          {by: b.east, uris: []string{web}, in: true},
		"allowed, other datacenter":        {by: b.east, uris: []string{strings.Replace(web, "dc1", "dc7", 1)}, in: true},
		"another service":                  {by: b.east, uris: []string{api}},
		"longer name":                      {by: b.east, uris: []string{web + "2"}},
		"longer path":                      {by: b.east, uris: []string{web + "/x"}},
		"upper case":                       {by: b.east, uris: []string{strings.Replace(web, "web", "WEB", 1)}},
		"slash in the datacenter":          {by: b.east, uris: []string{strings.Replace(web, "dc1", "dc1/svc/x", 1)}},
		"our trust domain, signed by them": {by: b.east, uris: []string{strings.Replace(web, "7c7c", "5f5a", 1)}},
		"allowed name, signed by another":  {by: b.west, uris: []string{web}},
		"allowed name as DNS SAN":          {by: b.east, uris: []string{api}, dns: []string{web}},
		"DNS SAN only":                     {by: b.east, dns: []string{web}},
		"no SAN":                           {by: b.east},
		"no certificate":                   {},
	} {
		t.Run(name, func(t *testing.T) {
			before := b.app.accepted.Load()
			got, conn := b.dial(t, "db.default.default.east.external.5f5a.consul", c.by, c.uris, c.dns)
			defer conn.Close()
			if c.in != (got == banner) || !c.in && got != "" {
				t.Errorf("in %v: got %q", c.in, got)
			}
			if c.in && echo(conn, "hello") != "hello" {
				t.Error("refused behind the handshake")
			}
			if after := b.app.accepted.Load(); !c.in && after != before {
				t.Errorf("%d connections to the application: want none", after-before)
			}
		})
	}
	t.Run("two URIs of which one is allowed stop at the rules", func(t *testing.T) {
		_, conn := b.dial(t, "db.default.default.east.external.5f5a.consul", b.east, []string{web, api}, nil)
		defer conn.Close()
		if got := echo(conn, "hello"); got != "" {
			t.Errorf("got %q", got)
		}
	})
	for _, name := range []string{"none.isthmus.invalid", "db.default.default.west.external.5f5a.consul", "app", ""} {
		if got, conn := b.dial(t, name, b.east, []string{web}, nil); got != "" {
			t.Errorf("sni %q: got %q: want a closed connection", name, got)
			conn.Close()
		}
	}
}

// A grant cuts nobody; a revocation cuts the open connections of its peer; nobody means nobody.
func TestGrantAndRevoke(t *testing.T) {
	b := newBench(t, snapshot.Allowed{Names: []string{"web"}})
	if b == nil {
		return
	}
	const name = "db.default.default.east.external.5f5a.consul"
	_, first := b.dial(t, name, b.east, []string{web}, nil)
	defer first.Close()
	modified := b.proxy.Admin("/stats?filter=listener_modified")

	b.allow(snapshot.Allowed{Names: []string{"api", "web"}})
	envoytest.Eventually(t, "api is granted", func() bool { return b.admits(name, api) })
	if now := b.proxy.Admin("/stats?filter=listener_modified"); now != modified {
		t.Errorf("a grant changed the listener: %s", now)
	}
	if echo(first, "still") != "still" {
		t.Error("a grant cut an open connection")
	}

	b.allow(snapshot.Allowed{Names: []string{"api"}})
	envoytest.Eventually(t, "web is revoked", func() bool { return !b.admits(name, web) })
	if echo(first, "open") != "open" {
		t.Error("secrets and rules alone cut an open connection: the epoch is not needed")
	}
	b.proxy.Rest(b.set, 2)
	envoytest.Eventually(t, "the open connection of web ends", func() bool { return echo(first, "?") == "" })
	if !b.admits(name, api) {
		t.Error("api must be able to come back")
	}

	b.allow(snapshot.Allowed{AllExcept: true})
	envoytest.Eventually(t, "everybody is granted", func() bool { return b.admits(name, web) })
	b.allow(snapshot.Allowed{})
	envoytest.Eventually(t, "nobody is granted", func() bool { return !b.admits(name, web) && !b.admits(name, api) })
}

// Without roots nobody is vouched for. Envoy refuses such a secret, and a chain without its secret closes every
// connection: the application may see one open and end (there is no handshake to wait for), and nothing goes either way.
func TestNoRootsAdmitNobody(t *testing.T) {
	east := envoytest.NewAuthority(t)
	b := newBenchOf(t, snapshot.Allowed{AllExcept: true}, func(b *bench) { b.east.PEM = "" })
	if b == nil {
		return
	}
	for name, by := range map[string]*envoytest.Authority{"signed by the peer": b.east, "signed by anybody": east, "no certificate": nil} {
		if got, conn := b.dial(t, "db.default.default.east.external.5f5a.consul", by, []string{web}, nil); got != "" {
			t.Errorf("%s: got %q", name, got)
			conn.Close()
		}
	}
}

// A bench is an Envoy in front of an application, and the authorities of its clients.
type bench struct {
	t               *testing.T
	view            snapshot.Sidecar
	set             *envoy.Set
	app             *application
	own, east, west *envoytest.Authority
	proxy           *envoytest.Proxy
	address         netip.AddrPort
}

func newBench(t *testing.T, allowed snapshot.Allowed) *bench {
	return newBenchOf(t, allowed, func(*bench) {})
}

func newBenchOf(t *testing.T, allowed snapshot.Allowed, change func(*bench)) *bench {
	b := &bench{t: t, app: newApplication(t), address: envoytest.FreeAddress(t)}
	b.own, b.east, b.west = envoytest.NewAuthority(t), envoytest.NewAuthority(t), envoytest.NewAuthority(t)
	change(b)
	b.view = snapshot.Sidecar{
		ID: "db-sidecar-proxy", Service: "db", Identity: db,
		Inbound: &snapshot.Inbound{Bind: bind(b.address), App: bind(b.app.Addr().(*net.TCPAddr).AddrPort())},
		Chains: []*snapshot.InboundChain{{
			Peer: "east", Service: "db", ServerName: "db.default.default.east.external.5f5a.consul", AuthzName: "authz~db~default~east",
		}},
	}
	b.translate(allowed)
	leaf := b.own.Issue(t, []string{db}, nil)
	var ok bool
	if b.proxy, ok = envoytest.Start(t, b.set, leaf); !ok {
		return nil
	}
	return b
}

func (b *bench) translate(allowed snapshot.Allowed) {
	b.view.Authz = []*snapshot.Authz{{
		Name: "authz~db~default~east", Peer: "east", Service: "db", TrustDomain: "7c7c.consul", Roots: []string{b.east.PEM}, Allowed: allowed,
	}}
	set, err := sidecar.Resources(&b.view)
	if err != nil {
		b.t.Fatal(err)
	}
	b.set = set
}

func (b *bench) allow(allowed snapshot.Allowed) {
	b.translate(allowed)
	b.proxy.Secrets(b.set)
}

// admits tells whether east's uri is let in, by handshake and rules.
func (b *bench) admits(serverName, uri string) bool {
	got, conn := b.dial(b.t, serverName, b.east, []string{uri}, nil)
	defer conn.Close()
	return got == banner && echo(conn, "hello") == "hello"
}

// dial returns what the application says before the client says anything.
func (b *bench) dial(t *testing.T, serverName string, by *envoytest.Authority, uris, dns []string) (string, net.Conn) {
	t.Helper()
	plain, err := net.Dial("tcp", b.address.String())
	if err != nil {
		t.Fatal(err)
	}
	_ = plain.SetDeadline(time.Now().Add(5 * time.Second))
	config := &tls.Config{ServerName: serverName, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	if by != nil {
		config.Certificates = []tls.Certificate{by.Issue(t, uris, dns)}
	}
	conn := tls.Client(plain, config)
	got := make([]byte, len(banner))
	n, _ := io.ReadFull(conn, got)
	return string(got[:n]), conn
}

// echo returns what comes back for text; empty when the connection is closed.
func echo(conn net.Conn, text string) string {
	if _, err := io.WriteString(conn, text); err != nil {
		return ""
	}
	got := make([]byte, len(text))
	n, _ := io.ReadFull(conn, got)
	return string(got[:n])
}

// An application sends a banner to whoever connects, and then what it is sent.
type application struct {
	net.Listener
	accepted atomic.Int64
}

func newApplication(t *testing.T) *application {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	app := &application{Listener: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			app.accepted.Add(1)
			go func() {
				defer conn.Close()
				_, _ = io.WriteString(conn, banner)
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return app
}

func bind(address netip.AddrPort) snapshot.Bind {
	return snapshot.Bind{Address: address.Addr().String(), Port: address.Port()}
}
