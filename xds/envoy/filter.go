package envoy

import (
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	connectionlimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TLSInspector returns the listener filter that reads the SNI. Without it a filter chain matched by server name never
// matches.
func (b *Builder) TLSInspector() *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{
		Name: "envoy.filters.listener.tls_inspector",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{
			TypedConfig: b.pack("tls inspector", &tlsinspectorv3.TlsInspector{}),
		},
	}
}

// ConnectionLimit returns the filter that closes a chain's connections beyond max. Each chain counts its own.
func (b *Builder) ConnectionLimit(statPrefix string, max uint64) *listenerv3.Filter {
	return b.filter("envoy.filters.network.connection_limit", statPrefix, &connectionlimitv3.ConnectionLimit{
		StatPrefix:     statPrefix,
		MaxConnections: wrapperspb.UInt64(max),
	})
}

// TCPProxy is the filter that hands a connection to a cluster.
type TCPProxy struct {
	StatPrefix, Cluster string
	IdleTimeout         time.Duration
	Attempts            uint32 // to connect; 0 is Envoy's default, 1
	// AfterHandshake waits with dialling the cluster until the downstream TLS handshake succeeded. Otherwise each half
	// open connection opens one upstream.
	AfterHandshake bool
	Log            *accesslogv3.AccessLog
	LogInterval    time.Duration // how often a connection that stays open is logged again
}

// TCPProxy returns the filter. It closes connections as soon as its chain drains (check_drain_close), which is what ends
// them when a source or an export is revoked.
func (b *Builder) TCPProxy(c TCPProxy) *listenerv3.Filter {
	proxy := &tcpproxyv3.TcpProxy{
		StatPrefix:       c.StatPrefix,
		ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: c.Cluster},
		IdleTimeout:      duration(c.IdleTimeout),
		CheckDrainClose:  wrapperspb.Bool(true),
		AccessLog:        []*accesslogv3.AccessLog{c.Log},
		AccessLogOptions: &tcpproxyv3.TcpProxy_TcpAccessLogOptions{
			FlushAccessLogOnConnected: true,
			AccessLogFlushInterval:    duration(c.LogInterval),
		},
	}
	if c.Attempts > 0 {
		proxy.MaxConnectAttempts = wrapperspb.UInt32(c.Attempts)
	}
	if c.AfterHandshake {
		proxy.UpstreamConnectMode = tcpproxyv3.UpstreamConnectMode_ON_DOWNSTREAM_TLS_HANDSHAKE
		proxy.MaxEarlyDataBytes = wrapperspb.UInt32(0) // Envoy wants the field in this mode
	}
	return b.filter("envoy.filters.network.tcp_proxy", c.StatPrefix, proxy)
}

func (b *Builder) filter(name, owner string, config proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{
		Name:       name,
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: b.pack(owner, config)},
	}
}

// DiscoveredFilter returns a network filter whose configuration comes by ECDS under name: it can change without draining
// the chain. While it is missing, connections are closed (network_extension_config_missing).
func DiscoveredFilter(name, typeURL string) *listenerv3.Filter {
	return &listenerv3.Filter{
		Name: name,
		ConfigType: &listenerv3.Filter_ConfigDiscovery{ConfigDiscovery: &corev3.ExtensionConfigSource{
			ConfigSource: ads(),
			TypeUrls:     []string{typeURL},
		}},
	}
}
