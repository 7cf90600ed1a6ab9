package envoy

// Names of resources are API: they show in Envoy's statistics, logs and config dump, and Envoy keeps connections by them.
// "~" separates their parts and is part of none; it also keeps them apart from every SNI. There is one namespace. The names of
// endpoint sets, bundles and authorization secrets come with the view: see package snapshot.

// The names that every proxy of a kind has once.
const (
	ListenerIn      = "in"         // a sidecar's, for its application
	ListenerIngress = "gw-ingress" // a gateway's, for peers
	ListenerEgress  = "gw-egress"  // a gateway's, for local sidecars in mode local
	ClusterApp      = "app"        // the application behind a sidecar
	ChainNone       = "none"       // the chain that keeps a listener without other chains acceptable
)

// noneServerName is what ChainNone asks for. RFC 2606 keeps the top level domain "invalid" unused.
const noneServerName = "none.isthmus.invalid"

const namespace = "default"

// local stands where a peer's name would, for the own cluster. No peer can be called so.
const local = "local"

func scope(peer string) string {
	if peer == "" {
		return local
	}
	return peer
}

// OutName names the listener and the cluster of a sidecar's upstream. peer is empty for a service of the own cluster, as
// in all functions of this file.
func OutName(peer, service string) string {
	return "out~" + scope(peer) + "~" + service + "~" + namespace
}

// InStat is the statistics prefix of a sidecar's inbound chain.
func InStat(peer, service string) string {
	return "in~" + scope(peer) + "~" + service + "~" + namespace
}

// PeerChainName names a sidecar's inbound chain for one peer's services.
func PeerChainName(peer string) string { return "peer~" + scope(peer) }

// ExportName names a gateway's chain and cluster for one service as one peer dials it.
func ExportName(peer, service string) string { return "exp~" + peer + "~" + service + "~" + namespace }

// ImportName names a gateway's chain and cluster for everything that is dialled at one peer.
func ImportName(peer string) string { return "imp~" + peer }

// RBACName names the ECDS resource that decides, behind the handshake, who of a peer may call service.
func RBACName(service, peer string) string {
	return "rbac~" + service + "~" + namespace + "~" + scope(peer)
}
