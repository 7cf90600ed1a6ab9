package sidecar_test

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/sidecar"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
	"github.com/isthmus-mesh/isthmus/xds/envoy/envoytest"
)

// Two real sidecars. A caller that was refused, often, is let in as soon as there is a chain for it: its sidecar has not
// set the way there aside.
func TestRefusedCallerComesBackAtOnce(t *testing.T) {
	b := newBench(t, snapshot.Allowed{Names: []string{"web"}})
	if b == nil {
		return
	}
	at := envoytest.FreeAddress(t)
	set, err := sidecar.Resources(&snapshot.Sidecar{
		ID: "web-sidecar-proxy", Service: "web", Identity: web,
		Upstreams: []*snapshot.Upstream{{
			Peer: "hub", Service: "db", Bind: bind(at), ServerName: "db.default.default.east.external.5f5a.consul",
			SpiffeIDs: []string{db}, Bundle: "bundle~hub", Endpoints: "gw~hub", Mode: "remote",
		}},
		Bundles: []*snapshot.Bundle{{Peer: "hub", Roots: []string{b.own.PEM}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var build envoy.Builder
	gateways := build.Endpoints("gw~hub", []envoy.Endpoint{{Address: b.address, Healthy: true, Weight: 1}}, envoy.Origin{})
	envoytest.Start(t, set, b.east.Issue(t, []string{web}, nil), gateways)
	if !reaches(at) {
		t.Fatal("an allowed caller is refused")
	}

	refusing := *b.set
	without := *b.set.Listeners[0]
	without.Chains = nil
	refusing.Listeners = []*envoy.Listener{&without}
	b.proxy.Rest(&refusing, 1)
	envoytest.Eventually(t, "the caller is refused", func() bool { return !reaches(at) })
	for range 20 {
		if reaches(at) {
			t.Fatal("reached an application that has no chain")
		}
	}
	b.proxy.Rest(b.set, 1)
	start := time.Now()
	envoytest.Eventually(t, "the caller is back", func() bool { return reaches(at) })
	t.Logf("back after %v", time.Since(start))
}

// reaches tells whether the application says its banner to who dials an upstream.
func reaches(at netip.AddrPort) bool {
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	got := make([]byte, len(banner))
	_, err = io.ReadFull(conn, got)
	return err == nil && string(got) == banner
}
