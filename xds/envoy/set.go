// Package envoy builds Envoy's protobufs and decides nothing: what goes into them is the caller's choice. Its types carry
// marshalled resources from the translators to the xDS server.
package envoy

import (
	"crypto/sha256"
	"encoding/hex"
)

// A Resource is one marshalled xDS resource: built once, shared by every proxy that needs it, never written again.
type Resource struct {
	TypeURL string
	Name    string
	Version string // hash of Body
	Body    []byte // value of the Any
	Origin  Origin
	// EndpointSet names the CLA that a cluster uses; empty for every other type, and for clusters without one.
	EndpointSet string
	// Authz is set on the secrets that decide who may come in, and only there.
	Authz *Authz
}

// Origin is the object that made a part, as snapshot.Origin.
type Origin struct{ Kind, Name, Peer string }

// Authz is what the server must know of an authorization secret: whether a new version admits fewer than the last.
type Authz struct {
	AllExcept bool
	Names     []string // sorted
	Roots     []string // sorted
}

// A Chain is one marshalled filter chain, without its revocation epoch.
type Chain struct {
	Name string
	Hash string
	// Body is the value of the FilterChain. It holds no metadata: the server appends the epoch, see WithEpoch.
	Body   []byte
	Origin Origin
	// AuthzName is the secret that decides who may come in by this chain. Empty: the chain has no revocation epoch.
	AuthzName string
	// ExtensionNames are the ECDS resources that the chain waits for.
	ExtensionNames []string
}

// A Listener is a shell plus named chains. Its resource is Shell and the chains, concatenated: protobuf's way to append
// to a repeated field.
type Listener struct {
	Name      string
	Shell     []byte // value of a Listener without filter_chains but the constant one
	ShellHash string
	Origin    Origin
	Chains    []*Chain // sorted by name; for outbound listeners none: Shell is everything
}

// A Set is all that one proxy is told, but for endpoints and leaves.
type Set struct {
	Proxy string
	// Schema is the shape of its listeners, as bootstraps note it: an Envoy keeps the shape that it was started with.
	Schema     int
	Listeners  []*Listener // sorted by name
	Clusters   []*Resource // sorted by name
	Secrets    []*Resource // bundles and authz, sorted by name; never a private key
	Extensions []*Resource // ECDS, sorted by name
	// LeafIdentity is the SPIFFE ID of the secret LeafName; empty for a gateway, which holds no key.
	LeafIdentity string
}

// LeafName is the SDS name of a proxy's own certificate.
const LeafName = "leaf"

// Hash returns the version of marshalled bytes.
func Hash(parts ...[]byte) string {
	h := sha256.New()
	for _, part := range parts {
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Shrank tells whether to admits less than a did: a name or a root is gone.
func (a *Authz) Shrank(to *Authz) bool {
	if !subset(a.Roots, to.Roots) {
		return true
	}
	switch {
	case a.AllExcept && to.AllExcept:
		return !subset(to.Names, a.Names)
	case a.AllExcept:
		return true
	case to.AllExcept:
		return intersect(a.Names, to.Names)
	}
	return !subset(a.Names, to.Names)
}

// subset tells whether every one of small is in big.
func subset(small, big []string) bool {
	in := set(big)
	for _, s := range small {
		if !in[s] {
			return false
		}
	}
	return true
}

func intersect(a, b []string) bool {
	in := set(b)
	for _, s := range a {
		if in[s] {
			return true
		}
	}
	return false
}

func set(names []string) map[string]bool {
	in := make(map[string]bool, len(names))
	for _, name := range names {
		in[name] = true
	}
	return in
}
