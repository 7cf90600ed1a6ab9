package config

// The tables of service definitions, checks, and the requests that make peerings.

const (
	noGateways = "only sidecars and mesh gateways are served: want no kind, connect-proxy or mesh-gateway"
	noSockets  = "unix sockets are not supported: want an address and a port"
	noPorts    = "several ports by name are not supported: register a service for each"
	noToken    = "credentials are not part of a definition: send the token with the request"
	noCommands = "checks that run commands are not supported: want TCP, HTTP, TTL or AliasService"
)

// bootstrapKeys are what Consul's command takes out of the configuration of proxies and puts into an Envoy's bootstrap.
var bootstrapKeys = []field{
	inConfig("envoy_prometheus_bind_addr", text, byCommand), inConfig("envoy_stats_bind_addr", text, byCommand),
	inConfig("envoy_ready_bind_addr", text, byCommand), inConfig("envoy_statsd_url", text, byCommand),
	inConfig("envoy_dogstatsd_url", text, byCommand), inConfig("envoy_stats_tags", texts, byCommand),
	inConfig("envoy_stats_flush_interval", text, byCommand), inConfig("envoy_telemetry_collector_bind_socket_dir", text, byCommand),
	inConfig("envoy_hcp_metrics_bind_socket_dir", text, byCommand),
	escape("envoy_bootstrap_json_tpl"), escape("envoy_extra_static_clusters_json"), escape("envoy_extra_static_listeners_json"),
	escape("envoy_extra_stats_sinks_json"), escape("envoy_stats_config_json"), escape("envoy_tracing_json"),
}

const byCommand = "an Envoy's metrics are set up by envoy-bootstrap"

// inConfig is a key of a Config that is kept where it is.
func inConfig(name string, is shape, note string) field {
	return field{name: name, is: is, does: kept, typed: true, note: note}
}

func escape(name string) field {
	return field{name: name, does: refused, note: noEscape}
}

// listenerKeys are the keys of a proxy's Config that have no effect on any proxy, and its escape hatches.
var listenerKeys = append([]field{
	inConfig("local_request_timeout_ms", integer, httpOnly),
	inConfig("local_idle_timeout_ms", integer, httpOnly),
	inConfig("connect_timeout_ms", integer, "want the upstream's, or UpstreamConfig of service-defaults"),
	inConfig("balance_inbound_connections", text, "Envoy's threads share connections in its own way"),
	inConfig("xds_fetch_timeout_ms", integer, "Envoy waits for what it was promised"),
	inConfig("envoy_dns_discovery_type", text, "names are resolved by the control plane"),
	escape("envoy_public_listener_json"), escape("envoy_local_cluster_json"), escape("envoy_listener_tracing_json"),
	escape("envoy_listener_json"), escape("envoy_cluster_json"),
}, bootstrapKeys...)

const ofRegistration = "listeners are set up one by one: want it in the Proxy.Config of a registration"

var proxyDefaultsConfig = append([]field{
	{name: "protocol", note: "of services without one of their own; with another than tcp they are not exported"},
	inConfig("local_connect_timeout_ms", integer, "want LocalConnectTimeoutMs of service-defaults"),
	{name: "max_inbound_connections", does: refused, note: "want MaxInboundConnections of service-defaults"},
	{name: "bind_address", does: refused, note: ofRegistration},
	{name: "bind_port", does: refused, note: ofRegistration},
}, listenerKeys...)

// proxyConfig is of sidecars and mesh gateways: which of the two may have a key is checked with the kind.
var proxyConfig = append([]field{
	{name: "bind_address", note: "IP to listen at; default: the registration's Address"},
	{name: "bind_port", is: integer, note: "port to listen at; default: the registration's Port"},
	{name: "local_connect_timeout_ms", is: integer, note: "sidecars: time to connect to the application"},
	{name: "max_inbound_connections", is: integer, note: "sidecars: connections to the application at a time"},
	inConfig("protocol", text, "want Protocol of service-defaults"),
	{name: "envoy_gateway_bind_tagged_addresses", is: boolean, note: "gateways: listen for peers at the tagged addresses too"},
	{name: "envoy_gateway_bind_addresses", is: named, note: "gateways: listen for peers at these too", sub: []field{
		{name: "Address", note: "IP"}, {name: "Port", is: integer, note: "port"},
	}},
	{name: "envoy_gateway_no_default_bind", is: boolean, note: "gateways: not where they are registered"},
	inConfig("envoy_gateway_remote_tcp_enable_keepalive", boolean, "idle connections to peers are probed anyway"),
	inConfig("envoy_gateway_remote_tcp_keepalive_time", integer, "idle connections to peers are probed anyway"),
	inConfig("envoy_gateway_remote_tcp_keepalive_interval", integer, "idle connections to peers are probed anyway"),
	inConfig("envoy_gateway_remote_tcp_keepalive_probes", integer, "idle connections to peers are probed anyway"),
}, listenerKeys...)

