package api

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/sni"
)

func (s *server) connectRoutes() []route {
	return []route{
		{method: "GET", pattern: "/v1/connect/ca/roots", access: read, read: caRoots},
		{method: "GET", pattern: "/v1/agent/connect/ca/roots", access: read, read: caRoots},
		{method: "GET", pattern: "/v1/agent/connect/ca/leaf/{name}", access: operate, do: s.caLeaf},
		{method: "POST", pattern: "/v1/agent/connect/authorize", access: read, do: connectAuthorize},
	}
}

// rootJSON is one root that vouches for our services.
type rootJSON struct {
	ID, Name                 string
	SerialNumber             uint64
	SigningKeyID             string
	ExternalTrustDomain      string
	NotBefore, NotAfter      time.Time
	RootCert                 string
	IntermediateCerts        []string
	Active                   bool
	PrivateKeyType           string
	PrivateKeyBits           int
	CreateIndex, ModifyIndex uint64
}

// caRoots answers with our own roots, or with ?pem=true with their certificates alone.
func caRoots(c *call) (query, error) {
	asPEM, err := flag(c, "pem")
	if err != nil {
		return query{}, err
	}
	return query{index: modified(snapshot.TableRoots), answer: func(w *snapshot.World) (any, error) {
		bundle := w.Roots()
		if bundle == nil {
			return nil, refuse(http.StatusServiceUnavailable, "starting", "there are no roots yet")
		}
		if asPEM {
			return raw{http.StatusOK, "application/pem-certificate-chain", []byte(strings.Join(bundle.Roots, ""))}, nil
		}
		roots := []rootJSON{}
		for _, text := range bundle.Roots {
			root, err := rootShape(text)
			if err != nil {
				return nil, err
			}
			root.Active = root.ID == bundle.ActiveRoot || len(bundle.Roots) == 1
			root.ExternalTrustDomain = strings.TrimSuffix(bundle.TrustDomain, ".consul")
			root.CreateIndex, root.ModifyIndex = bundle.CreateIndex, bundle.ModifyIndex
			roots = append(roots, root)
		}
		return struct {
			ActiveRootID, TrustDomain string
			Roots                     []rootJSON
		}{activeID(roots), w.Cluster().TrustDomain, roots}, nil
	}}, nil
}

func activeID(roots []rootJSON) string {
	for _, root := range roots {
		if root.Active {
			return root.ID
		}
	}
	return ""
}

func rootShape(text string) (rootJSON, error) {
	certificate, err := parsePEM([]byte(text))
	if err != nil {
		return rootJSON{}, fmt.Errorf("root: %w", err)
	}
	shape := rootJSON{
		ID: rootID(certificate), Name: certificate.Subject.CommonName, SigningKeyID: colons(certificate.SubjectKeyId), NotBefore: certificate.NotBefore,
		NotAfter: certificate.NotAfter, RootCert: text, PrivateKeyType: "ec", PrivateKeyBits: 256,
	}
	if certificate.SerialNumber.IsUint64() {
		shape.SerialNumber = certificate.SerialNumber.Uint64()
	}
	return shape, nil
}

// leafJSON is a service's certificate with its key.
type leafJSON struct {
	SerialNumber, CertPEM, PrivateKeyPEM string
	Service, ServiceURI                  string
	ValidAfter, ValidBefore              time.Time
	CreateIndex, ModifyIndex             uint64
}

