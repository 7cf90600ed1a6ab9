package config

// The tables of the config entries: every field that Consul knows, and what becomes of it. A field that is in no table is
// refused as unknown.

const (
	noRouting    = "dynamic routing is not supported: "
	noNamespaces = "only the namespace default is supported: leave it out"
	noPartitions = "only the partition default is supported: leave it out"
	noSameness   = "sameness groups are not supported: name each peer"
	noEscape     = "escape hatches are not supported: what Envoy is told is generated, so that nothing can get around its checks"
	noExtensions = "Envoy extensions are not supported: what Envoy is told is generated, so that nothing can get around its checks"
	noCapture    = "transparent proxying is not supported: applications dial the upstreams' ports"
	needStrict   = "permissive mTLS is not supported: every connection in the mesh is mTLS, want strict"
	httpOnly     = "of HTTP; connections are passed on as TCP"
)

var (
	namespace = field{name: "Namespace", does: refused, only: []string{DefaultNamespace}, note: noNamespaces}
	partition = field{name: "Partition", does: refused, only: []string{DefaultNamespace}, note: noPartitions}
	meta      = field{name: "Meta", is: words, note: "free text, shown again"}
)

// ofEntry returns a table with the fields that every config entry has.
func ofEntry(fields ...field) []field {
	return append([]field{
		{name: "Kind", note: "which table below holds"},
		{name: "Name", note: "what the entry is about"},
		meta, namespace, partition,
		{name: "CreateIndex", is: integer, does: computed, note: "when the entry was made"},
		{name: "ModifyIndex", is: integer, does: computed, note: "when the entry last changed"},
		{name: "Hash", does: computed, note: "of newer Consul servers' answers"},
	}, fields...)
}

var exportedServicesFields = ofEntry(
	field{name: "Services", is: objects, note: "what peers may import", sub: []field{
		{name: "Name", note: "a service, or * for all"},
		namespace,
		{name: "Consumers", is: objects, note: "who may import it, at least one", sub: []field{
			{name: "Peer", also: []string{"PeerName"}, note: "name of the peer, which need not exist yet"},
			{name: "Partition", does: refused, note: "partitions are not supported: want Peer"},
			{name: "SamenessGroup", does: refused, note: noSameness},
		}},
	}},
)

var serviceIntentionsFields = ofEntry(
	field{name: "Sources", is: objects, note: "who may call the service, and who may not", sub: []field{
		{name: "Name", note: "a service, or * for all of that peer or cluster"},
		{name: "Peer", also: []string{"PeerName"}, note: "name of the peer; absent: the local cluster"},
		namespace, partition,
		{name: "SamenessGroup", does: refused, note: noSameness},
		{name: "Action", note: "allow or deny"},
		{name: "Permissions", is: objects, does: refused, note: noRouting + "HTTP permissions need the content of a connection; want Action"},
		{name: "Precedence", is: integer, does: computed, note: "9, 8, 6 or 5, by what is a wildcard"},
		{name: "Type", only: []string{"consul"}, why: "want consul", note: "always consul"},
		{name: "Description", note: "free text, at most 512 bytes"},
		{name: "LegacyID", does: computed, note: "of intentions from before config entries"},
		{name: "LegacyMeta", is: words, does: computed, note: "of intentions from before config entries"},
		{name: "LegacyCreateTime", does: computed, note: "of intentions from before config entries"},
		{name: "LegacyUpdateTime", does: computed, note: "of intentions from before config entries"},
	}},
	field{name: "JWT", is: object, does: refused, note: noRouting + "JWT requirements need the content of a connection; remove them"},
)

