package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// taggedAddresses lists the names that an instance's further addresses may have.
var taggedAddresses = []string{"lan", "wan", "egress", "lan_ipv4", "lan_ipv6", "wan_ipv4", "wan_ipv6"}

// finish fills in defaults and reports what is wrong with a service at a path.
func (s *Service) finish(d *decoder, at string) {
	if s.Kind == "typical" {
		s.Kind = KindTypical
	}
	if s.Name == "" {
		d.missing(join(at, "Name"), "the name of the service")
	} else {
		name := s.Name
		if s.Kind == KindSidecar { // its name is in no server name, so it may be longer by what Consul's tools append
			name = strings.TrimSuffix(name, sidecarSuffix)
		}
		d.check(join(at, "Name"), CheckServiceName(name))
	}
	if s.ID == "" {
		s.ID = s.Name
	}
	d.check(join(at, "ID"), checkID(s.ID))
	d.checkMeta(join(at, "Meta"), s.Meta)
	if s.Address != "" {
		d.check(join(at, "Address"), CheckHost(s.Address))
	}
	d.checkPort(join(at, "Port"), s.Port)
	s.checkTagged(d, at)
	s.checkWeights(d, at)
	for i := range s.Checks {
		s.Checks[i].finish(d, fmt.Sprintf("%s[%d]", join(at, "Checks"), i))
	}
	s.checkProxy(d, at)
}

func (s *Service) checkTagged(d *decoder, at string) {
	for _, tag := range sorted(s.TaggedAddresses) {
		address := s.TaggedAddresses[tag]
		at := join(join(at, "TaggedAddresses"), clip(tag))
		known := false
		for _, name := range taggedAddresses {
			known = known || tag == name
		}
		if !known {
			d.errorf(at, "unknown address: want lan, wan or egress")
			continue
		}
		switch {
		case address.Address != "":
			d.check(at+".Address", CheckHost(address.Address))
		case tag != "egress": // which is the registration's own address on another port
			d.missing(at+".Address", "an IP address or a host name")
		}
		d.checkPort(at+".Port", address.Port)
		if address.Port == 0 && s.Kind == KindMeshGateway {
			d.missing(at+".Port", "a port from 1 to 65535")
		}
	}
}

func (s *Service) checkWeights(d *decoder, at string) {
	const most = 65535
	if s.Weights == (Weights{}) {
		return
	}
	if s.Weights.Passing < 1 || s.Weights.Passing > most {
		d.errorf(join(at, "Weights.Passing"), "is %d: want 1 to %d", s.Weights.Passing, most)
	}
	if s.Weights.Warning < 0 || s.Weights.Warning > most {
		d.errorf(join(at, "Weights.Warning"), "is %d: want 0 to %d", s.Weights.Warning, most)
	}
}

// checkProxy checks what the three kinds of service have each for themselves.
func (s *Service) checkProxy(d *decoder, at string) {
	proxy := join(at, "Proxy")
	switch s.Kind {
	case KindTypical:
		if s.Proxy != nil {
			d.errorf(proxy, "is of sidecars and gateways only: want it in Connect.SidecarService, or Kind connect-proxy")
		}
	case KindSidecar:
		if s.Proxy == nil {
			s.Proxy = &Proxy{}
		}
		s.Proxy.finishSidecar(d, proxy)
		if s.Port == 0 && at == "" {
			d.missing("Port", "a port from 1 to 65535")
		}
	case KindMeshGateway:
		if s.Port == 0 {
			d.missing(join(at, "Port"), "a port from 1 to 65535")
		}
		if s.Proxy != nil {
			s.Proxy.finishGateway(d, proxy)
		}
		if _, err := netip.ParseAddr(s.Address); s.Address != "" && err != nil && !s.Proxy.listensElsewhere() {
			d.errorf(join(at, "Address"), "is %q: a gateway listens at an IP address: want one, or Proxy.Config.bind_address", clip(s.Address))
		}
	}
}

func (p *Proxy) finishSidecar(d *decoder, at string) {
	if p.DestinationServiceName == "" {
		d.missing(at+".DestinationServiceName", "the service that the sidecar stands for")
	} else {
		d.check(at+".DestinationServiceName", CheckServiceName(p.DestinationServiceName))
	}
	d.check(at+".DestinationServiceID", checkID(p.DestinationServiceID))
	if p.LocalServiceAddress == "" {
		p.LocalServiceAddress = "127.0.0.1"
	}
	if p.LocalServiceAddress != "localhost" {
		d.checkIP(at+".LocalServiceAddress", p.LocalServiceAddress)
	}
	d.checkPort(at+".LocalServicePort", p.LocalServicePort)
	for _, key := range gatewayOnly {
		if _, ok := p.Config[key]; ok {
			d.errorf(at+".Config."+key, "is of mesh gateways only")
		}
	}
	d.checkConfig(at, p.Config)
	type bind struct {
		address string
		port    int
	}
	seen := map[bind]bool{}
	for i := range p.Upstreams {
		at := fmt.Sprintf("%s.Upstreams[%d]", at, i)
		u := &p.Upstreams[i]
		u.finish(d, at)
		key := bind{u.LocalBindAddress, u.LocalBindPort}
		if seen[key] {
			d.errorf(at+".LocalBindPort", "%s:%d is bound by another upstream already", u.LocalBindAddress, u.LocalBindPort)
		}
		seen[key] = true
	}
}

