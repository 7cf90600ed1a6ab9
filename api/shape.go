package api

import (
	"maps"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// The types here are what Consul's answers look like. Filters select by the names of their fields, so each is flat and
// holds no pointer that may be nil.

type nodeJSON struct {
	ID              string
	Node            string
	Address         string
	Datacenter      string
	TaggedAddresses map[string]string
	Meta            map[string]string
	PeerName        string `json:",omitempty"`
	CreateIndex     uint64 `bexpr:"-"`
	ModifyIndex     uint64 `bexpr:"-"`
}

type serviceJSON struct {
	Kind              config.ServiceKind `json:",omitempty"`
	ID                string
	Service           string
	Tags              []string
	Meta              map[string]string
	Port              int
	Address           string
	TaggedAddresses   map[string]config.Address `json:",omitempty"`
	Weights           config.Weights
	EnableTagOverride bool
	Proxy             proxyJSON
	Connect           connectJSON
	PeerName          string
	CreateIndex       uint64 `bexpr:"-"`
	ModifyIndex       uint64 `bexpr:"-"`
	// Datacenter and ContentHash are in the agent's answers only.
	Datacenter  string `json:",omitempty" bexpr:"-"`
	ContentHash string `json:",omitempty" bexpr:"-"`
}

type proxyJSON struct {
	DestinationServiceName string         `json:",omitempty"`
	DestinationServiceID   string         `json:",omitempty"`
	LocalServiceAddress    string         `json:",omitempty"`
	LocalServicePort       int            `json:",omitempty"`
	Mode                   string         // always empty: there is no transparent mode
	Config                 map[string]any `json:",omitempty" bexpr:"-"`
	Upstreams              []upstreamJSON `json:",omitempty"`
	MeshGateway            config.MeshGateway
	Expose                 struct{} `bexpr:"-"`
}

type upstreamJSON struct {
	DestinationType  string
	DestinationName  string
	DestinationPeer  string `json:",omitempty"`
	Datacenter       string // always empty: there is no federation
	LocalBindAddress string `json:",omitempty"`
	LocalBindPort    int
	Config           map[string]any `json:",omitempty" bexpr:"-"`
	MeshGateway      config.MeshGateway
}

type connectJSON struct {
	Native   bool         `json:",omitempty"`
	PeerMeta peerMetaJSON `json:",omitzero"`
}

// peerMetaJSON is how a peer's service is dialled.
type peerMetaJSON struct {
	SNI, SpiffeID []string `json:",omitempty"`
	Protocol      string   `json:",omitempty"`
}

type checkJSON struct {
	Node        string
	CheckID     string
	Name        string
	Status      string
	Notes       string
	Output      string
	ServiceID   string
	ServiceName string
	ServiceTags []string
	Type        string
	Interval    string
	Timeout     string
	ExposedPort int
	PeerName    string         `json:",omitempty"`
	Definition  definitionJSON `bexpr:"-"`
	CreateIndex uint64         `bexpr:"-"`
	ModifyIndex uint64         `bexpr:"-"`
}

type definitionJSON struct {
	HTTP                           string              `json:",omitempty"`
	Header                         map[string][]string `json:",omitempty"`
	Method                         string              `json:",omitempty"`
	Body                           string              `json:",omitempty"`
	TLSServerName                  string              `json:",omitempty"`
	TLSSkipVerify                  bool                `json:",omitempty"`
	TCP                            string              `json:",omitempty"`
	TTL                            string              `json:",omitempty"`
	AliasService                   string              `json:",omitempty"`
	Interval                       string              `json:",omitempty"`
	Timeout                        string              `json:",omitempty"`
	DeregisterCriticalServiceAfter string              `json:",omitempty"`
}

// instanceJSON is one instance with its node and health.
type instanceJSON struct {
	Node    nodeJSON
	Service serviceJSON
	Checks  []checkJSON
}

// nodeShape returns a node, or for one that is not registered the little that an instance on it knows.
func nodeShape(w *snapshot.World, name, address string) nodeJSON {
	n := w.Node(name)
	if n == nil {
		n = &snapshot.Node{Name: name, Address: address, Datacenter: w.Cluster().Datacenter}
	}
	shape := nodeJSON{
		ID: n.ID, Node: n.Name, Address: n.Address, Datacenter: n.Datacenter, TaggedAddresses: filled(n.TaggedAddresses),
		Meta: filled(n.Meta), CreateIndex: n.CreateIndex, ModifyIndex: n.ModifyIndex,
	}
	if shape.Datacenter == "" {
		shape.Datacenter = w.Cluster().Datacenter
	}
	return shape
}

// serviceShape returns a service as it was registered, with its indexes.
func serviceShape(s *config.Service, raft snapshot.Raft) serviceJSON {
	weights := s.Weights
	if weights == (config.Weights{}) {
		weights = config.Weights{Passing: 1, Warning: 1}
	}
	shape := serviceJSON{
		Kind: s.Kind, ID: s.ID, Service: s.Name, Tags: s.Tags, Meta: filled(s.Meta), Port: s.Port, Address: s.Address,
		TaggedAddresses: s.TaggedAddresses, Weights: weights, EnableTagOverride: s.EnableTagOverride,
		Connect: connectJSON{Native: s.ConnectNative}, CreateIndex: raft.CreateIndex, ModifyIndex: raft.ModifyIndex,
	}
	if shape.Tags == nil {
		shape.Tags = []string{}
	}
	if s.Proxy != nil {
		shape.Proxy = proxyShape(s.Proxy)
	}
	return shape
}

func proxyShape(p *config.Proxy) proxyJSON {
	shape := proxyJSON{
		DestinationServiceName: p.DestinationServiceName, DestinationServiceID: p.DestinationServiceID,
		LocalServiceAddress: p.LocalServiceAddress, LocalServicePort: p.LocalServicePort, Config: p.Config, MeshGateway: p.MeshGateway,
	}
	for _, u := range p.Upstreams {
		shape.Upstreams = append(shape.Upstreams, upstreamJSON{
			DestinationType: "service", DestinationName: u.DestinationName, DestinationPeer: u.DestinationPeer,
			LocalBindAddress: u.LocalBindAddress, LocalBindPort: u.LocalBindPort, Config: u.Config, MeshGateway: u.MeshGateway,
		})
	}
	return shape
}

func checkShape(c *snapshot.Check, tags []string) checkJSON {
	if tags == nil {
		tags = []string{}
	}
	d := c.Definition
	return checkJSON{
		Node: c.Node, CheckID: c.CheckID, Name: c.Name, Status: c.Status, Notes: c.Notes, Output: c.Output,
		ServiceID: c.ServiceID, ServiceName: c.ServiceName, ServiceTags: tags, Type: c.Type,
		Interval: duration(d.Interval), Timeout: duration(d.Timeout),
		Definition: definitionJSON{
			HTTP: d.HTTP, Header: d.Header, Method: d.Method, Body: d.Body, TLSServerName: d.TLSServerName,
			TLSSkipVerify: d.TLSSkipVerify, TCP: d.TCP, TTL: duration(d.TTL), AliasService: d.AliasService,
			Interval: duration(d.Interval), Timeout: duration(d.Timeout),
			DeregisterCriticalServiceAfter: duration(d.DeregisterCriticalServiceAfter),
		},
		CreateIndex: c.CreateIndex, ModifyIndex: c.ModifyIndex,
	}
}

// instanceShape returns an instance with its node's checks and its own.
func instanceShape(w *snapshot.World, i *snapshot.Instance) instanceJSON {
	shape := instanceJSON{
		Node: nodeShape(w, i.Node, i.NodeAddress), Service: serviceShape(i.Service, i.Raft), Checks: []checkJSON{},
	}
	for _, check := range append(w.Checks(i.Node, ""), w.Checks(i.Node, i.Service.ID)...) {
		tags := i.Service.Tags
		if check.ServiceID == "" {
			tags = nil
		}
		shape.Checks = append(shape.Checks, checkShape(check, tags))
	}
	return shape
}

// filled returns a copy that is never nil: Consul writes {} and not null.
func filled(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}

func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}
