// Package bootstrap turns what is known of one Envoy — its proxy ID, its token, where the control plane listens — into
// the complete static configuration that this Envoy starts with, and starts it: find the binary, check its version, run
// it with the flags that the control plane relies on. It never talks to the control plane.
package bootstrap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/internal/redact"
)

// ConfigSchema is the shape of listeners that an Envoy with this bootstrap is served for its whole life: listener fields
// are frozen once Envoy has created a listener, so a newer control plane keeps serving the shape that is asked for here.
const ConfigSchema = 1

// Config is all that the bootstrap of one Envoy depends on.
type Config struct {
	Node  Node
	XDS   XDS
	Admin Endpoint // of Envoy's admin interface: wanted
	// Metrics is where /metrics and /ready are answered, and nothing else. The zero value is nowhere.
	Metrics Endpoint
	Limits  Limits
}

// Node is what Envoy says of itself. The control plane takes the identity from the token and only compares ID.
type Node struct {
	ID      string // the proxy ID; wanted
	Cluster string // the service's name; default: ID
	Zone    string // of its locality; empty: none
	// DrainSeconds notes that Envoy is started with the drain strategy immediate and this --drain-time-s, which it does not
	// report itself. 0: nobody knows what it is started with, and nothing is noted.
	DrainSeconds int
	Families     []string // address families that this machine can dial: "ipv4", "ipv6"
}

// XDS is where the control plane listens and how it proves itself.
type XDS struct {
	Addresses []string // host:port, tried as equals; at least one
	CAPEM     string   // the roots that the server's certificate must chain to; wanted
	// SAN is the one name that the server's certificate must carry: a SPIFFE ID or a DNS name; wanted.
	SAN string
	// ServerName is the SNI. Default: SAN, when that is a DNS name.
	ServerName string
	Token      redact.String // good for this proxy only; wanted
}

// Limits protect the machine from the traffic. They are Envoy's own, beside those of the listeners.
type Limits struct {
	Connections int64 // downstream, over all listeners; default 50,000
	HeapBytes   int64 // at 95 % of it Envoy stops accepting; 0: no limit
}

// Bootstrap returns the configuration in JSON, indented, always the same bytes for the same cfg. It holds the token in
// clear: write it with WriteFile.
func Bootstrap(cfg Config) ([]byte, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	node, err := cfg.Node.proto()
	if err != nil {
		return nil, err
	}
	b := &bootstrapv3.Bootstrap{
		Node:             node,
		Admin:            &bootstrapv3.Admin{Address: cfg.Admin.address(), IgnoreGlobalConnLimit: true},
		DynamicResources: dynamicResources(cfg.XDS.Token),
		StaticResources:  &bootstrapv3.Bootstrap_StaticResources{},
		StatsConfig:      statsConfig(),
		LayeredRuntime:   layeredRuntime(),
		OverloadManager:  overloadManager(cfg.Limits),
	}
	ads, err := adsCluster(cfg.XDS)
	if err != nil {
		return nil, err
	}
	b.StaticResources.Clusters = append(b.StaticResources.Clusters, ads)
	if cfg.Metrics != (Endpoint{}) {
		b.StaticResources.Clusters = append(b.StaticResources.Clusters, adminCluster(cfg.Admin))
		b.StaticResources.Listeners = append(b.StaticResources.Listeners, metricsListener(cfg.Metrics))
	}
	if err := b.ValidateAll(); err != nil {
		return nil, fmt.Errorf("bootstrap of %s: %w", cfg.Node.ID, err)
	}
	return marshal(b)
}

func (cfg Config) check() error {
	switch {
	case cfg.Node.ID == "":
		return errors.New("bootstrap: no proxy ID: want the ID of a registered sidecar or gateway")
	case cfg.XDS.CAPEM == "":
		return fmt.Errorf("bootstrap of %s: no roots for the xDS server: want PEM", cfg.Node.ID)
	case cfg.XDS.SAN == "":
		return fmt.Errorf("bootstrap of %s: no name for the xDS server: want the SPIFFE ID or DNS name in its certificate", cfg.Node.ID)
	case cfg.XDS.Token.Empty():
		return fmt.Errorf("bootstrap of %s: no token: the xDS server answers nobody without one", cfg.Node.ID)
	case cfg.Admin == (Endpoint{}):
		return fmt.Errorf("bootstrap of %s: no admin address: want a unix socket or host:port", cfg.Node.ID)
	}
	return nil
}

