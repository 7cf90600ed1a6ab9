package snapshot

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
)

// sidecar returns the view of one sidecar, or nil when the instance of key is none.
func (v *Views) sidecar(r *reader, key Key) *Sidecar {
	instance, cluster := r.instance(key), r.cluster()
	if instance == nil || cluster == nil || instance.Service.Kind != config.KindSidecar || instance.Service.Proxy == nil {
		return nil
	}
	service := instance.Service.Proxy.DestinationServiceName
	view := &Sidecar{ID: instance.ProxyID(cluster.NodeName), Service: service, Identity: localIdentity(cluster, service)}
	entrance, reason := inboundOf(r, instance)
	if reason != "" {
		view.skip(Origin{Kind: "proxy", Name: string(view.ID)}, "inbound listener: "+reason)
	} else {
		ways := use(r, v.inbounds, service)
		view.Inbound, view.Chains, view.Authz = entrance, ways.Chains, ways.Authz
		view.Skipped = append(view.Skipped, ways.Skipped...)
	}
	v.addUpstreams(r, view, instance.Service.Proxy)
	slices.SortFunc(view.Skipped, compareSkipped)
	return view
}

func (s *Sidecar) skip(origin Origin, reason string) {
	s.Skipped = append(s.Skipped, Skipped{Origin: origin, Reason: reason})
}

// addUpstreams adds the proxy's upstreams and the bundles that they trust.
func (v *Views) addUpstreams(r *reader, view *Sidecar, proxy *config.Proxy) {
	var specs []upstreamSpec
	for i := range proxy.Upstreams {
		spec, reason := specOf(r, view.Service, proxy, &proxy.Upstreams[i])
		if reason != "" {
			view.skip(Origin{"service", spec.service, spec.peer}, "upstream: "+reason)
			continue
		}
		specs = append(specs, spec)
	}
	slices.SortStableFunc(specs, upstreamSpec.compare)
	taken := map[Bind]string{}
	if view.Inbound != nil {
		taken[view.Inbound.Bind] = "the inbound listener"
	}
	for _, spec := range specs {
		origin := Origin{"service", spec.service, spec.peer}
		if other, ok := taken[spec.bind]; ok {
			view.skip(origin, fmt.Sprintf("upstream: %s is already bound by %s", spec.bind, other))
			continue
		}
		upstream := use(r, v.upstreams, spec)
		if upstream.Part == nil {
			view.skip(origin, "upstream: "+upstream.Reason)
			continue
		}
		taken[spec.bind] = "upstream " + spec.service
		view.Upstreams = append(view.Upstreams, upstream.Part)
		bundle := use(r, v.states, spec.peer).Bundle
		if len(view.Bundles) == 0 || view.Bundles[len(view.Bundles)-1] != bundle {
			view.Bundles = append(view.Bundles, bundle)
		}
	}
}

// inboundOf returns where a sidecar listens and where its application does, or why that cannot be told.
func inboundOf(r *reader, instance *Instance) (*Inbound, string) {
	address, reason := listenAddress(instance)
	if reason != "" {
		return nil, reason
	}
	proxy := instance.Service.Proxy
	port := proxy.LocalServicePort
	if port == 0 {
		if port = destinationPort(r, instance); port == 0 {
			return nil, fmt.Sprintf("no LocalServicePort, and no instance of %s with a port on node %s", proxy.DestinationServiceName, instance.Node)
		}
	}
	app, reason := bind(cmp.Or(proxy.LocalServiceAddress, "127.0.0.1"), port)
	if reason != "" {
		return nil, "local service: " + reason
	}
	inbound := &Inbound{Bind: address, App: app}
	timeout := number(proxy.Config["local_connect_timeout_ms"])
	inbound.MaxConnections = number(proxy.Config["max_inbound_connections"])
	if defaults, ok := entryOf[*config.ServiceDefaults](r, proxy.DestinationServiceName); ok {
		timeout = cmp.Or(timeout, defaults.LocalConnectTimeoutMs)
		inbound.MaxConnections = cmp.Or(inbound.MaxConnections, defaults.MaxInboundConnections)
	}
	inbound.ConnectTimeout = time.Duration(timeout) * time.Millisecond
	return inbound, ""
}

// destinationPort returns the port of the instance that a sidecar stands for, or 0.
func destinationPort(r *reader, sidecar *Instance) int {
	proxy := sidecar.Service.Proxy
	if proxy.DestinationServiceID != "" {
		if instance := r.instanceByID(sidecar.Node, proxy.DestinationServiceID); instance != nil {
			return instance.Service.Port
		}
		return 0
	}
	for _, instance := range r.instances(proxy.DestinationServiceName) {
		if instance.Node == sidecar.Node && instance.Service.Kind == config.KindTypical {
			return instance.Service.Port
		}
	}
	return 0
}

// listenAddress returns where a proxy listens: bind_address and bind_port where it has them, else what it registered.
func listenAddress(instance *Instance) (Bind, string) {
	host, port := instance.Address()
	if proxy := instance.Service.Proxy; proxy != nil {
		if own, ok := proxy.Config["bind_address"].(string); ok && own != "" {
			host = own
		}
		port = cmp.Or(number(proxy.Config["bind_port"]), port)
	}
	address, reason := bind(host, port)
	if reason != "" {
		reason += "; bind_address and bind_port can say where"
	}
	return address, reason
}

// bind returns an address and port as an Envoy can bind or dial it, or why it cannot.
func bind(host string, port int) (Bind, string) {
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil || ip.Zone() != "":
		return Bind{}, fmt.Sprintf("address %q: want an IP address", host)
	case port < 1 || port > 65535:
		return Bind{}, fmt.Sprintf("port %d: want 1 to 65535", port)
	}
	return Bind{ip.Unmap().String(), uint16(port)}, ""
}

// String returns address:port.
func (b Bind) String() string { return net.JoinHostPort(b.Address, strconv.Itoa(int(b.Port))) }

// number reads a whole number out of an opaque block, which holds whatever its format made of it. Anything else is 0.
func number(value any) int {
	switch n := value.(type) {
	case int:
		return n
	case int64:
		return int(n)
	case float64:
		return int(n)
	case json.Number:
		whole, _ := n.Int64()
		return int(whole)
	case string:
		whole, _ := strconv.Atoi(n)
		return whole
	}
	return 0
}

// block reads a block within an opaque one, which HCL writes as a list of one.
func block(value any) map[string]any {
	switch b := value.(type) {
	case map[string]any:
		return b
	case []map[string]any:
		if len(b) > 0 {
			return b[0]
		}
	case []any:
		if len(b) > 0 {
			return block(b[0])
		}
	}
	return nil
}
