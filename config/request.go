package config

import (
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/redact"
)

// A TokenRequest asks for a peering token.
type TokenRequest struct {
	Peer      string
	Meta      map[string]string
	Addresses []string      // host:port that the token shall carry instead of our own
	TTL       time.Duration // 0 is the default
}

// An EstablishRequest asks to establish a peering with the token of the other side.
type EstablishRequest struct {
	Peer  string
	Token redact.String
	Meta  map[string]string
}

// ParseTokenRequest reads the body of POST /v1/peering/token. The peer is PeerName, or Peer as Consul's usage page has it.
func ParseTokenRequest(data []byte) (TokenRequest, error) {
	var read struct {
		PeerName                string
		Meta                    map[string]string
		ServerExternalAddresses []string
		TTL                     time.Duration
	}
	err := parseRequest(data, tokenRequestFields, &read, func(d *decoder) {
		d.checkRequest(read.PeerName, read.Meta)
		for i, address := range read.ServerExternalAddresses {
			d.check(fmt.Sprintf("ServerExternalAddresses[%d]", i), CheckHostPort(address))
		}
	})
	if err != nil {
		return TokenRequest{}, err
	}
	return TokenRequest{Peer: read.PeerName, Meta: read.Meta, Addresses: read.ServerExternalAddresses, TTL: read.TTL}, nil
}

// ParseEstablishRequest reads the body of POST /v1/peering/establish. No error holds the token.
func ParseEstablishRequest(data []byte) (EstablishRequest, error) {
	var read struct {
		PeerName, PeeringToken string
		Meta                   map[string]string
	}
	err := parseRequest(data, establishRequestFields, &read, func(d *decoder) {
		d.checkRequest(read.PeerName, read.Meta)
		if read.PeeringToken == "" {
			d.missing("PeeringToken", "the token that the other side generated")
		}
	})
	if err != nil {
		return EstablishRequest{}, err
	}
	return EstablishRequest{Peer: read.PeerName, Token: redact.NewString(read.PeeringToken), Meta: read.Meta}, nil
}

// parseRequest reads a request about a peering by its table into a value, which check then looks at.
func parseRequest(data []byte, fields []field, into any, check func(*decoder)) error {
	root, r, err := parseBody("peering", data)
	if err != nil {
		return err
	}
	d := newDecoder(r)
	d.fill(d.object(root, fields, ""), into)
	check(d)
	errs := &errorList{}
	errs.add(r)
	return errs.join()
}

func (d *decoder) checkRequest(peer string, meta map[string]string) {
	d.name = clip(peer)
	if peer == "" {
		d.missing("PeerName", "the name to give the peer")
	} else {
		d.check("PeerName", CheckPeerName(peer))
	}
	d.checkMeta("Meta", meta)
}
