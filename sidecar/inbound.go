package sidecar

import (
	"cmp"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

const (
	// idleTimeout is shorter than a gateway's, so that it is the sidecars that end a connection.
	idleTimeout = time.Hour
	// helloTimeout is how long a client may take to send its server name, and handshakeTimeout how long for the rest.
	helloTimeout     = 5 * time.Second
	handshakeTimeout = 5 * time.Second
	// maxPerPeer bounds each inbound chain: one peer cannot use up the application for the others.
	maxPerPeer        = 1_000
	maxToApp          = 10_000
	appConnectTimeout = 2 * time.Second
	bufferLimit       = 256 << 10
	logInterval       = 10 * time.Minute
)

var keepalive = envoy.Keepalive{Idle: 30 * time.Second, Interval: 10 * time.Second, Probes: 3}

// inbound is what snapshot.Inbound becomes: nothing of it names the proxy.
type inbound struct {
	shell *envoy.Listener
	app   *envoy.Resource
	err   error
}

// inboundChain is what snapshot.InboundChain becomes.
type inboundChain struct {
	chain *envoy.Chain
	err   error
}

func addInbound(set *envoy.Set, view *snapshot.Sidecar) error {
	if view.Inbound == nil {
		return nil
	}
	in := view.Inbound.Do(func() any { return shell(view.Inbound) }).(inbound)
	if in.err != nil {
		return in.err
	}
	listener, app := *in.shell, *in.app
	origin := envoy.Origin{Kind: "proxy", Name: string(view.ID)}
	listener.Origin, app.Origin = origin, origin
	for _, c := range view.Chains {
		made := c.Do(func() any { return chain(c) }).(inboundChain)
		if made.err != nil {
			return made.err
		}
		listener.Chains = append(listener.Chains, made.chain)
	}
	slices.SortFunc(listener.Chains, func(a, b *envoy.Chain) int { return cmp.Compare(a.Name, b.Name) })
	set.Listeners = append(set.Listeners, &listener)
	set.Clusters = append(set.Clusters, &app)
	return nil
}

func shell(in *snapshot.Inbound) inbound {
	var b envoy.Builder
	return inbound{
		shell: b.ServerNameListener(envoy.Shell{
			Name: envoy.ListenerIn, Address: envoy.SocketAddress(in.Address, in.Port),
			Direction: corev3.TrafficDirection_INBOUND, BufferLimit: bufferLimit, Keepalive: keepalive,
		}, helloTimeout, b.JSONLog(refusedLog, envoy.FlagNoRoute), envoy.Origin{}),
		app: b.StaticCluster(envoy.StaticCluster{
			Name:           envoy.ClusterApp,
			Address:        envoy.SocketAddress(in.App.Address, in.App.Port),
			ConnectTimeout: timeout(in.ConnectTimeout, appConnectTimeout),
			MaxConnections: limit(in.MaxConnections, maxToApp),
		}, envoy.Origin{}),
		err: b.Err(),
	}
}

// chain lets one peer's services in. It names the secret and the rules that decide who of them, and holds nothing of them
// itself: to admit one more changes no chain, and so cuts no connection.
func chain(c *snapshot.InboundChain) inboundChain {
	var b envoy.Builder
	stat := envoy.InStat(c.Peer, c.Service)
	rbac := envoy.RBACName(c.Service, c.Peer)
	made := b.Chain(&listenerv3.FilterChain{
		Name:                          envoy.PeerChainName(c.Peer),
		FilterChainMatch:              envoy.ServerNames(c.ServerName),
		TransportSocket:               b.DownstreamTLS(c.AuthzName, c.TLSMin13),
		TransportSocketConnectTimeout: durationpb.New(handshakeTimeout),
		Filters: []*listenerv3.Filter{
			b.ConnectionLimit(stat, uint64(limit(c.MaxConnections, maxPerPeer))),
			envoy.DiscoveredFilter(rbac, envoy.TypeRBAC),
			b.TCPProxy(envoy.TCPProxy{
				StatPrefix: stat, Cluster: envoy.ClusterApp,
				IdleTimeout: idleTimeout, AfterHandshake: true,
				Log: b.JSONLog(inboundLog), LogInterval: logInterval,
			}),
		},
	}, envoy.Origin(c.Origin))
	made.AuthzName, made.ExtensionNames = c.AuthzName, []string{rbac}
	return inboundChain{made, b.Err()}
}

// timeout returns d, or the default where a view holds none.
func timeout(d, byDefault time.Duration) time.Duration {
	if d <= 0 {
		return byDefault
	}
	return d
}

// limit returns n, or the default where a view holds none.
func limit(n int, byDefault uint32) uint32 {
	if n <= 0 || int64(n) > 1<<31 {
		return byDefault
	}
	return uint32(n)
}
