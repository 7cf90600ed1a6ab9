package snapshot

import (
	"net/netip"
	"sync"
	"time"
)

// A View is what one proxy needs: a *MeshGateway or a *Sidecar. It is a list of parts, sorted by name, each an immutable
// pointer: a part that did not change is the same pointer as in the view before, and in every other proxy's view that
// holds it. Nothing in a view depends on health, on time, or on who is connected.
type View interface{ ProxyID() ProxyID }

// A Memo keeps what a translator made of a part, so that it is made once for all proxies. It is embedded in each part.
type Memo struct {
	once  sync.Once
	value any
}

// Do returns what the first call's make returned. All callers of one part must mean the same thing by make.
func (m *Memo) Do(make func() any) any {
	m.once.Do(func() { m.value = make() })
	return m.value
}

// Origin is the object that made a part: where status shows what Envoy said of it, and what `why` points at.
type Origin struct {
	Kind string // config entry kind, "service", "peering" or "proxy"
	Name string
	Peer string // empty: not of a peer
}

// Skipped is what a view leaves out, and why: what is wrong and what was wanted. Expected: nothing is wrong, it is left out
// because nobody has asked for it.
type Skipped struct {
	Origin
	Reason   string
	Expected bool
}

// Bind is where a listener listens.
type Bind struct {
	Address string // an IP
	Port    uint16
}

// MeshGateway is a gateway's view.
type MeshGateway struct {
	ID      ProxyID
	Ingress Bind // without an Address: nowhere to listen; Skipped says why
	// IngressAlso is where the same listener listens besides, as the registration asks.
	IngressAlso []Bind
	Egress      *Bind            // nil: no local mode; Skipped says so
	Exports     []*GatewayExport // sorted by peer, service
	Imports     []*GatewayImport // sorted by peer
	Skipped     []Skipped
}

func (g *MeshGateway) ProxyID() ProxyID { return g.ID }

// GatewayExport is one service of ours as one peer dials it: one chain and one cluster.
type GatewayExport struct {
	Memo
	Origin
	Peer, Service string
	ServerName    string
	Endpoints     string // name of the endpoint set
}

// GatewayImport is everything that we dial at one peer in mode local: one chain and one cluster.
type GatewayImport struct {
	Memo
	Origin
	Peer        string
	ServerNames string // *.<our name there>.external.<pinned trust domain>
	Endpoints   string
}

// Sidecar is a sidecar's view.
type Sidecar struct {
	ID        ProxyID
	Service   string          // the service that it stands for
	Identity  string          // SPIFFE ID of its leaf
	Inbound   *Inbound        // nil: nowhere to listen, and no chains; Skipped says why
	Chains    []*InboundChain // the local one first, then sorted by peer
	Authz     []*Authz        // one for each chain, in the same order
	Upstreams []*Upstream     // sorted by peer, service, port
	Bundles   []*Bundle       // one for each peer or cluster that Upstreams trust, sorted by peer
	Skipped   []Skipped
}

func (s *Sidecar) ProxyID() ProxyID { return s.ID }

// Inbound is what all inbound chains of a sidecar share.
type Inbound struct {
	Memo
	Bind
	App            Bind          // where the application listens
	ConnectTimeout time.Duration // to the application; 0 is the default
	MaxConnections int           // to the application; 0 is the default
}

// InboundChain lets one peer's services in, or with an empty Peer those of the local cluster. There is none for a scope
// in which nobody may call.
type InboundChain struct {
	Memo
	Origin
	Peer, Service  string
	ServerName     string
	AuthzName      string // of the secret that decides
	TLSMin13       bool
	MaxConnections int // 0 is the default
}

// Authz is who may come in by one chain: these roots vouch, and only for these identities.
type Authz struct {
	Memo
	Origin
	Name                   string // authz~<service>~<namespace>~<peer or local>
	Peer, Service          string
	TrustDomain, Partition string
	Roots                  []string // PEM, sorted
	Allowed                Allowed
}

// Allowed is a compiled set of source names in one scope. The zero value admits nobody.
type Allowed struct {
	// AllExcept turns Names from those who are admitted into those who are not.
	AllExcept bool
	Names     []string // sorted, without duplicates
}

// Empty tells whether nobody is admitted.
func (a Allowed) Empty() bool { return !a.AllExcept && len(a.Names) == 0 }

// Upstream is one service that a sidecar dials, at a peer or in the local cluster: a listener and a cluster.
type Upstream struct {
	Memo
	Origin
	Peer, Service  string
	Bind           Bind
	ServerName     string
	SpiffeIDs      []string // one of these, exactly, must be the server's
	Bundle         string   // name of the Bundle that vouches for it
	Endpoints      string
	Mode           string        // "remote" or "local" for a peer's service; empty for a local one
	ConnectTimeout time.Duration // 0 is the default
	MaxConnections int           // 0 is the default
	TLSMin13       bool
}

// Bundle is a set of roots, our own (Peer is empty) or a peer's.
type Bundle struct {
	Memo
	Raft
	Peer, TrustDomain string
	Roots             []string // PEM, sorted
	ActiveRoot        string   // ID of the root that signs leaves; our own bundle only
}

// EndpointSet is a list of addresses that clusters share by name. It is the only thing that health changes.
type EndpointSet struct {
	Name      string
	Endpoints []Endpoint // sorted by address
	Skipped   []Skipped  // addresses that the policy refused, names that did not resolve
}

// Endpoint is one address.
type Endpoint struct {
	Address netip.AddrPort
	Healthy bool
	Weight  uint32 // 1 to 128
}
