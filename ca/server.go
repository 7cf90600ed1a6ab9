package ca

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"
)

// GetCertificate is tls.Config's function of that name.
type GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// ServerCertificate returns what a listener of ours shows: a certificate for these names and addresses and for
// spiffe://<trust domain>/agent/server/dc/<datacenter>. It is renewed by the first handshake after its renewal is due,
// and at once when another root signs; while a new one cannot be signed, the old one serves until it ends. The first is
// made here, so that the error is seen at the start.
func (c *CA) ServerCertificate(dnsNames []string, ips []net.IP) (GetCertificate, error) {
	if len(dnsNames) == 0 && len(ips) == 0 {
		return nil, errors.New("server certificate: want a DNS name or an address")
	}
	s := &serverCertificate{ca: c, dnsNames: dnsNames, ips: ips}
	_, err := s.get(nil)
	return s.get, err
}

type serverCertificate struct {
	ca       *CA
	dnsNames []string
	ips      []net.IP

	mu       sync.Mutex
	current  *tls.Certificate
	rootID   string
	renewAt  time.Time
	notAfter time.Time
}

func (s *serverCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, active := s.ca.cfg.Now(), s.ca.active()
	if s.current != nil && s.rootID == active.id && now.Before(s.renewAt) {
		return s.current, nil
	}
	if err := s.renew(active); err != nil && (s.current == nil || !now.Before(s.notAfter)) {
		return nil, fmt.Errorf("server certificate: %w", err)
	}
	return s.current, nil
}

func (s *serverCertificate) renew(active *root) error {
	leaf, err := s.ca.sign(active, &x509.Certificate{
		DNSNames:    s.dnsNames,
		IPAddresses: s.ips,
		URIs:        []*url.URL{{Scheme: "spiffe", Host: s.ca.cfg.TrustDomain, Path: "/agent/server/dc/" + s.ca.cfg.Datacenter}},
	})
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(leaf.CertPEM, leaf.KeyPEM.Reveal())
	if err != nil {
		return err
	}
	s.current, s.rootID, s.renewAt, s.notAfter = &pair, leaf.RootID, leaf.RenewAt, leaf.NotAfter
	return nil
}
