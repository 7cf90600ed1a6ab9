package snapshot

import (
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
)

// Raft is what Consul's answers call it: when an object was made and last changed, in World indexes. A writer leaves it
// zero; the source fills it in.
type Raft struct {
	CreateIndex, ModifyIndex uint64
}

// Cluster is who we are.
type Cluster struct {
	Raft
	ID          string // UUID, made once
	TrustDomain string // <ID>.consul
	Datacenter  string
	NodeName    string
	// DefaultAllow is the answer where no intention matches.
	DefaultAllow bool
	// Addresses holds what --allow-peer-addresses and our own listeners add to every peer's policy.
	Addresses config.AddressPolicy
	// TLSMin13 is --mesh-tls-min 1.3.
	TLSMin13 bool
}

// Node is one machine of the catalog.
type Node struct {
	Raft
	ID, Name, Address, Datacenter string
	TaggedAddresses, Meta         map[string]string
}

// Instance is one registered service instance, proxies and gateways included. Its health is apart, in Checks: an
// instance that passes or fails is not a changed Instance.
type Instance struct {
	Raft
	Node        string
	NodeAddress string // at the time of registration; used where the service has no address of its own
	Service     *config.Service
}

// Address returns where the instance listens: an IP or a host name, and a port.
func (i *Instance) Address() (string, int) {
	if i.Service.Address != "" {
		return i.Service.Address, i.Service.Port
	}
	return i.NodeAddress, i.Service.Port
}

// A ProxyID names a sidecar or gateway as xDS does: its service ID, or <node>/<service ID> on a node that is not our own.
type ProxyID string

// ProxyID returns the ID under which the instance asks for its configuration.
func (i *Instance) ProxyID(ownNode string) ProxyID {
	if i.Node == ownNode {
		return ProxyID(i.Service.ID)
	}
	return ProxyID(i.Node + "/" + i.Service.ID)
}

// Check is the state of one health check.
type Check struct {
	Raft
	Node, ServiceID, ServiceName string
	CheckID, Name, Notes, Type   string
	Status                       string // a config.Health constant
	Output                       string
	Definition                   config.CheckDefinition
}

// Entry is a config entry with its indexes.
type Entry struct {
	Raft
	Value config.Entry
}

// ResolvedName is what a host name resolved to when it last did.
type ResolvedName struct {
	Addresses []netip.Addr // sorted
}

// Import is one service that a peer exports to us, as far as we take it from a peer (see docs/security.md).
type Import struct {
	Raft
	Peer, Service string
	// NotRoutable says why the mesh does not route the service, and what was wanted. Empty: it is routable, and
	// ServerName, SpiffeIDs and Gateways are set.
	NotRoutable string
	ServerName  string   // as the exporter sent it, in lower case, checked against the pin
	SpiffeIDs   []string // service identities in the pinned trust domain, sorted, at most 16
	Protocol    string
	Gateways    []ImportedInstance // the mesh form: one for each gateway of the exporter
	Instances   []ImportedInstance // the normal form: for discovery by people and machines
}

// ImportedInstance is one instance as the peer described it, in either form. It is shown, and of a gateway Address is
// dialled once the address policy agrees.
type ImportedInstance struct {
	Node, NodeID, NodeAddress, Datacenter string
	NodeMeta, NodeTagged                  map[string]string
	Service                               *config.Service
	Health                                string // a config.Health constant
	CheckOutput                           string
	HasCheck                              bool
	SNI, SpiffeIDs                        []string // mesh form only, verbatim
	Protocol                              string   // mesh form only
}

// PeerRole is which end of the peering we are. A peering keeps its role for life.
type PeerRole string

// The two ends of a peering.
const (
	Dialer   PeerRole = "dialer"
	Acceptor PeerRole = "acceptor"
)

// PeerState is a peering's state in Consul's words.
type PeerState string

// The states of a peering. ACTIVE and FAILING are never stored: they are the age of the last round trip, see PeerStatus.
const (
	Pending      PeerState = "PENDING"
	Establishing PeerState = "ESTABLISHING"
	Active       PeerState = "ACTIVE"
	Failing      PeerState = "FAILING"
	Deleting     PeerState = "DELETING"
	Terminated   PeerState = "TERMINATED"
)

// Peer is one peering as stored. It holds no secret.
type Peer struct {
	Raft
	Name, ID  string // ID: our UUID for the peering
	Role      PeerRole
	State     PeerState // PENDING, ESTABLISHING, DELETING or TERMINATED
	Meta      map[string]string
	DeletedAt time.Time
	// From the token, dialer only. ServerAddresses follows what the acceptor announces; ManualAddresses wins over it.
	RemoteID                         string
	ServerName                       string
	ServerAddresses, ManualAddresses []string
	CAPEMs                           []string // roots that the acceptor's certificate must chain to
	// TrustDomain is the pin: empty until the peer is known, and then the same until the peering is deleted.
	TrustDomain string
	Roots       []string // PEM; the peer's newest trust bundle
	// OurName is what the peer calls us: the one <name> in all its server names. Empty until it exported something.
	OurName          string
	RemoteDatacenter string
	Dialect          string // "1.14" or "1.13"; empty until known
	// Problem says why the peering is refused or frozen: another peer's trust domain, a changed one. Empty: none.
	Problem string
}

// Usable tells whether anything of the peer may enter a view: it is pinned, has roots, and was not ended.
func (p *Peer) Usable() bool {
	return p != nil && p.TrustDomain != "" && len(p.Roots) > 0 && p.State != Deleting && p.State != Terminated
}

// PeerStatus is what is known of a peering right now and stored nowhere.
type PeerStatus struct {
	State                                PeerState // computed: ACTIVE only while the last round trip is young
	Reason                               string    // of FAILING, or why it is not yet ACTIVE
	LastHeartbeat, LastReceive, LastSend time.Time
	LastRoundTrip                        time.Time // when the peer last proved that it reads what we send; State follows it
	RoundTrip                            time.Duration
	Imported, Exported                   []string          // names; Exported: those that the peer is told of, as Consul counts them
	NotExported                          map[string]string // name to reason
	Stale                                bool              // imports are kept from an earlier session
}

// TokenInfo describes a peering token without its secret.
type TokenInfo struct {
	ID, Peer                string
	Created, Expires        time.Time
	Used, Revoked, Replaced time.Time // zero: not
	UsedBy                  string    // remote address
}

// Credential is who sent a request, as its token proved.
type Credential struct {
	Accessor    string
	Role        Role
	Proxy       ProxyID // RoleProxy only
	Created     time.Time
	Description string
	Bootstrap   bool      `json:",omitempty"` // made for one bootstrap: it goes when there are too many newer ones
	LastUsed    time.Time `json:",omitzero"`  // zero: never, as far as is known
	Connected   bool      `json:"-"`          // a proxy's stream lives by it
}

// Role is what a credential is good for.
type Role string

// The roles, from most to least.
const (
	RoleOperator Role = "operator"
	RoleRead     Role = "read"
	RoleProxy    Role = "proxy"
	RoleMetrics  Role = "metrics"
	RoleNone     Role = "" // no token
)