// caLeaf answers with a service's leaf; with ?index= once there is another.
func (s *server) caLeaf(c *call) (any, error) {
	if s.Leaf == nil {
		return nil, errReadOnly
	}
	name := c.PathValue("name")
	if err := config.CheckServiceName(name); err != nil {
		return nil, refuse(http.StatusBadRequest, "invalid", "%v", err)
	}
	seen, wait, err := waitParams(c)
	if err != nil {
		return nil, err
	}
	cluster := c.world.Cluster()
	identity := sni.ServiceID{TrustDomain: cluster.TrustDomain, Namespace: config.DefaultNamespace, Datacenter: cluster.Datacenter, Service: name}
	issue := func(ctx context.Context) (Leaf, error) { return s.Leaf(ctx, identity.URL()) }
	leaf, index, err := s.awaitLeaf(c, seen, wait, issue)
	if err != nil {
		return nil, err
	}
	certificate, err := parsePEM(leaf.CertPEM)
	if err != nil {
		return nil, fmt.Errorf("leaf of %s: %w", name, err)
	}
	if err := s.record(c, "leaf.read", identity.String()); err != nil {
		return nil, err
	}
	c.w.Header().Set("X-Consul-Index", strconv.FormatUint(index, 10))
	return leafJSON{
		SerialNumber: colons(certificate.SerialNumber.Bytes()), CertPEM: string(leaf.CertPEM), PrivateKeyPEM: string(leaf.KeyPEM.Reveal()),
		Service: name, ServiceURI: identity.String(), ValidAfter: certificate.NotBefore, ValidBefore: certificate.NotAfter,
		CreateIndex: index, ModifyIndex: index,
	}, nil
}

// awaitLeaf returns the leaf, and once the client has seen it the next one: when its renewal is due or the roots change.
func (s *server) awaitLeaf(c *call, seen uint64, wait time.Duration, issue func(context.Context) (Leaf, error)) (Leaf, uint64, error) {
	sub := s.Publisher.Subscribe()
	defer sub.Close()
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		leaf, err := issue(c.Context())
		if err != nil {
			return leaf, 0, err
		}
		// A later leaf begins later, and one under other roots follows a change of them.
		index := uint64(leaf.NotBefore.Unix()) + sub.Take().World.Modified(snapshot.TableRoots)
		if seen != index {
			return leaf, index, nil
		}
		due := time.NewTimer(leaf.RenewAt.Sub(s.Now()))
		select {
		case <-c.Context().Done():
			err = c.Context().Err()
		case <-over.C:
			due.Stop()
			return leaf, index, nil
		case <-due.C:
		case <-sub.Ready():
		}
		due.Stop()
		if err != nil {
			return leaf, 0, err
		}
	}
}

// connectAuthorize answers whether a client's identity may call a service, for applications that ask themselves.
func connectAuthorize(c *call) (any, error) {
	var request struct{ Target, ClientCertURI, ClientCertSerial string }
	if err := decode(c, &request); err != nil {
		return nil, err
	}
	id, err := sni.ParseServiceID(request.ClientCertURI)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "invalid", "ClientCertURI: %v", err)
	}
	peer := ""
	if td := c.world.Cluster().TrustDomain; id.TrustDomain != td {
		if peer = peerOf(c.world, id.TrustDomain); peer == "" {
			return authorized{false, "Identity from an external trust domain: " + id.TrustDomain}, nil
		}
	}
	decision := snapshot.Decide(c.world, id.Service, peer, request.Target)
	if decision.Default() {
		return authorized{decision.Allowed, "Default intention policy"}, nil
	}
	return authorized{decision.Allowed, fmt.Sprintf("Matched intention %s => %s, precedence %d", decision.By.Name, decision.Entry, decision.Precedence)}, nil
}

type authorized struct {
	Authorized bool
	Reason     string
}

// peerOf returns the name of the peer that is pinned to a trust domain.
func peerOf(w *snapshot.World, trustDomain string) string {
	for _, peer := range w.Peers() {
		if peer.Usable() && peer.TrustDomain == trustDomain {
			return peer.Name
		}
	}
	return ""
}

func parsePEM(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("no PEM block")
	}
	return x509.ParseCertificate(block.Bytes)
}

// rootID returns what the CA calls a root: the hash of its certificate.
func rootID(root *x509.Certificate) string {
	sum := sha256.Sum256(root.Raw)
	return hex.EncodeToString(sum[:])
}

// colons returns bytes as Consul writes serial numbers and key IDs: aa:bb:cc.
func colons(b []byte) string {
	parts := make([]string, len(b))
	for i := range b {
		parts[i] = hex.EncodeToString(b[i : i+1])
	}
	return strings.Join(parts, ":")
}
