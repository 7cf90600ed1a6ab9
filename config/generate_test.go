package config

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// The generators below make entries as the parser returns them: computed fields are computed, sorted ones sorted.

var (
	aName   = rapid.StringMatching(`[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?`)
	aPeer   = aName.Filter(func(name string) bool { return name != reservedPeer })
	anyName = rapid.StringMatching(`[A-Za-z0-9_]([-A-Za-z0-9_]{0,8}[A-Za-z0-9_])?`)
	// The YAML library writes texts that start with a newline wrongly, so none does.
	aText     = rapid.StringMatching(`([!#%-~äß"\\][ -#%-~äß"\\\n]{0,20})?`)
	aNumber   = rapid.IntRange(0, 1<<31-1)
	aProtocol = rapid.SampledFrom([]string{"", "tcp", "http", "grpc"})
	aMode     = rapid.SampledFrom([]GatewayMode{"", ModeLocal, ModeRemote})
	someMeta  = rapid.Custom(func(t *rapid.T) map[string]string {
		meta := rapid.MapOfN(rapid.StringMatching(`[a-zA-Z0-9_./-]{1,9}`), aText, 0, 3).Draw(t, "meta")
		if len(meta) == 0 {
			return nil
		}
		return meta
	})
	anEntry = rapid.Custom(func(t *rapid.T) Entry {
		return rapid.OneOf(
			rapid.Map(rapid.Custom(someExports), func(e *ExportedServices) Entry { return e }),
			rapid.Map(rapid.Custom(someIntentions), func(e *ServiceIntentions) Entry { return e }),
			rapid.Map(rapid.Custom(someServiceDefaults), func(e *ServiceDefaults) Entry { return e }),
			rapid.Map(rapid.Custom(someProxyDefaults), func(e *ProxyDefaults) Entry { return e }),
			rapid.Map(rapid.Custom(someMesh), func(e *Mesh) Entry { return e }),
			rapid.Map(rapid.Custom(somePolicy), func(e *PeerPolicy) Entry { return e }),
		).Draw(t, "entry")
	})
)

// orWildcard draws a name, or the wildcard.
func orWildcard(t *rapid.T, name *rapid.Generator[string]) string {
	return rapid.OneOf(name, rapid.Just(Wildcard)).Draw(t, "name")
}

func someExports(t *rapid.T) *ExportedServices {
	consumer := rapid.Custom(func(t *rapid.T) Consumer { return Consumer{aPeer.Draw(t, "peer")} })
	service := rapid.Custom(func(t *rapid.T) ExportedService {
		return ExportedService{Name: orWildcard(t, aName), Consumers: rapid.SliceOfN(consumer, 1, 3).Draw(t, "consumers")}
	})
	e := &ExportedServices{Name: "default", Meta: someMeta.Draw(t, "meta")}
	if services := rapid.SliceOfN(service, 0, 4).Draw(t, "services"); len(services) > 0 {
		e.Services = services
	}
	return e
}

func someIntentions(t *rapid.T) *ServiceIntentions {
	e := &ServiceIntentions{Name: orWildcard(t, aName), Meta: someMeta.Draw(t, "meta")}
	source := rapid.Custom(func(t *rapid.T) SourceIntention {
		s := SourceIntention{Type: "consul", Action: rapid.SampledFrom([]Action{Allow, Deny}).Draw(t, "action"), Description: aText.Draw(t, "description")}
		if rapid.Bool().Draw(t, "remote") {
			s.Peer, s.Name = aPeer.Draw(t, "peer"), orWildcard(t, anyName)
		} else {
			s.Name = orWildcard(t, aName)
		}
		s.Precedence = precedence(e.Name, s.Name)
		return s
	})
	e.Sources = rapid.SliceOfNDistinct(source, 1, 5, func(s SourceIntention) [2]string { return [2]string{s.Peer, s.Name} }).Draw(t, "sources")
	slices.SortStableFunc(e.Sources, func(a, b SourceIntention) int { return cmp.Compare(b.Precedence, a.Precedence) })
	return e
}

func someServiceDefaults(t *rapid.T) *ServiceDefaults {
	e := &ServiceDefaults{
		Name: aName.Draw(t, "name"), Protocol: aProtocol.Draw(t, "protocol"), MeshGateway: MeshGateway{aMode.Draw(t, "mode")},
		MaxInboundConnections: aNumber.Draw(t, "max"), LocalConnectTimeoutMs: aNumber.Draw(t, "timeout"), Meta: someMeta.Draw(t, "meta"),
	}
	e.Kept = someKept(t, map[string]any{"ExternalSNI": "x.example.com", "LocalRequestTimeoutMs": int64(7), "Expose": map[string]any{"Checks": true}})
	if !rapid.Bool().Draw(t, "upstreams") {
		return e
	}
	override := rapid.Custom(func(t *rapid.T) UpstreamOverride {
		o := someOverride(t)
		if rapid.Bool().Draw(t, "remote") {
			o.Peer, o.Name = aPeer.Draw(t, "peer"), anyName.Draw(t, "name")
		} else {
			o.Name = aName.Draw(t, "name")
		}
		return o
	})
	overrides := rapid.SliceOfNDistinct(override, 1, 3, func(o UpstreamOverride) [2]string { return [2]string{o.Peer, o.Name} }).Draw(t, "overrides")
	e.UpstreamConfig = &UpstreamConfig{Overrides: overrides}
	if defaults := someOverride(t); defaults != (UpstreamOverride{}) {
		e.UpstreamConfig.Defaults = &defaults
	}
	if rapid.Bool().Draw(t, "kept below") {
		if e.Kept == nil {
			e.Kept = map[string]any{}
		}
		e.Kept["UpstreamConfig.Overrides[0].PassiveHealthCheck"] = map[string]any{"Interval": "10s", "MaxFailures": int64(3)}
	}
	return e
}