var (
	meshGateway = field{name: "MeshGateway", is: object, note: "how peers are reached", sub: []field{
		{name: "Mode", only: []string{"local", "remote"}, note: "remote: their gateways are dialled, local: our own are; default remote",
			why: "a peer is reached through gateways only: want local or remote"},
	}}
	// pathMeshGateway is that of one upstream: "none" is true of those in the local cluster, and checked where the upstream's
	// peer is known.
	pathMeshGateway = field{name: "MeshGateway", is: object, note: "how the peer is reached", sub: []field{
		{name: "Mode", only: []string{"none", "local", "remote"}, note: "as above; none only where there is no peer: local services are dialled directly",
			why: "want local or remote"},
	}}
	mutualTLSMode    = field{name: "MutualTLSMode", does: refused, only: []string{"strict"}, note: needStrict}
	proxyMode        = field{name: "Mode", does: refused, only: []string{"direct"}, note: noCapture}
	transparentProxy = field{name: "TransparentProxy", is: object, does: refused, note: noCapture}
	envoyExtensions  = field{name: "EnvoyExtensions", is: objects, does: refused, note: noExtensions}
	expose           = field{name: "Expose", is: object, does: kept, note: "no path is opened to callers without mTLS", sub: []field{
		{name: "Checks", is: boolean},
		{name: "Paths", is: objects, sub: []field{
			{name: "ListenerPort", is: integer},
			{name: "Path"},
			{name: "LocalPathPort", is: integer},
			{name: "Protocol"},
			{name: "ParsedFromCheck", is: boolean},
		}},
	}}
	accessLogs = field{name: "AccessLogs", is: object, does: kept, note: "Envoys log connections to standard output, in a form of ours", sub: []field{
		{name: "Enabled", is: boolean},
		{name: "DisableListenerLogs", is: boolean},
		{name: "Type"},
		{name: "Path"},
		{name: "JSONFormat"},
		{name: "TextFormat"},
	}}
	passiveHealthCheck = field{name: "PassiveHealthCheck", is: object, does: kept, note: "health comes from checks", sub: []field{
		{name: "Interval", is: duration},
		{name: "MaxFailures", is: integer},
		{name: "EnforcingConsecutive5xx", is: integer, also: []string{"enforcing_consecutive_5xx"}},
		{name: "MaxEjectionPercent", is: integer},
		{name: "BaseEjectionTime", is: duration},
	}}
)

func limits(does standing) field {
	return field{name: "Limits", is: object, does: does, note: "bounds of one upstream", sub: []field{
		{name: "MaxConnections", is: integer, note: "connections to the upstream at a time"},
		{name: "MaxPendingRequests", is: integer, does: kept, note: httpOnly},
		{name: "MaxConcurrentRequests", is: integer, does: kept, note: httpOnly},
	}}
}

func upstreamFields(gateway field) []field {
	return []field{
		{name: "Name", note: "the service called; only in Overrides"},
		{name: "Peer", also: []string{"PeerName"}, note: "where it is; absent: the local cluster; only in Overrides"},
		namespace, partition,
		{name: "Protocol", does: kept, typed: true, note: "upstreams are dialled as TCP"},
		{name: "ConnectTimeoutMs", is: integer, note: "time to connect, in milliseconds"},
		gateway, limits(honoured), passiveHealthCheck,
		{name: "BalanceOutboundConnections", does: kept, note: "Envoy's threads share connections in its own way"},
		{name: "EnvoyListenerJSON", does: refused, note: noEscape},
		{name: "EnvoyClusterJSON", does: refused, note: noEscape},
	}
}

var serviceDefaultsFields = ofEntry(
	field{name: "Protocol", note: "a service with another protocol than tcp is not exported"},
	meshGateway,
	field{name: "UpstreamConfig", is: object, note: "the service as a caller", sub: []field{
		{name: "Defaults", is: object, note: "of all its upstreams", sub: upstreamFields(meshGateway)},
		{name: "Overrides", is: objects, note: "of one upstream each", sub: upstreamFields(pathMeshGateway)},
	}},
	field{name: "MaxInboundConnections", is: integer, note: "connections to one instance at a time"},
	field{name: "LocalConnectTimeoutMs", is: integer, note: "time for the sidecar to connect to its application, in milliseconds"},
	field{name: "LocalRequestTimeoutMs", is: integer, does: kept, note: httpOnly},
	field{name: "BalanceInboundConnections", does: kept, note: "Envoy's threads share connections in its own way"},
	field{name: "MaxRequestHeadersKB", is: integer, does: kept, note: httpOnly},
	field{name: "ExternalSNI", does: kept, note: "of services outside the mesh"},
	expose,
	proxyMode, transparentProxy, mutualTLSMode, envoyExtensions,
	field{name: "RateLimits", is: object, does: refused, note: "request limits need the content of a connection: want MaxInboundConnections"},
	field{name: "Destination", is: object, does: refused, note: "terminating gateways are not supported: register the service with its address"},
)

