package sidecar

import (
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

const (
	connectTimeout = 5 * time.Second
	maxToUpstream  = 10_000
	// attempts to connect: the second goes to another host, if there is one.
	attempts = 2
)

var (
	// Half of a service's own instances stay, however they fail: they share what would make all of them fail at once.
	localEjection = envoy.Ejection{Failures: 3, Base: 10 * time.Second, Max: time.Minute, MaxPercent: 50}
	// All gateways of a peer may be set aside, but for LastResort below.
	peerEjection = envoy.Ejection{Failures: 3, Base: 10 * time.Second, Max: time.Minute, MaxPercent: 100}
)

// upstream is what snapshot.Upstream becomes.
type upstream struct {
	listener *envoy.Listener
	cluster  *envoy.Resource
	err      error
}

// addUpstreams adds a listener and a cluster of the same name for each upstream. A second upstream to the same service (the
// view sorts by port) has its port at the end of its name, and a third on the same port its address too. Only these are
// not shared between proxies.
func addUpstreams(set *envoy.Set, view *snapshot.Sidecar) error {
	taken := map[string]bool{}
	for _, u := range view.Upstreams {
		name := envoy.OutName(u.Peer, u.Service)
		var made upstream
		if !taken[name] {
			made = u.Do(func() any { return dial(name, u) }).(upstream)
		} else {
			if name += "~" + strconv.Itoa(int(u.Bind.Port)); taken[name] {
				name += "~" + strings.NewReplacer(".", "-", ":", "-").Replace(u.Bind.Address) // no dots: it is a statistics prefix
			}
			made = dial(name, u)
		}
		if made.err != nil {
			return made.err
		}
		taken[name] = true
		set.Listeners = append(set.Listeners, made.listener)
		set.Clusters = append(set.Clusters, made.cluster)
	}
	return nil
}

func dial(name string, u *snapshot.Upstream) upstream {
	var b envoy.Builder
	ejection := localEjection
	if u.Peer != "" {
		ejection = peerEjection
	}
	return upstream{
		listener: b.PlainListener(envoy.Shell{
			Name: name, Address: envoy.SocketAddress(u.Bind.Address, u.Bind.Port),
			Direction: corev3.TrafficDirection_OUTBOUND, BufferLimit: bufferLimit, Keepalive: keepalive,
		}, envoy.Origin(u.Origin), b.TCPProxy(envoy.TCPProxy{
			StatPrefix: name, Cluster: name,
			IdleTimeout: idleTimeout, Attempts: attempts,
			Log: b.JSONLog(outboundLog), LogInterval: logInterval,
		})),
		// Modes remote and local differ in the endpoints and in nothing else: whose gateway is dialled does not change
		// who must answer.
		cluster: b.EDSCluster(envoy.EDSCluster{
			Name: name, EndpointSet: u.Endpoints,
			ConnectTimeout: timeout(u.ConnectTimeout, connectTimeout), MaxConnections: limit(u.MaxConnections, maxToUpstream),
			Keepalive: keepalive, Ejection: ejection,
			// Who is denied at a peer sees its gateways fail, since the refusal comes from behind them. Were they all set aside
			// then, an intention that is granted would have no effect until they are back: 20 s to a minute.
			LastResort: u.Peer != "",
			Socket: b.UpstreamTLS(envoy.UpstreamTLS{
				ServerName: u.ServerName, Bundle: u.Bundle, SpiffeIDs: u.SpiffeIDs, Min13: u.TLSMin13,
			}),
		}, envoy.Origin(u.Origin)),
		err: b.Err(),
	}
}