func (n Node) proto() (*corev3.Node, error) {
	families := make([]any, 0, len(n.Families))
	for _, family := range n.Families {
		families = append(families, family)
	}
	if n.Cluster == "" {
		n.Cluster = n.ID
	}
	notes := map[string]any{"config_schema": ConfigSchema, "families": families}
	if n.DrainSeconds > 0 {
		notes["drain_s"] = n.DrainSeconds
	}
	metadata, err := structpb.NewStruct(map[string]any{"namespace": "default", "partition": "default", "isthmus": notes})
	if err != nil {
		return nil, fmt.Errorf("bootstrap of %s: %w", n.ID, err)
	}
	node := &corev3.Node{Id: n.ID, Cluster: n.Cluster, Metadata: metadata}
	if n.Zone != "" {
		node.Locality = &corev3.Locality{Zone: n.Zone}
	}
	return node, nil
}

// dynamicResources asks for everything over one delta stream. The fetch timeouts of 0 make Envoy wait for the control
// plane, instead of starting empty after 15 s and looking healthy.
func dynamicResources(token redact.String) *bootstrapv3.Bootstrap_DynamicResources {
	overADS := func() *corev3.ConfigSource {
		return &corev3.ConfigSource{
			ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
			ResourceApiVersion:    corev3.ApiVersion_V3,
			InitialFetchTimeout:   durationpb.New(0),
		}
	}
	return &bootstrapv3.Bootstrap_DynamicResources{
		LdsConfig: overADS(),
		CdsConfig: overADS(),
		AdsConfig: &corev3.ApiConfigSource{
			ApiType:                   corev3.ApiConfigSource_DELTA_GRPC,
			TransportApiVersion:       corev3.ApiVersion_V3,
			SetNodeOnFirstMessageOnly: true,
			RateLimitSettings:         &corev3.RateLimitSettings{}, // Envoy's own: 100 requests at once, then 10 a second
			GrpcServices: []*corev3.GrpcService{{
				TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: adsClusterName}},
				InitialMetadata: []*corev3.HeaderValue{{Key: "x-consul-token", Value: token.Reveal()}},
			}},
		},
	}
}

// layeredRuntime lifts Envoy's limit on the size of regular expressions: the list of who may come in can be one, and the default
// of 100 would reject it.
func layeredRuntime() *bootstrapv3.LayeredRuntime {
	sizes := &structpb.Struct{Fields: map[string]*structpb.Value{
		"re2.max_program_size.error_level": structpb.NewNumberValue(1 << 20),
		"re2.max_program_size.warn_level":  structpb.NewNumberValue(1 << 20),
	}}
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{
		{Name: "static", LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: sizes}},
		{Name: "admin", LayerSpecifier: &bootstrapv3.RuntimeLayer_AdminLayer_{AdminLayer: &bootstrapv3.RuntimeLayer_AdminLayer{}}},
	}}
}

// marshal encodes through encoding/json as well, because protojson varies its spacing on purpose.
func marshal(b *bootstrapv3.Bootstrap) ([]byte, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("bootstrap of %s: %w", b.GetNode().GetId(), err)
	}
	var compact, indented bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return nil, fmt.Errorf("bootstrap of %s: %w", b.GetNode().GetId(), err)
	}
	if err := json.Indent(&indented, compact.Bytes(), "", "  "); err != nil {
		return nil, fmt.Errorf("bootstrap of %s: %w", b.GetNode().GetId(), err)
	}
	indented.WriteByte('\n')
	return indented.Bytes(), nil
}

// mustAny packs a message that this package built. It fails on invalid UTF-8 only, which Config's fields cannot bring
// in: they came through JSON or the command line's own checks.
func mustAny(message proto.Message) *anypb.Any {
	packed, err := anypb.New(message)
	if err != nil {
		panic(err)
	}
	return packed
}

func seconds(n int) *durationpb.Duration { return durationpb.New(time.Duration(n) * time.Second) }
