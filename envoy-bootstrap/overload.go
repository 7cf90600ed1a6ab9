package bootstrap

import (
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	heapv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	"google.golang.org/protobuf/proto"
)

const defaultConnections = 50_000

// overloadManager bounds what traffic can take of the machine: connections always, memory when a limit is given.
func overloadManager(limits Limits) *overloadv3.OverloadManager {
	if limits.Connections == 0 {
		limits.Connections = defaultConnections
	}
	manager := &overloadv3.OverloadManager{ResourceMonitors: []*overloadv3.ResourceMonitor{
		monitor("envoy.resource_monitors.global_downstream_max_connections",
			&connectionsv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: limits.Connections}),
	}}
	if limits.HeapBytes == 0 {
		return manager
	}
	const heap = "envoy.resource_monitors.fixed_heap"
	manager.RefreshInterval = seconds(1)
	manager.ResourceMonitors = append(manager.ResourceMonitors, monitor(heap, &heapv3.FixedHeapConfig{MaxHeapSizeBytes: uint64(limits.HeapBytes)}))
	manager.Actions = []*overloadv3.OverloadAction{
		actionAt("envoy.overload_actions.shrink_heap", heap, 0.9),
		actionAt("envoy.overload_actions.stop_accepting_connections", heap, 0.95),
	}
	return manager
}

func monitor(name string, config proto.Message) *overloadv3.ResourceMonitor {
	return &overloadv3.ResourceMonitor{Name: name, ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: mustAny(config)}}
}

func actionAt(action, resource string, threshold float64) *overloadv3.OverloadAction {
	return &overloadv3.OverloadAction{Name: action, Triggers: []*overloadv3.Trigger{{
		Name:         resource,
		TriggerOneof: &overloadv3.Trigger_Threshold{Threshold: &overloadv3.ThresholdTrigger{Value: threshold}},
	}}}
}