// upstreamConfig spells its keys in snake_case, as Config does everywhere.
var upstreamConfig = []field{
	{name: "connect_timeout_ms", is: integer, note: "time to connect, in milliseconds"},
	{name: "limits", is: object, note: "bounds of the upstream", sub: []field{
		{name: "max_connections", is: integer, note: "connections to the upstream at a time"},
		inConfig("max_pending_requests", integer, httpOnly),
		inConfig("max_concurrent_requests", integer, httpOnly),
	}},
	inConfig("protocol", text, "upstreams are dialled as TCP"),
	inConfig("balance_outbound_connections", text, "Envoy's threads share connections in its own way"),
	{name: "passive_health_check", is: object, does: kept, typed: true, note: "health comes from checks", sub: []field{
		{name: "interval", is: integer},
		{name: "max_failures", is: integer},
		{name: "enforcing_consecutive_5xx", is: integer},
		{name: "max_ejection_percent", is: integer},
		{name: "base_ejection_time", is: integer},
	}},
	{name: "mesh_gateway", is: object, does: refused, note: "want MeshGateway of the upstream"},
	escape("envoy_listener_json"), escape("envoy_cluster_json"),
}

var upstreamsField = field{name: "Upstreams", is: objects, note: "what the sidecar dials for its application", sub: []field{
	{name: "DestinationName", note: "the service dialled"},
	{name: "DestinationPeer", note: "where it is; absent: the local cluster"},
	{name: "DestinationType", does: refused, only: []string{"service"}, note: "prepared queries are not supported: want a service"},
	{name: "DestinationNamespace", does: refused, only: []string{DefaultNamespace}, note: noNamespaces},
	{name: "DestinationPartition", does: refused, only: []string{DefaultNamespace}, note: noPartitions},
	{name: "DestinationPort", does: refused, note: noPorts},
	{name: "Datacenter", does: refused, note: "upstreams in other datacenters are not supported: peer with that cluster and set DestinationPeer"},
	{name: "LocalBindAddress", note: "IP where the application dials it; default 127.0.0.1"},
	{name: "LocalBindPort", is: integer, note: "port where the application dials it"},
	{name: "LocalBindSocketPath", does: refused, note: noSockets},
	{name: "LocalBindSocketMode", does: refused, note: noSockets},
	{name: "Config", is: object, note: "", sub: upstreamConfig},
	pathMeshGateway,
	{name: "CentrallyConfigured", is: boolean, does: computed, note: "of Consul's answers"},
	{name: "IngressHosts", is: texts, does: computed, note: "of Consul's answers"},
}}

var proxyField = field{name: "Proxy", is: object, note: "of sidecars and mesh gateways", sub: []field{
	{name: "DestinationServiceName", note: "sidecars: the service that it stands for"},
	{name: "DestinationServiceID", note: "sidecars: the instance"},
	{name: "LocalServiceAddress", note: "sidecars: where the application listens; default 127.0.0.1"},
	{name: "LocalServicePort", is: integer, note: "sidecars: where the application listens"},
	{name: "LocalServiceSocketPath", does: refused, note: noSockets},
	{name: "LocalServicePorts", is: objects, does: refused, note: noPorts},
	{name: "Config", is: object, note: "", sub: proxyConfig},
	upstreamsField, meshGateway, expose, accessLogs,
	proxyMode, transparentProxy, mutualTLSMode, envoyExtensions,
}}

