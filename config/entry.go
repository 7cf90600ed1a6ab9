package config

// The kinds of config entries that are accepted. All others that Consul knows are refused by name.
const (
	KindExportedServices  = "exported-services"
	KindServiceIntentions = "service-intentions"
	KindServiceDefaults   = "service-defaults"
	KindProxyDefaults     = "proxy-defaults"
	KindMesh              = "mesh"
	KindPeerPolicy        = "peer-policy"
)

// Wildcard stands for every service of one scope in exports and intentions, and for every peer in a peer policy.
const Wildcard = "*"

// DefaultNamespace is the only namespace, and the only partition, that is accepted.
const DefaultNamespace = "default"

// An Entry is a validated config entry. Entries are never written after they were parsed. Marshalled to JSON it has the
// shape that Consul answers, without Kind, CreateIndex and ModifyIndex, which whoever stores it adds.
type Entry interface {
	// EntryKind returns one of the Kind constants.
	EntryKind() string
	// EntryName returns the name under which the entry is stored: a service, "default", "global", "mesh", a peer.
	EntryName() string
}

// ExportedServices names the services that peers may import. Its name is always "default".
type ExportedServices struct {
	Name     string
	Services []ExportedService
	Meta     map[string]string `json:",omitempty"`
}

// ExportedService is one service, or Wildcard for all of them, and who may import it.
type ExportedService struct {
	Name      string
	Namespace string `json:",omitempty"`
	Consumers []Consumer
}

// Consumer names one peer. It need not exist yet.
type Consumer struct {
	Peer string
}

// ServiceIntentions says who may call Name, which may be Wildcard.
type ServiceIntentions struct {
	Name    string
	Sources []SourceIntention
	Meta    map[string]string `json:",omitempty"`
}

// SourceIntention allows or denies one source. An empty Peer is the local cluster; Name may be Wildcard, which covers
// the services of that peer only.
type SourceIntention struct {
	Name        string
	Peer        string `json:",omitempty"`
	Action      Action
	Precedence  int // 9, 8, 6 or 5 as Consul computes it; set by the parser, never read from input
	Type        string
	Description string `json:",omitempty"`
}

// Action is what an intention does to a source.
type Action string

// The two actions of an intention.
const (
	Allow Action = "allow"
	Deny  Action = "deny"
)

// GatewayMode is how a proxy reaches a peer's services. The zero value means not set here.
type GatewayMode string

// ModeRemote dials the peer's gateways, ModeLocal the own ones. An unset mode is ModeRemote in the end.
const (
	ModeRemote GatewayMode = "remote"
	ModeLocal  GatewayMode = "local"
)

// MeshGateway is the block of that name in entries and registrations.
type MeshGateway struct {
	Mode GatewayMode `json:",omitempty"`
}

// ServiceDefaults holds what is true for all instances of a service.
type ServiceDefaults struct {
	Name                  string
	Protocol              string            `json:",omitempty"` // lower case; "" is tcp. Anything else is kept, and not exported
	MeshGateway           MeshGateway       `json:",omitzero"`
	UpstreamConfig        *UpstreamConfig   `json:",omitempty"`
	MaxInboundConnections int               `json:",omitempty"`
	LocalConnectTimeoutMs int               `json:",omitempty"`
	Meta                  map[string]string `json:",omitempty"`
	// Kept holds the fields that were accepted for Consul's tools and have no effect, by the name written.
	Kept map[string]any `json:"-"`
}

// UpstreamConfig holds what is true for this service as a caller.
type UpstreamConfig struct {
	Defaults  *UpstreamOverride  `json:",omitempty"`
	Overrides []UpstreamOverride `json:",omitempty"`
}

// UpstreamOverride is one upstream's settings. Name and Peer are empty in Defaults.
type UpstreamOverride struct {
	Name             string          `json:",omitempty"`
	Peer             string          `json:",omitempty"`
	Protocol         string          `json:",omitempty"`
	ConnectTimeoutMs int             `json:",omitempty"`
	MeshGateway      MeshGateway     `json:",omitzero"`
	Limits           *UpstreamLimits `json:",omitempty"`
}

// UpstreamLimits bounds one upstream. Nil is no bound of ours.
type UpstreamLimits struct {
	MaxConnections *int `json:",omitempty"`
}

// ProxyDefaults holds what is true for all proxies. Its name is always "global".
type ProxyDefaults struct {
	Name        string
	Config      map[string]any    `json:",omitempty"` // protocol, and keys that are kept without effect
	MeshGateway MeshGateway       `json:",omitzero"`
	Meta        map[string]string `json:",omitempty"`
	Kept        map[string]any    `json:"-"`
}

// Protocol returns the protocol of services without one of their own, "" when not set.
func (p *ProxyDefaults) Protocol() string {
	protocol, _ := p.Config["protocol"].(string)
	return protocol
}

// Mesh is the entry of that kind. Its name is always "mesh". Nothing in it has an effect: what would weaken security is
// refused, the rest is kept.
type Mesh struct {
	Meta map[string]string `json:",omitempty"`
	Kept map[string]any    `json:"-"`
}

func (e *ExportedServices) EntryKind() string  { return KindExportedServices }
func (e *ExportedServices) EntryName() string  { return e.Name }
func (e *ServiceIntentions) EntryKind() string { return KindServiceIntentions }
func (e *ServiceIntentions) EntryName() string { return e.Name }
func (e *ServiceDefaults) EntryKind() string   { return KindServiceDefaults }
func (e *ServiceDefaults) EntryName() string   { return e.Name }
func (e *ProxyDefaults) EntryKind() string     { return KindProxyDefaults }
func (e *ProxyDefaults) EntryName() string     { return e.Name }
func (e *Mesh) EntryKind() string              { return KindMesh }
func (e *Mesh) EntryName() string              { return "mesh" }
func (e *PeerPolicy) EntryKind() string        { return KindPeerPolicy }
func (e *PeerPolicy) EntryName() string        { return e.Name }
