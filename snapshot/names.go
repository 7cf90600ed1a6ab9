package snapshot

// The names of what views refer to. They show in Envoy's stats and config dump, so they are made here only. "~"
// separates and is never part of a name, and "local" is no name that a peer can have.
const (
	local = "local"
	// LocalGateways is the endpoint set of our own gateways' egress addresses.
	LocalGateways = "gw~" + local
)

// EndpointsOf returns the name of a service's endpoint set: the sidecars of its instances.
func EndpointsOf(service string) string { return "svc~" + service + "~default" }

// EndpointsOfPeer returns the name of the endpoint set of a peer's gateways.
func EndpointsOfPeer(peer string) string { return "gw~" + peer }

// AuthzName returns the name of the secret that decides who of a peer, or with an empty peer of the local cluster, may
// call a service.
func AuthzName(service, peer string) string { return "authz~" + service + "~default~" + orLocal(peer) }

// BundleName returns the name of the secret that holds a peer's roots, or with an empty peer our own.
func BundleName(peer string) string { return "bundle~" + orLocal(peer) }

// Name returns BundleName of the bundle's peer.
func (b *Bundle) Name() string { return BundleName(b.Peer) }

func orLocal(peer string) string {
	if peer == "" {
		return local
	}
	return peer
}