var checkFields = []field{
	{name: "CheckID", also: []string{"ID"}, note: "default: service:<service ID>"},
	{name: "Name", note: "shown"},
	{name: "Notes", note: "shown"},
	{name: "Status", only: []string{HealthPassing, HealthWarning, HealthCritical}, why: "want passing, warning or critical", note: "before the first result; default critical"},
	{name: "TTL", is: duration, note: "critical unless somebody reports in time"},
	{name: "TCP", note: "host:port to connect to"},
	{name: "HTTP", note: "URL to ask: 2xx passes, 429 warns"},
	{name: "Method", note: "of HTTP; default GET"},
	{name: "Header", is: headers, note: "of HTTP"},
	{name: "Body", note: "of HTTP"},
	{name: "TLSSkipVerify", is: boolean, note: "of HTTP: the server's certificate is not verified"},
	{name: "TLSServerName", note: "of HTTP: the name wanted in the server's certificate"},
	{name: "DisableRedirects", is: boolean, note: "of HTTP: a redirect is the result"},
	{name: "AliasService", note: "ID of a service here, whose health it takes over"},
	{name: "Interval", is: duration, note: "of TCP and HTTP"},
	{name: "Timeout", is: duration, note: "of TCP and HTTP"},
	{name: "SuccessBeforePassing", is: integer, note: "results in a row"},
	{name: "FailuresBeforeCritical", is: integer, note: "results in a row"},
	{name: "FailuresBeforeWarning", is: integer, does: kept, note: "a failing check is critical after FailuresBeforeCritical, and was passing before"},
	{name: "DeregisterCriticalServiceAfter", is: duration, note: "the service goes when it is critical for so long"},
	{name: "OutputMaxSize", is: integer, does: kept, note: "output is cut at a length of ours"},
	{name: "TCPUseTLS", is: boolean, does: refused, note: "TLS in TCP checks is not supported: want HTTP with https"},
	{name: "UDP", does: refused, note: "UDP checks are not supported: want TCP, HTTP, TTL or AliasService"},
	{name: "GRPC", does: refused, note: "gRPC checks are not supported: want TCP, HTTP, TTL or AliasService"},
	{name: "GRPCUseTLS", is: boolean, does: refused, note: "gRPC checks are not supported: want TCP, HTTP, TTL or AliasService"},
	{name: "H2PING", does: refused, note: "HTTP/2 ping checks are not supported: want TCP, HTTP, TTL or AliasService"},
	{name: "H2PingUseTLS", is: boolean, does: refused, also: []string{"h2ping_use_tls"}, note: "HTTP/2 ping checks are not supported: want TCP, HTTP, TTL or AliasService"},
	{name: "OSService", does: refused, note: "checks of the operating system are not supported: want TCP, HTTP, TTL or AliasService"},
	{name: "ScriptArgs", is: texts, does: refused, also: []string{"Args"}, note: noCommands},
	{name: "Script", does: refused, note: noCommands},
	{name: "DockerContainerID", does: refused, note: noCommands},
	{name: "Shell", does: refused, note: noCommands},
	{name: "AliasNode", does: refused, note: "other nodes have no checks here: want AliasService alone"},
	{name: "Token", does: refused, note: noToken},
	namespace, partition,
}

// checkRequestFields are those of PUT /v1/agent/check/register.
var checkRequestFields = append([]field{
	{name: "ServiceID", note: "ID of the service that it is of"},
}, checkFields...)

var portAddress = []field{
	{name: "Address", note: "IP or host name"},
	{name: "Port", is: integer, note: "1 to 65535"},
}

// plainServiceFields are those of a service and of a sidecar_service block alike.
var plainServiceFields = []field{
	{name: "Kind", only: []string{string(KindSidecar), string(KindMeshGateway), "typical"}, why: noGateways, note: "none, connect-proxy or mesh-gateway"},
	{name: "ID", note: "default: Name"},
	{name: "Name", also: []string{"Service"}, note: "a-z, 0-9 and -, at most 63"},
	{name: "Tags", is: texts, note: "shown to whoever discovers the service"},
	meta,
	{name: "Address", note: "IP or host name; default: the node's"},
	{name: "Port", is: integer, note: "1 to 65535"},
	{name: "TaggedAddresses", is: named, sub: portAddress, note: "lan; wan, which peers dial at a mesh gateway; egress, where a mesh gateway serves mode local"},
	{name: "Weights", is: object, note: "share of connections by health; default 1 and 1", sub: []field{
		{name: "Passing", is: integer, note: "while passing"},
		{name: "Warning", is: integer, note: "while warning"},
	}},
	{name: "EnableTagOverride", is: boolean, does: kept, typed: true, note: "there is no other writer of tags"},
	{name: "Check", is: objects, sub: checkFields, note: "one check, or several"},
	{name: "Checks", is: objects, sub: checkFields, note: "more checks"},
	proxyField,
	{name: "Locality", is: object, does: kept, note: "instances are chosen by weight", sub: []field{
		{name: "Region"}, {name: "Zone"},
	}},
	{name: "SocketPath", does: refused, note: noSockets},
	{name: "Ports", is: objects, does: refused, note: noPorts},
	{name: "Token", does: refused, note: noToken},
	namespace, partition,
}

var sidecarFields = append([]field{
	{name: "Connect", is: object, does: refused, note: "a sidecar has no sidecar"},
}, plainServiceFields...)

var serviceFields = append([]field{
	{name: "Connect", is: object, note: "the service in the mesh", sub: []field{
		{name: "Native", is: boolean, note: "the application speaks mTLS itself"},
		{name: "SidecarService", is: object, bare: true, note: "a sidecar, registered beside the service under its name and ID with -sidecar-proxy; has its Tags and Meta, and its Address if that is not loopback", sub: sidecarFields},
	}},
}, plainServiceFields...)

var tokenRequestFields = []field{
	{name: "PeerName", also: []string{"Peer"}, note: "what we call the peer"},
	{name: "ServerExternalAddresses", is: texts, note: "host:port of our peering port as the peer reaches it"},
	{name: "TTL", is: duration, note: "how long the token may be used; default 24h"},
	meta, partition,
}

var establishRequestFields = []field{
	{name: "PeerName", also: []string{"Peer"}, note: "what we call the peer"},
	{name: "PeeringToken", note: "the peer's token"},
	meta, partition,
}