var proxyDefaultsFields = ofEntry(
	field{name: "Config", is: object, note: "of all proxies", sub: proxyDefaultsConfig},
	meshGateway, expose, accessLogs,
	proxyMode, transparentProxy, mutualTLSMode, envoyExtensions,
	field{name: "FailoverPolicy", is: object, does: refused, note: "failover is not supported: a service is reached where its name says"},
	field{name: "PrioritizeByLocality", is: object, does: refused, note: "failover is not supported: instances are chosen by weight"},
)

func tlsFields() []field {
	atMost := []string{"TLS_AUTO", "TLSv1_0", "TLSv1_1", "TLSv1_2"}
	return []field{
		{name: "TLSMinVersion", does: kept, only: atMost, note: "mesh TLS is 1.2 or 1.3 whatever is written here; TLSv1_3 is refused",
			why: "the lowest version is set by the server's option mesh_tls_min"},
		{name: "TLSMaxVersion", does: kept, note: "mesh TLS is 1.2 or 1.3"},
		{name: "CipherSuites", is: texts, does: refused, note: "cipher suites cannot be chosen: mesh TLS has ECDHE with AEAD only"},
	}
}

var meshFields = ofEntry(
	field{name: "Peering", is: object, note: "", sub: []field{
		{name: "PeerThroughMeshGateways", is: boolean, does: refused, note: "peering streams do not pass through mesh gateways: they go to the peering port of the other side"},
	}},
	field{name: "TLS", is: object, note: "", sub: []field{
		{name: "Incoming", is: object, sub: tlsFields()},
		{name: "Outgoing", is: object, sub: tlsFields()},
	}},
	field{name: "AllowEnablingPermissiveMutualTLS", is: boolean, does: refused, note: needStrict},
	field{name: "TransparentProxy", is: object, does: kept, note: "of transparent proxies", sub: []field{
		{name: "MeshDestinationsOnly", is: boolean},
	}},
	field{name: "ValidateClusters", is: boolean, does: kept, note: httpOnly},
	field{name: "HTTP", is: object, does: kept, note: httpOnly, sub: []field{
		{name: "SanitizeXForwardedClientCert", is: boolean},
		{name: "Incoming", is: object, sub: []field{
			{name: "RequestNormalization", is: object, sub: []field{
				{name: "InsecureDisablePathNormalization", is: boolean},
				{name: "MergeSlashes", is: boolean},
				{name: "PathWithEscapedSlashesAction"},
				{name: "HeadersWithUnderscoresAction"},
			}},
		}},
	}},
)

var peerPolicyFields = ofEntry(
	field{name: "AllowAddresses", is: objects, short: "Prefix", note: "addresses that the peer may have us dial; replaces the defaults", sub: []field{
		{name: "Prefix", is: prefix, note: "a CIDR or one address"},
		{name: "Ports", is: ports, note: "absent: all"},
	}},
	field{name: "Accept", is: texts, note: "services that may be imported; absent: all"},
	field{name: "Quotas", is: object, note: "what the peer may send; 0 is the default", sub: []field{
		{name: "Services", is: integer, note: "imported services"},
		{name: "Instances", is: integer, note: "instances of one service"},
		{name: "UpdatesPerSecond", is: integer, note: "sustained"},
	}},
	field{name: "MaxStale", is: duration, note: "imports older than this are not served; absent: for ever"},
)
