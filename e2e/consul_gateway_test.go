package e2e

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// TestConsulPeersThroughGateways peers two isthmuses with a Consul whose servers are reached, and reach others, through its
// mesh gateways: one dials it and one is dialled.
func TestConsulPeersThroughGateways(t *testing.T) {
	l := lab.New(t)
	consul := insideSide(l, "beta")
	dialer, acceptor := isthmusSide(l, "alpha"), isthmusSide(l, "gamma")
	for _, s := range []*side{consul, dialer, acceptor} {
		s.announce()
	}
	consul.peerThroughGateways(true)
	consul.export(dialer.name, acceptor.name)
	dialer.export(consul.name)
	acceptor.export(consul.name)
	consul.gateway = consul.Gateway()
	took := timed(l)

	peerSides(consul, dialer)
	took("isthmus dials")
	gateway := consul.host.WAN + ":8443"
	if err := dialer.dials(consul, gateway)(); err != nil {
		t.Error(err)
	}
	bothImport(dialer, consul)
	settingFollowed(consul, dialer, gateway)
	peerSides(acceptor, consul)
	took("consul dials")
	bothImport(acceptor, consul)
	if n := consul.gateway.Stat(`cluster\.server\.dc1\.peering\.` + regexp.QuoteMeta(acceptor.trustDomain()) + `\..*upstream_cx_total`); n == 0 {
		t.Errorf("the Consul did not dial through its gateway")
	}

	streams := acceptor.streams(consul)
	consul.gateway.Kill()
	l.Eventually(dialer.name+" finds no gateway", func() error {
		if reason := dialer.reason(consul); !strings.HasPrefix(reason, "FAILING: ") || !strings.Contains(reason, gateway+": connect: connection refused") {
			return errors.New(reason)
		}
		return dialer.imports(consul)()
	})
	took("no gateway")
	l.Eventually("the Consul dials without a gateway", acceptor.hasStream(consul, streams))
	active(acceptor, consul)
	took("consul dials without a gateway")
	consul.gateway = consul.Gateway()
	active(dialer, consul)
	bothImport(dialer, consul)
	took("isthmus dials the new gateway")
}

// settingFollowed takes the setting back and gives it again. An isthmus that dials hears of it, on the stream that goes on.
func settingFollowed(consul, dialer *side, gateway string) {
	l := consul.Lab
	l.T.Helper()
	streams := dialer.streams(consul)
	consul.peerThroughGateways(false)
	l.Eventually(dialer.name+" hears of the server", dialer.dials(consul, consul.host.Egress+":"+lab.PeeringPort))
	consul.peerThroughGateways(true)
	l.Eventually(dialer.name+" hears of the gateway", dialer.dials(consul, gateway))
	if now := dialer.streams(consul); now != streams {
		l.T.Errorf("%s has had %d streams: want %d", dialer.name, now, streams)
	}
}

func (s *side) peerThroughGateways(yes bool) {
	s.T.Helper()
	s.mustWrite(fmt.Sprintf("Kind = \"mesh\"\nPeering { PeerThroughMeshGateways = %t }\n", yes))
}

// dials returns a check that a side dials a peer at one address.
func (s *side) dials(peer *side, address string) func() error {
	return func() error {
		if addresses := s.addresses(peer); len(addresses) != 1 || addresses[0] != address {
			return fmt.Errorf("%s dials %v: want %s", s.name, addresses, address)
		}
		return nil
	}
}

// insideSide is the side of a Consul whose server listens where another host has no way to it, but for its gateway.
func insideSide(l *lab.Lab, name string) *side {
	l.T.Helper()
	h := l.Host(name)
	return serverSide(l, name, l.ConsulOn(h, lab.Consul115, map[string]any{
		"bind_addr": h.Egress, "advertise_addr": h.Egress,
		"addresses": map[string]string{"http": h.API, "grpc": h.XDS, "grpc_tls": h.Egress},
	}))
}

// trustDomain returns the trust domain of an isthmus.
func (s *side) trustDomain() string {
	s.T.Helper()
	var status struct {
		TrustDomain string `json:"trust_domain"`
	}
	if err := s.JSON("/isthmus/v1/status", &status); err != nil {
		s.T.Fatal(err)
	}
	return status.TrustDomain
}
