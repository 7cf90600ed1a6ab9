package envoy

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Keepalive probes an idle TCP connection: a dead one is noticed after Idle + Probes * Interval.
type Keepalive struct {
	Idle, Interval time.Duration
	Probes         uint32
}

func (k Keepalive) protobuf() *corev3.TcpKeepalive {
	return &corev3.TcpKeepalive{
		KeepaliveProbes:   wrapperspb.UInt32(k.Probes),
		KeepaliveTime:     wrapperspb.UInt32(uint32(k.Idle / time.Second)),
		KeepaliveInterval: wrapperspb.UInt32(uint32(k.Interval / time.Second)),
	}
}

// EDSCluster is a cluster whose endpoints come by EDS.
type EDSCluster struct {
	Name           string
	EndpointSet    string // name of the CLA; several clusters may share one
	ConnectTimeout time.Duration
	MaxConnections uint32
	Keepalive      Keepalive
	Ejection       Ejection
	Socket         *corev3.TransportSocket // nil: plain TCP
	Probe          *Probe                  // nil: no active health check
	// LastResort tries hosts that are set aside when there are no others.
	LastResort bool
}

// Ejection sets a host aside that cannot be reached, for a growing time.
type Ejection struct {
	Failures   uint32        // this many in a row
	Base, Max  time.Duration // how long
	MaxPercent uint32        // of the hosts of a cluster
}

// Probe is an active health check that connects and sends nothing.
type Probe struct {
	Interval, Timeout time.Duration
	Failures          uint32 // this many in a row make a host unhealthy
}

// EDSCluster returns the cluster. Without LastResort it never panics: with all hosts down, connections fail at once, and no
// host that is known to be down is tried.
func (b *Builder) EDSCluster(c EDSCluster, origin Origin) *Resource {
	panicBelow := &typev3.Percent{Value: 0}
	if c.LastResort {
		panicBelow.Value = 1 // percent of hosts that are healthy: none is
	}
	cluster := &clusterv3.Cluster{
		Name:                 c.Name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: c.EndpointSet},
		ConnectTimeout:       duration(c.ConnectTimeout),
		CircuitBreakers:      connections(c.MaxConnections),
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{
			HealthyPanicThreshold: panicBelow,
			// Else Envoy collects changes of health for a second: also the first success of a probe, before which a new host is not used.
			// https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/cluster.proto#envoy-v3-api-field-config-cluster-v3-cluster-commonlbconfig-update-merge-window
			UpdateMergeWindow: duration(0),
		},
		OutlierDetection: &clusterv3.OutlierDetection{
			// Without the split, a TCP connect failure would count as something else.
			SplitExternalLocalOriginErrors: true,
			ConsecutiveLocalOriginFailure:  wrapperspb.UInt32(c.Ejection.Failures),
			BaseEjectionTime:               duration(c.Ejection.Base),
			MaxEjectionTime:                duration(c.Ejection.Max),
			MaxEjectionPercent:             wrapperspb.UInt32(c.Ejection.MaxPercent),
		},
		UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{TcpKeepalive: c.Keepalive.protobuf()},
		TransportSocket:           c.Socket,
	}
	if c.Probe != nil {
		cluster.HealthChecks = []*corev3.HealthCheck{c.Probe.protobuf()}
		cluster.CloseConnectionsOnHostHealthFailure = true
		// Else a host that left the endpoint set would be used for as long as it answers the probe.
		cluster.IgnoreHealthOnHostRemoval = true
	}
	resource := b.Resource(c.Name, cluster, origin)
	resource.EndpointSet = c.EndpointSet
	return resource
}

func (p Probe) protobuf() *corev3.HealthCheck {
	return &corev3.HealthCheck{
		Interval:           duration(p.Interval),
		Timeout:            duration(p.Timeout),
		UnhealthyThreshold: wrapperspb.UInt32(p.Failures),
		HealthyThreshold:   wrapperspb.UInt32(1),
		// Envoy's default of 60 s would notice a dead host late in a cluster that was idle.
		NoTrafficInterval: duration(p.Interval),
		HealthChecker:     &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}},
	}
}

// StaticCluster is a cluster of one fixed address.
type StaticCluster struct {
	Name           string
	Address        *corev3.Address
	ConnectTimeout time.Duration
	MaxConnections uint32
}

// StaticCluster returns the cluster.
func (b *Builder) StaticCluster(c StaticCluster, origin Origin) *Resource {
	return b.Resource(c.Name, &clusterv3.Cluster{
		Name:                 c.Name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       duration(c.ConnectTimeout),
		CircuitBreakers:      connections(c.MaxConnections),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: c.Name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: c.Address}},
			}}}},
		},
	}, origin)
}

// connections limits a cluster to max connections, open or still opening. Envoy's default is 1024.
func connections(max uint32) *clusterv3.CircuitBreakers {
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections:     wrapperspb.UInt32(max),
		MaxPendingRequests: wrapperspb.UInt32(max),
	}}}
}
