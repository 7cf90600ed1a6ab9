package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"time"
)

const (
	materialVersion = 1
	rootLife        = 10 * 365 * 24 * time.Hour
)

// A root is a certificate that vouches for leaves, and its key. Of several, one is active and signs; the others are in
// every bundle until the last leaf that they signed has ended.
type root struct {
	id         string // hex SHA-256 of the certificate
	cert       *x509.Certificate
	certPEM    string
	key        crypto.Signer
	active     bool
	rotatedOut time.Time // when another became active; zero: it is active
}

// material is what Save keeps.
type material struct {
	Version     int            `json:"version"`
	TrustDomain string         `json:"trust_domain"`
	Roots       []rootMaterial `json:"roots"`
}

type rootMaterial struct {
	CertPEM    string    `json:"cert_pem"`
	KeyPEM     string    `json:"key_pem"`
	Active     bool      `json:"active"`
	RotatedOut time.Time `json:"rotated_out,omitzero"`
}

// newRoot makes a self-signed root. It has no path length, so that a root which follows it can be signed by it.
func newRoot(trustDomain string, now time.Time) (*root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	suffix := make([]byte, 4)
	rand.Read(suffix) // never fails: crypto/rand ends the program instead
	template := &x509.Certificate{
		// Verifiers look for issuers by their name, so no two roots share one.
		Subject:               pkix.Name{CommonName: "Isthmus CA " + hex.EncodeToString(suffix)},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return rootOf(der, key, true, time.Time{})
}

func rootOf(der []byte, key crypto.Signer, active bool, rotatedOut time.Time) (*root, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(der)
	return &root{
		id:         hex.EncodeToString(id[:]),
		cert:       cert,
		certPEM:    string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		key:        key,
		active:     active,
		rotatedOut: rotatedOut,
	}, nil
}

func formatMaterial(roots []*root, trustDomain string) ([]byte, error) {
	m := material{Version: materialVersion, TrustDomain: trustDomain}
	for _, r := range roots {
		keyPEM, err := keyToPEM(r.key)
		if err != nil {
			return nil, err
		}
		m.Roots = append(m.Roots, rootMaterial{CertPEM: r.certPEM, KeyPEM: string(keyPEM), Active: r.active, RotatedOut: r.rotatedOut})
	}
	return json.Marshal(m)
}

func parseMaterial(data []byte, trustDomain string) ([]*root, error) {
	var m material
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, errors.New("material: is not JSON") // the decoder's error could quote a key
	}
	if m.Version != materialVersion {
		return nil, fmt.Errorf("material: version %d: want %d", m.Version, materialVersion)
	}
	if m.TrustDomain != trustDomain {
		return nil, fmt.Errorf("material: is of trust domain %s: want %s", m.TrustDomain, trustDomain)
	}
	var roots []*root
	active := 0
	for i, stored := range m.Roots {
		r, err := stored.parse(trustDomain)
		if err != nil {
			return nil, fmt.Errorf("material: root %d: %w", i, err)
		}
		if roots = append(roots, r); r.active {
			active++
		}
	}
	if active != 1 {
		return nil, fmt.Errorf("material: %d active roots: want 1", active)
	}
	return roots, nil
}

func (m rootMaterial) parse(trustDomain string) (*root, error) {
	certBlock, _ := pem.Decode([]byte(m.CertPEM))
	keyBlock, _ := pem.Decode([]byte(m.KeyPEM))
	if certBlock == nil || keyBlock == nil {
		return nil, errors.New("want a certificate and a key in PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("want an ECDSA key in PKCS #8")
	}
	r, err := rootOf(certBlock.Bytes, key, m.Active, m.RotatedOut)
	switch {
	case err != nil:
		return nil, err
	case !key.PublicKey.Equal(r.cert.PublicKey):
		return nil, errors.New("the key is not the certificate's")
	case len(r.cert.URIs) != 1 || r.cert.URIs[0].String() != "spiffe://"+trustDomain:
		return nil, fmt.Errorf("certificate is for %v: want spiffe://%s", r.cert.URIs, trustDomain)
	}
	return r, nil
}

func keyToPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
