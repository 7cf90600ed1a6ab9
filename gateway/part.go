package gateway

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

const (
	// idleTimeout is five minutes longer than a sidecar's, so that the sidecar decides.
	idleTimeout = time.Hour + 5*time.Minute
	// helloTimeout is how long a client may take to send its server name.
	helloTimeout = 5 * time.Second
	// maxConnections bounds a chain and its cluster: one peer cannot use up the gateway for the others.
	maxConnections = 10_000
	connectTimeout = 5 * time.Second
	// attempts to connect: the second goes to another host, if there is one.
	attempts    = 2
	bufferLimit = 256 << 10
	logInterval = 10 * time.Minute
)

var (
	keepalive = envoy.Keepalive{Idle: 30 * time.Second, Interval: 10 * time.Second, Probes: 3}

	// Half of our own sidecars stay, however they fail: they share what would make all of them fail at once.
	localEjection = envoy.Ejection{Failures: 3, Base: 10 * time.Second, Max: time.Minute, MaxPercent: 50}
	// All gateways of a peer may go: better to fail at once than to try what is known to be dead.
	peerEjection = envoy.Ejection{Failures: 3, Base: 10 * time.Second, Max: time.Minute, MaxPercent: 100}

	// probe finds a peer's gateway that is gone while nobody dials it, and ends the connections that hang on it.
	probe = envoy.Probe{Interval: 5 * time.Second, Timeout: 2 * time.Second, Failures: 2}
)

// A part is what one export or import becomes. It is made once for all gateways.
type part struct {
	chain   *envoy.Chain
	cluster *envoy.Resource
	err     error
}

// export is one service of ours for one peer. Each peer has its own chain, so that withdrawing a service from one drains
// nobody else.
func export(x *snapshot.GatewayExport) part {
	var b envoy.Builder
	name := envoy.ExportName(x.Peer, x.Service)
	return part{
		chain: passthrough(&b, name, x.ServerName, envoy.Origin(x.Origin)),
		cluster: b.EDSCluster(envoy.EDSCluster{
			Name: name, EndpointSet: x.Endpoints,
			ConnectTimeout: connectTimeout, MaxConnections: maxConnections,
			Keepalive: keepalive, Ejection: localEjection,
		}, envoy.Origin(x.Origin)),
		err: b.Err(),
	}
}

// imported is everything that local sidecars dial at one peer in mode local.
func imported(m *snapshot.GatewayImport) part {
	var b envoy.Builder
	name := envoy.ImportName(m.Peer)
	return part{
		chain: passthrough(&b, name, m.ServerNames, envoy.Origin(m.Origin)),
		cluster: b.EDSCluster(envoy.EDSCluster{
			Name: name, EndpointSet: m.Endpoints,
			ConnectTimeout: connectTimeout, MaxConnections: maxConnections,
			Keepalive: keepalive, Ejection: peerEjection, Probe: &probe,
		}, envoy.Origin(m.Origin)),
		err: b.Err(),
	}
}

// passthrough hands the TLS connections for serverName to the cluster that is called as the chain is, bytes untouched.
func passthrough(b *envoy.Builder, name, serverName string, origin envoy.Origin) *envoy.Chain {
	return b.Chain(&listenerv3.FilterChain{
		Name:             name,
		FilterChainMatch: envoy.ServerNames(serverName),
		Filters: []*listenerv3.Filter{
			b.ConnectionLimit(name, maxConnections),
			b.TCPProxy(envoy.TCPProxy{
				StatPrefix: name, Cluster: name,
				IdleTimeout: idleTimeout, Attempts: attempts,
				Log: b.JSONLog(connectionLog), LogInterval: logInterval,
			}),
		},
	}, origin)
}

func listener(name string, binds []snapshot.Bind, direction corev3.TrafficDirection, origin envoy.Origin) (*envoy.Listener, error) {
	var b envoy.Builder
	addresses := make([]*corev3.Address, len(binds))
	for i, bind := range binds {
		addresses[i] = envoy.SocketAddress(bind.Address, bind.Port)
	}
	l := b.ServerNameListener(envoy.Shell{
		Name: name, Address: addresses[0], Also: addresses[1:],
		Direction: direction, BufferLimit: bufferLimit, Keepalive: keepalive,
	}, helloTimeout, b.JSONLog(refusedLog, envoy.FlagNoRoute), origin)
	return l, b.Err()
}
