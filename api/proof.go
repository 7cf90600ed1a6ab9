package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/http"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/redact"
)

// minChallenge is how long a challenge must be at least: who asks for less would take an old answer for a new one.
const minChallenge = 32

// Proof is what shows that a server reads the operator's token which its caller has found: whoever listens at the address
// while the server is away does not have it. It holds for one challenge and one connection's address: an answer that was
// relayed from the server's own address is no answer for the relay's. It tells nothing of the token, which is 32 random bytes.
func Proof(token redact.String, challenge string, server net.Addr) string {
	key := sha256.Sum256([]byte("isthmus operator token\n" + token.Reveal()))
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte("isthmus whoami\n" + challenge + "\n" + endpoint(server)))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// endpoint is an address as both ends of a connection see it.
func endpoint(address net.Addr) string {
	if at, ok := address.(*net.TCPAddr); ok {
		port := at.AddrPort()
		return netip.AddrPortFrom(port.Addr().Unmap().WithZone(""), port.Port()).String()
	}
	return address.String()
}

// proof answers a caller's challenge, if it sent one and is on this machine.
func (s *server) proof(c *call) (string, error) {
	challenge := c.URL.Query().Get("challenge")
	server, ok := c.Context().Value(http.LocalAddrContextKey).(net.Addr)
	switch {
	case challenge == "" || s.Server.OperatorToken == nil || !ok:
		return "", nil
	case len(challenge) < minChallenge:
		return "", refuse(http.StatusBadRequest, "parameter", "Invalid value for ?challenge: want at least %d characters that nobody can guess", minChallenge)
	}
	token, err := s.Server.OperatorToken()
	if err != nil || token.Empty() {
		return "", nil // it was taken away: there is nothing to prove
	}
	return Proof(token, challenge, server), nil
}