func someOverride(t *rapid.T) UpstreamOverride {
	o := UpstreamOverride{
		Protocol: aProtocol.Draw(t, "protocol"), ConnectTimeoutMs: aNumber.Draw(t, "timeout"), MeshGateway: MeshGateway{aMode.Draw(t, "mode")},
	}
	if rapid.Bool().Draw(t, "limits") {
		most := aNumber.Draw(t, "most")
		o.Limits = &UpstreamLimits{MaxConnections: &most}
	}
	return o
}

func someProxyDefaults(t *rapid.T) *ProxyDefaults {
	e := &ProxyDefaults{Name: "global", MeshGateway: MeshGateway{aMode.Draw(t, "mode")}, Meta: someMeta.Draw(t, "meta")}
	e.Kept = someKept(t, map[string]any{"AccessLogs": map[string]any{"Enabled": true, "Path": "/x"}})
	config := map[string]any{}
	if protocol := aProtocol.Draw(t, "protocol"); protocol != "" {
		config["protocol"] = protocol
	}
	if rapid.Bool().Draw(t, "kept in config") {
		config["envoy_prometheus_bind_addr"], config["local_connect_timeout_ms"] = "0.0.0.0:20200", float64(aNumber.Draw(t, "timeout"))
		config["envoy_stats_tags"] = []any{"a=b", "c=d"}
	}
	if len(config) > 0 {
		e.Config = config
	}
	return e
}

func someMesh(t *rapid.T) *Mesh {
	return &Mesh{Meta: someMeta.Draw(t, "meta"), Kept: someKept(t, map[string]any{
		"TLS.Incoming.TLSMinVersion": "TLSv1_2", "ValidateClusters": true, "TransparentProxy": map[string]any{"MeshDestinationsOnly": true},
	})}
}

func somePolicy(t *rapid.T) *PeerPolicy {
	rule := rapid.Custom(func(t *rapid.T) AddressRule {
		bits := rapid.IntRange(0, 32).Draw(t, "bits")
		address := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address")))
		r := AddressRule{Prefix: netip.PrefixFrom(address, bits).Masked()}
		if ports := rapid.SliceOfN(rapid.Uint16Range(1, 65535), 0, 3).Draw(t, "ports"); len(ports) > 0 {
			r.Ports = ports
		}
		return r
	})
	e := &PeerPolicy{Name: orWildcard(t, aPeer), Meta: someMeta.Draw(t, "meta")}
	if rules := rapid.SliceOfN(rule, 0, 3).Draw(t, "rules"); len(rules) > 0 {
		e.AllowAddresses = rules
	}
	if accept := rapid.SliceOfN(anyName, 0, 3).Draw(t, "accept"); len(accept) > 0 {
		e.Accept = accept
	}
	e.Quotas = Quotas{aNumber.Draw(t, "services"), aNumber.Draw(t, "instances"), aNumber.Draw(t, "updates")}
	e.MaxStale = time.Duration(rapid.IntRange(0, 1e6).Draw(t, "stale")) * time.Second
	return e
}

// someKept draws some of what may be kept.
func someKept(t *rapid.T, all map[string]any) map[string]any {
	var kept map[string]any
	for _, path := range sorted(all) {
		if rapid.Bool().Draw(t, "keep "+path) {
			if kept == nil {
				kept = map[string]any{}
			}
			kept[path] = all[path]
		}
	}
	return kept
}

// someService draws a registration with a sidecar, as the parser returns it.
func someService(t *rapid.T) *Service {
	name := aName.Draw(t, "name")
	s := &Service{
		Name: name, ID: name, Port: rapid.IntRange(1, 65535).Draw(t, "port"), Meta: someMeta.Draw(t, "meta"),
		EnableTagOverride: rapid.Bool().Draw(t, "override"), Kept: someKept(t, map[string]any{"Locality": map[string]any{"Region": "eu"}}),
	}
	if rapid.Bool().Draw(t, "check") {
		s.Checks = []CheckDefinition{{TTL: 3 * time.Second, Notes: aText.Draw(t, "notes")}, {TCP: "10.0.0.1:80", Interval: time.Minute}}
	}
	if !rapid.Bool().Draw(t, "sidecar") {
		return s
	}
	s.Sidecar = &Service{
		Kind: KindSidecar, Name: name + sidecarSuffix, ID: name + sidecarSuffix, Meta: s.Meta, Tags: s.Tags, Port: rapid.IntRange(0, 65535).Draw(t, "sidecar port"),
		Proxy: &Proxy{DestinationServiceName: name, DestinationServiceID: name, LocalServiceAddress: "127.0.0.1", LocalServicePort: s.Port},
	}
	port := 0
	upstream := rapid.Custom(func(t *rapid.T) Upstream {
		port++
		u := Upstream{DestinationName: anyName.Draw(t, "to"), DestinationPeer: aPeer.Draw(t, "peer"), LocalBindAddress: "127.0.0.1", LocalBindPort: port}
		u.MeshGateway.Mode = aMode.Draw(t, "mode")
		if rapid.Bool().Draw(t, "config") {
			u.Config = map[string]any{"connect_timeout_ms": float64(5), "limits": map[string]any{"max_connections": float64(3)}}
		}
		return u
	})
	if upstreams := rapid.SliceOfN(upstream, 0, 3).Draw(t, "upstreams"); len(upstreams) > 0 {
		s.Sidecar.Proxy.Upstreams = upstreams
	}
	return s
}

// upper is a spelling that only the case of letters makes.
func upper(name string) string { return strings.ToUpper(name) }
