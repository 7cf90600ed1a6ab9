package config

import (
	"fmt"
	"strings"
)

func (e *ServiceDefaults) finish(d *decoder) {
	d.check("Name", CheckServiceName(e.Name))
	d.checkMeta("Meta", e.Meta)
	e.Protocol = d.protocol("Protocol", e.Protocol)
	d.checkNumber("MaxInboundConnections", e.MaxInboundConnections)
	d.checkNumber("LocalConnectTimeoutMs", e.LocalConnectTimeoutMs)
	if e.UpstreamConfig != nil {
		e.UpstreamConfig.finish(d)
	}
	e.Kept = d.takeKept("")
}

func (u *UpstreamConfig) finish(d *decoder) {
	if u.Defaults != nil {
		if u.Defaults.Name != "" || u.Defaults.Peer != "" {
			d.errorf("UpstreamConfig.Defaults", "holds for all upstreams: want no Name and no Peer")
		}
		u.Defaults.finish(d, "UpstreamConfig.Defaults")
	}
	type upstream struct{ peer, name string }
	seen := map[upstream]bool{}
	for i := range u.Overrides {
		at := fmt.Sprintf("UpstreamConfig.Overrides[%d]", i)
		o := &u.Overrides[i]
		if o.Name == Wildcard {
			d.errorf(at+".Name", "is *: want one name")
		} else {
			d.check(at+".Name", checkSource(o.Name, o.Peer))
		}
		d.checkUpstreamPeer(at, "Peer", o.Peer, &o.MeshGateway)
		o.finish(d, at)
		key := upstream{o.Peer, o.Name}
		if seen[key] {
			d.errorf(at, "is the second override with Name %s and Peer %s: want one", quote(o.Name), quote(o.Peer))
		}
		seen[key] = true
	}
}

func (o *UpstreamOverride) finish(d *decoder, at string) {
	o.Protocol = d.protocol(at+".Protocol", o.Protocol)
	d.checkNumber(at+".ConnectTimeoutMs", o.ConnectTimeoutMs)
	if o.Limits != nil && o.Limits.MaxConnections != nil {
		d.checkNumber(at+".Limits.MaxConnections", *o.Limits.MaxConnections)
	}
}

// checkUpstreamPeer checks the peer of an upstream and the gateway mode that goes with it. A local service is dialled
// directly, which is what "none" says; a peer's never is.
func (d *decoder) checkUpstreamPeer(at, field, peer string, gateway *MeshGateway) {
	const none GatewayMode = "none"
	if peer != "" {
		d.check(at+"."+field, CheckPeerName(peer))
		if gateway.Mode == none {
			d.errorf(at+".MeshGateway.Mode", "is none: a peer is reached through gateways only: want local or remote")
		}
	}
	if gateway.Mode == none {
		gateway.Mode = ""
	}
}

func (e *ProxyDefaults) finish(d *decoder) {
	d.checkFixedName(e.Name)
	d.checkMeta("Meta", e.Meta)
	if protocol := e.Protocol(); protocol != "" {
		e.Config["protocol"] = d.protocol("Config.protocol", protocol)
	}
	e.Kept = d.takeKept("")
}

func (e *Mesh) finish(d *decoder) {
	d.checkFixedName(d.name)
	d.checkMeta("Meta", e.Meta)
	e.Kept = d.takeKept("")
}

// protocol returns a protocol in lower case. Any is taken: those that are not tcp are not exported.
func (d *decoder) protocol(at, name string) string {
	const most = 32
	if len(name) > most || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }) {
		d.errorf(at, "is %s: want a word of at most %d characters", quote(name), most)
	}
	return strings.ToLower(name)
}

// checkNumber reports what Envoy's 32 bits cannot hold.
func (d *decoder) checkNumber(at string, number int) {
	const most = 1<<31 - 1
	if number < 0 || number > most {
		d.errorf(at, "is %d: want 0 to %d", number, most)
	}
}

// takeKept returns what was kept below a path, by the rest of its path.
func (d *decoder) takeKept(below string) map[string]any {
	var taken map[string]any
	for path, value := range d.kept {
		if rest, ok := strings.CutPrefix(path, below); ok {
			if taken == nil {
				taken = map[string]any{}
			}
			taken[rest] = value
			delete(d.kept, path)
		}
	}
	return taken
}