func (u *Upstream) finish(d *decoder, at string) {
	switch {
	case u.DestinationName == "":
		d.missing(at+".DestinationName", "the service to dial")
	case u.DestinationName == Wildcard:
		d.errorf(at+".DestinationName", "is *: want one name")
	default:
		d.check(at+".DestinationName", checkSource(u.DestinationName, u.DestinationPeer))
	}
	d.checkUpstreamPeer(at, "DestinationPeer", u.DestinationPeer, &u.MeshGateway)
	if u.LocalBindAddress == "" {
		u.LocalBindAddress = "127.0.0.1"
	}
	d.checkIP(at+".LocalBindAddress", u.LocalBindAddress)
	d.checkPort(at+".LocalBindPort", u.LocalBindPort)
	if u.LocalBindPort == 0 {
		d.missing(at+".LocalBindPort", "a port from 1 to 65535")
	}
	d.checkConfig(at, u.Config)
}

// sidecarOnly lists the keys of Config that only sidecars have.
var sidecarOnly = []string{"local_connect_timeout_ms", "max_inbound_connections"}

// gatewayOnly lists the keys of Config that only mesh gateways have.
var gatewayOnly = []string{"envoy_gateway_bind_addresses", "envoy_gateway_bind_tagged_addresses", "envoy_gateway_no_default_bind"}

func (p *Proxy) finishGateway(d *decoder, at string) {
	if p.DestinationServiceName != "" || p.DestinationServiceID != "" || p.LocalServicePort != 0 || p.LocalServiceAddress != "" {
		d.errorf(at, "a mesh gateway stands for no service: want no Destination and no LocalService fields")
	}
	if len(p.Upstreams) > 0 {
		d.errorf(at+".Upstreams", "a mesh gateway has none")
	}
	if p.MeshGateway.Mode != "" {
		d.errorf(at+".MeshGateway", "is of callers: a mesh gateway has none")
	}
	for _, key := range sidecarOnly {
		if _, ok := p.Config[key]; ok {
			d.errorf(at+".Config."+key, "is of sidecars only")
		}
	}
	d.checkConfig(at, p.Config)
}

// listensElsewhere tells whether a gateway binds another address than the one that it is registered with.
func (p *Proxy) listensElsewhere() bool {
	return p != nil && (p.Config["bind_address"] != nil || p.Config["envoy_gateway_no_default_bind"] == true)
}

// checkConfig checks the honoured keys of a Config, as far as their tables do not.
func (d *decoder) checkConfig(at string, config map[string]any) {
	if address, ok := config["bind_address"].(string); ok {
		d.checkIP(at+".Config.bind_address", address)
	}
	if port, ok := config["bind_port"].(float64); ok {
		d.checkPort(at+".Config.bind_port", int(port))
	}
	for _, key := range []string{"local_connect_timeout_ms", "max_inbound_connections", "connect_timeout_ms"} {
		if number, ok := config[key].(float64); ok {
			d.checkNumber(at+".Config."+key, int(number))
		}
	}
	binds, _ := config["envoy_gateway_bind_addresses"].(map[string]any)
	for _, name := range sorted(binds) {
		address, _ := binds[name].(map[string]any)
		host, _ := address["Address"].(string)
		port, _ := address["Port"].(float64)
		at := at + ".Config.envoy_gateway_bind_addresses." + clip(name)
		d.checkIP(at+".Address", host)
		d.checkPort(at+".Port", int(port))
		if port == 0 {
			d.missing(at+".Port", "a port from 1 to 65535")
		}
	}
	limits, _ := config["limits"].(map[string]any)
	if number, ok := limits["max_connections"].(float64); ok {
		d.checkNumber(at+".Config.limits.max_connections", int(number))
	}
}

// checkPort reports what is no port; 0 stands for none.
func (d *decoder) checkPort(at string, port int) {
	if port < 0 || port > 65535 {
		d.errorf(at, "is %d: want a port from 1 to 65535", port)
	}
}

// checkIP reports what is not a plain IP address: Envoy binds and dials no names here.
func (d *decoder) checkIP(at, address string) {
	if ip, err := netip.ParseAddr(address); err != nil || ip.Zone() != "" {
		d.errorf(at, "is %s: want an IP address", quote(address))
	}
}

func isLoopback(address string) bool {
	ip, err := netip.ParseAddr(address)
	return address == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// finish reports what is wrong with a check at a path.
func (c *CheckDefinition) finish(d *decoder, at string) {
	var ways []string
	for way, set := range map[string]bool{"TTL": c.TTL > 0, "TCP": c.TCP != "", "HTTP": c.HTTP != "", "AliasService": c.AliasService != ""} {
		if set {
			ways = append(ways, way)
		}
	}
	switch {
	case len(ways) == 0:
		d.missing(at, "one of TTL, TCP, HTTP and AliasService")
	case len(ways) > 1:
		d.errorf(at, "has more than one of TTL, TCP, HTTP and AliasService: want one")
	case (c.TCP != "" || c.HTTP != "") && c.Interval == 0:
		d.missing(join(at, "Interval"), "how often to check")
	}
	d.check(join(at, "CheckID"), checkCheckID(c.CheckID))
	if c.TCP != "" {
		d.check(join(at, "TCP"), CheckHostPort(c.TCP))
	}
	if c.HTTP != "" {
		target, err := url.Parse(c.HTTP)
		if err != nil || target.Scheme != "http" && target.Scheme != "https" || target.Host == "" {
			d.errorf(join(at, "HTTP"), "is %s: want http://… or https://…", quote(c.HTTP))
		}
	}
	if strings.ContainsFunc(c.Method, func(r rune) bool { return r < 'A' || r > 'z' }) {
		d.errorf(join(at, "Method"), "is %s: want a method of HTTP", quote(c.Method))
	}
	d.checkNumber(join(at, "SuccessBeforePassing"), c.SuccessBeforePassing)
	d.checkNumber(join(at, "FailuresBeforeCritical"), c.FailuresBeforeCritical)
}
