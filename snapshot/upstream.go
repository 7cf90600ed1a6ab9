package snapshot

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/sni"
)

// An upstreamSpec is an upstream with all settings decided. Proxies with equal ones share the part.
type upstreamSpec struct {
	peer, service  string
	bind           Bind
	mode           config.GatewayMode
	connectTimeout time.Duration
	maxConnections int
}

func (s upstreamSpec) compare(other upstreamSpec) int {
	return cmp.Or(cmp.Compare(s.peer, other.peer), cmp.Compare(s.service, other.service),
		cmp.Compare(s.bind.Port, other.bind.Port), cmp.Compare(s.bind.Address, other.bind.Address))
}

// specOf decides the settings of one upstream of a service. What is written nearest to the upstream counts: its
// registration, the override of the caller's service-defaults, the proxy's registration, the caller's service-defaults,
// proxy-defaults.
func specOf(r *reader, caller string, proxy *config.Proxy, upstream *config.Upstream) (upstreamSpec, string) {
	spec := upstreamSpec{peer: upstream.DestinationPeer, service: upstream.DestinationName}
	address, reason := bind(cmp.Or(upstream.LocalBindAddress, "127.0.0.1"), upstream.LocalBindPort)
	if reason != "" {
		return spec, reason
	}
	spec.bind = address
	mode := upstream.MeshGateway.Mode
	timeout := number(upstream.Config["connect_timeout_ms"])
	spec.maxConnections = number(block(upstream.Config["limits"])["max_connections"])
	apply := func(settings *config.UpstreamOverride) {
		mode = cmp.Or(mode, settings.MeshGateway.Mode)
		timeout = cmp.Or(timeout, settings.ConnectTimeoutMs)
		if limits := settings.Limits; limits != nil && limits.MaxConnections != nil {
			spec.maxConnections = cmp.Or(spec.maxConnections, *limits.MaxConnections)
		}
	}
	defaults, ok := entryOf[*config.ServiceDefaults](r, caller)
	own := ok && defaults.UpstreamConfig != nil
	if own {
		for i := range defaults.UpstreamConfig.Overrides {
			if o := &defaults.UpstreamConfig.Overrides[i]; o.Name == spec.service && o.Peer == spec.peer {
				apply(o)
			}
		}
	}
	mode = cmp.Or(mode, proxy.MeshGateway.Mode)
	if own && defaults.UpstreamConfig.Defaults != nil {
		apply(defaults.UpstreamConfig.Defaults)
	}
	if ok {
		mode = cmp.Or(mode, defaults.MeshGateway.Mode)
	}
	if all, ok := entryOf[*config.ProxyDefaults](r, "global"); ok {
		mode = cmp.Or(mode, all.MeshGateway.Mode)
	}
	spec.connectTimeout = time.Duration(timeout) * time.Millisecond
	if spec.peer != "" {
		spec.mode = config.ModeRemote
		if mode == config.ModeLocal {
			spec.mode = config.ModeLocal
		}
	}
	return spec, ""
}

// An upstream is the part of a spec, or why there is none: a listener that could not reach anything is not opened.
type upstream struct {
	Part   *Upstream
	Reason string
}

func (v *Views) upstream(r *reader, spec upstreamSpec) *upstream {
	state := use(r, v.states, spec.peer)
	if state.Bundle == nil {
		return &upstream{Reason: state.Reason}
	}
	cluster := r.cluster()
	part := &Upstream{
		Origin: Origin{"service", spec.service, spec.peer}, Peer: spec.peer, Service: spec.service, Bind: spec.bind,
		Bundle: BundleName(spec.peer), Mode: string(spec.mode), ConnectTimeout: spec.connectTimeout,
		MaxConnections: spec.maxConnections, TLSMin13: cluster.TLSMin13,
	}
	set := setKey{service: spec.service}
	if spec.peer == "" {
		part.ServerName = localName(cluster, spec.service)
		part.SpiffeIDs = []string{localIdentity(cluster, spec.service)}
		if _, err := sni.ParseLocal(part.ServerName); err != nil {
			return &upstream{Reason: err.Error()}
		}
	} else {
		imported, reason := routable(r, spec.service, spec.peer)
		if reason != "" {
			return &upstream{Reason: reason}
		}
		part.ServerName, part.SpiffeIDs = imported.ServerName, imported.SpiffeIDs
		set = setKey{peer: spec.peer}
		if spec.mode == config.ModeLocal {
			set = setKey{}
		}
	}
	keep(r, v.sets, set)
	part.Endpoints = set.name()
	return &upstream{Part: part}
}

// routable returns what a peer exports to us under a name, or why it is not dialled.
func routable(r *reader, service, peer string) (*Import, string) {
	imported := r.imported(peer, service)
	switch {
	case imported == nil:
		return nil, fmt.Sprintf("not imported: want peer %s to export %s to us", peer, service)
	case imported.NotRoutable != "":
		return nil, "not routable: " + imported.NotRoutable
	case imported.ServerName == "" || len(imported.SpiffeIDs) == 0:
		return nil, "not routable: no server name or no identity"
	}
	if policy := policyOf(r, peer); len(policy.Accept) > 0 && !slices.Contains(policy.Accept, service) {
		return nil, fmt.Sprintf("peer-policy %s does not accept it: want %s in Accept", policy.Name, service)
	}
	return imported, ""
}
