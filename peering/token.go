package peering

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/sni"
)

// The largest token, and the most addresses and roots, that are read.
const (
	maxToken     = 256 << 10
	maxAddresses = 64
	maxRoots     = 32
)

// token is the JSON inside a peering token. ID and Expires are ours; other readers pass over them.
type token struct {
	CA                    []string
	ManualServerAddresses []string
	ServerAddresses       []string
	ServerName            string
	PeerID                string
	EstablishmentSecret   string
	Remote                *tokenRemote `json:",omitempty"`
	ID                    string       `json:",omitempty"`
	Expires               time.Time    `json:",omitzero"`
}

type tokenRemote struct {
	Partition, Datacenter string
}

// TokenContents is what a peering token says, without its secret.
type TokenContents struct {
	ID              string    // empty: not one of ours
	Expires         time.Time // zero: the token does not say
	PeerID          string    // the peering, as the cluster that made the token calls it
	ServerName      string
	TrustDomain     string // from ServerName; empty: the token does not say
	Datacenter      string
	ServerAddresses []string
	ManualAddresses []string // when there are any, these are dialled
	CAPEMs          []string
	Dialect         string // a first guess: the peer decides when it is dialled
}

// InspectToken reads a token and asks nobody. It returns an *Error for what no peer could use.
func InspectToken(secret redact.String) (TokenContents, error) {
	t, err := decodeToken(secret)
	if err != nil {
		return TokenContents{}, err
	}
	contents := TokenContents{
		ID: t.ID, Expires: t.Expires, PeerID: t.PeerID, ServerName: t.ServerName, ServerAddresses: t.ServerAddresses,
		ManualAddresses: t.ManualServerAddresses, CAPEMs: t.CA, Dialect: t.dialect().name,
	}
	contents.TrustDomain, _ = sni.PeeringServerTrustDomain(t.ServerName)
	if t.Remote != nil {
		contents.Datacenter = t.Remote.Datacenter
	}
	return contents, nil
}

// dialect guesses by what only acceptors of one dialect write.
func (t token) dialect() dialect {
	if t.Remote == nil {
		return dialect113
	}
	return dialect114
}

// encode returns the token as people pass it on: standard base64 with padding, of JSON.
func (t token) encode() redact.String {
	text, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings and a time: cannot be
	}
	return redact.NewString(base64.StdEncoding.EncodeToString(text))
}

// decodeToken reads and checks a token. Its errors never hold the token.
func decodeToken(secret redact.String) (token, error) {
	text := strings.TrimSpace(secret.Reveal())
	if text == "" {
		return token{}, badRequest("peering token is empty")
	}
	if len(text) > maxToken {
		return token{}, badRequest("peering token: %d bytes: want at most %d", len(text), maxToken)
	}
	decoded, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return token{}, badRequest("peering token: not base64: want the whole token, as generate-token printed it")
	}
	var t token
	if err := json.Unmarshal(decoded, &t); err != nil {
		return token{}, badRequest("peering token: not the JSON of a token: want the whole token, as generate-token printed it")
	}
	if err := t.check(); err != nil {
		return token{}, badRequest("peering token: %v", err)
	}
	return t, nil
}

func (t token) check() error {
	switch {
	case t.PeerID == "":
		return fmt.Errorf("PeerID is empty")
	case t.EstablishmentSecret == "":
		return fmt.Errorf("EstablishmentSecret is empty")
	case len(t.CA) > 0 && t.ServerName == "":
		return fmt.Errorf("ServerName is empty: want the name in the certificate that CA signed")
	case len(t.ServerAddresses)+len(t.ManualServerAddresses) == 0:
		return fmt.Errorf("ServerAddresses is empty: want at least one host:port")
	case len(t.CA) > maxRoots:
		return fmt.Errorf("CA: %d certificates: want at most %d", len(t.CA), maxRoots)
	}
	for _, root := range t.CA {
		if _, err := parseRoot(root); err != nil {
			return fmt.Errorf("CA: %w", err)
		}
	}
	if err := checkAddresses(t.ManualServerAddresses); err != nil {
		return fmt.Errorf("ManualServerAddresses: %w", err)
	}
	if err := checkAddresses(t.ServerAddresses); err != nil {
		return fmt.Errorf("ServerAddresses: %w", err)
	}
	return nil
}

// checkAddresses wants host:port everywhere, and not too many. Whether they may be dialled is asked when they are.
func checkAddresses(addresses []string) error {
	if len(addresses) > maxAddresses {
		return fmt.Errorf("%d addresses: want at most %d", len(addresses), maxAddresses)
	}
	for _, address := range addresses {
		if err := config.CheckHostPort(address); err != nil {
			return fmt.Errorf("address %w", err)
		}
	}
	return nil
}

// parseRoot reads a PEM that holds exactly one certificate.
func parseRoot(text string) (*x509.Certificate, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
		return nil, fmt.Errorf("a root is not the PEM of one certificate")
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("a root is not a certificate: %w", err)
	}
	return root, nil
}
