package config

import "time"

// ServiceKind is what a registered service is. The zero value is an ordinary service.
type ServiceKind string

// The kinds that can be registered.
const (
	KindTypical     ServiceKind = ""
	KindSidecar     ServiceKind = "connect-proxy"
	KindMeshGateway ServiceKind = "mesh-gateway"
)

// Service is one registered instance: what `services register` and PUT /v1/agent/service/register take. It is never
// written after it was parsed.
type Service struct {
	Kind              ServiceKind `json:",omitempty"`
	ID                string      // default: Name
	Name              string
	Tags              []string           `json:",omitempty"`
	Meta              map[string]string  `json:",omitempty"`
	Address           string             `json:",omitempty"` // IP or hostname; default: the node's
	Port              int                `json:",omitempty"`
	TaggedAddresses   map[string]Address `json:",omitempty"` // lan, wan, and for gateways egress
	Weights           Weights            `json:",omitzero"`
	EnableTagOverride bool               `json:",omitempty"`
	Proxy             *Proxy             `json:",omitempty"` // for KindSidecar and KindMeshGateway
	ConnectNative     bool               `json:",omitempty"`
	Checks            []CheckDefinition  `json:",omitempty"`
	// Sidecar is the proxy that a sidecar_service block asks for, with its defaults filled in but two that whoever
	// registers it beside the service knows: the port, which is 0 when none is given, and the checks.
	Sidecar *Service `json:"-"`
	// Kept holds the fields that were accepted for Consul's tools and have no effect, by the name written.
	Kept map[string]any `json:"-"`
}

// Address is one address of an instance.
type Address struct {
	Address string
	Port    int
}

// Weights is the share of traffic of an instance by its health. The zero value means 1 and 1.
type Weights struct {
	Passing, Warning int
}

// Proxy is the proxy block of a sidecar or gateway.
type Proxy struct {
	DestinationServiceName string         `json:",omitempty"`
	DestinationServiceID   string         `json:",omitempty"`
	LocalServiceAddress    string         `json:",omitempty"` // default 127.0.0.1
	LocalServicePort       int            `json:",omitempty"`
	Config                 map[string]any `json:",omitempty"` // bind_address, bind_port, local_connect_timeout_ms, …
	Upstreams              []Upstream     `json:",omitempty"`
	MeshGateway            MeshGateway    `json:",omitzero"`
}

// Upstream is one service that a sidecar dials for its application.
type Upstream struct {
	DestinationName  string
	DestinationPeer  string `json:",omitempty"` // empty: the local cluster
	LocalBindAddress string `json:",omitempty"` // default 127.0.0.1
	LocalBindPort    int
	Config           map[string]any `json:",omitempty"`
	MeshGateway      MeshGateway    `json:",omitzero"`
}

// CheckDefinition is a health check as registered. Exactly one of TTL, TCP, HTTP and AliasService is set; checks that run
// commands are refused.
type CheckDefinition struct {
	CheckID, Name, Notes           string              `json:",omitempty"`
	Status                         string              `json:",omitempty"` // initial; default critical
	TTL                            time.Duration       `json:",omitempty"`
	TCP                            string              `json:",omitempty"`
	HTTP                           string              `json:",omitempty"`
	Method                         string              `json:",omitempty"`
	Header                         map[string][]string `json:",omitempty"`
	Body                           string              `json:",omitempty"`
	TLSSkipVerify                  bool                `json:",omitempty"`
	TLSServerName                  string              `json:",omitempty"`
	DisableRedirects               bool                `json:",omitempty"` // a redirect is the result of HTTP
	AliasService                   string              `json:",omitempty"`
	Interval, Timeout              time.Duration       `json:",omitempty"`
	SuccessBeforePassing           int                 `json:",omitempty"`
	FailuresBeforeCritical         int                 `json:",omitempty"`
	DeregisterCriticalServiceAfter time.Duration       `json:",omitempty"`
}

// The states of a check, from best to worst. Maintenance is worse than critical and comes from peers and operators.
const (
	HealthPassing     = "passing"
	HealthWarning     = "warning"
	HealthCritical    = "critical"
	HealthMaintenance = "maintenance"
)
