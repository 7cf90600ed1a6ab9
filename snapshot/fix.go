package snapshot

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
)

// GatewayFix is the command that makes a mesh gateway, and starts it.
const GatewayFix = "isthmus envoy-bootstrap --gateway=mesh --register --address IP:PORT --"

// PeerFix returns what would make the peering with a name usable.
func PeerFix(w *World, name string) string {
	peer := w.Peer(name)
	switch {
	case peer == nil:
		return fmt.Sprintf("isthmus peering generate-token --name %s, or isthmus peering establish --name %s", name, name)
	case peer.State == Terminated:
		return fmt.Sprintf("isthmus peering delete --name %s; with a new token isthmus peering establish connects again", name)
	case peer.State == Deleting:
		return "isthmus peering list, until it is gone"
	case peer.Problem != "":
		return fmt.Sprintf("isthmus peering delete --name %s, and establish again once the other side is who you meant", name)
	case peer.State == Pending && peer.Role == Acceptor:
		return "in the other cluster: isthmus peering establish, with the token of isthmus peering generate-token --name " + name
	}
	return "isthmus peering read --name " + name
}

// ExportFix returns what would mend that a service is not exported to a peer for a reason, or not usable there.
func ExportFix(w *World, service, peer, reason string) string {
	r := plain(w)
	switch {
	case reason == "":
		return ""
	case w.Peer(peer) == nil || strings.Contains(reason, "peering"):
		return PeerFix(w, peer)
	case !slices.Contains(exportPeers(r, service), peer):
		return fmt.Sprintf(`exported-services default: services = [{ name = %q, consumers = [{ peer = %q }] }]`, service, peer)
	case strings.HasPrefix(reason, "protocol"):
		return protocolFix(r, service)
	case strings.Contains(reason, "gateway"):
		return GatewayFix
	case strings.HasPrefix(reason, "no instance"), strings.HasPrefix(reason, "no sidecar"):
		return registerFix(w, service)
	case strings.HasPrefix(reason, "name "):
		return "exported-services default: without " + service
	}
	return "isthmus peering read --name " + peer
}

// protocolFix names the entry that says of a service that it is not tcp.
func protocolFix(r *reader, service string) string {
	if defaults, ok := entryOf[*config.ServiceDefaults](r, service); !ok || defaults.Protocol == "" {
		return fmt.Sprintf(`proxy-defaults global sets it for all: service-defaults %s: protocol = "tcp"`, service)
	}
	return fmt.Sprintf(`service-defaults %s: protocol = "tcp"`, service)
}

// registerFix returns how a service comes to have a sidecar.
func registerFix(w *World, service string) string {
	if !w.typical(service) {
		return fmt.Sprintf(`isthmus services register FILE, with service { name = %q, port = PORT, connect { sidecar_service {} } }`, service)
	}
	return "isthmus services register FILE, with " + service + " and connect { sidecar_service {} }"
}

// ImportFix returns what would mend that a service of a peer is not dialled.
func ImportFix(w *World, service, peer string) string {
	r := plain(w)
	imported := r.imported(peer, service)
	policy := policyOf(r, peer)
	switch {
	case !w.Peer(peer).Usable():
		return PeerFix(w, peer)
	case imported != nil && len(policy.Accept) > 0 && !slices.Contains(policy.Accept, service):
		return fmt.Sprintf("peer-policy %s: %s in Accept", policy.Name, service)
	case imported == nil:
		return fmt.Sprintf("on the side of %s: exported-services, with %s for the peer that stands for us", peer, service)
	}
	return fmt.Sprintf("on the side of %s: mend what its isthmus check, or its Consul, says of %s", peer, service)
}

// SkippedFix returns what would put into the view of a proxy what it leaves out.
func SkippedFix(w *World, proxy ProxyID, skipped Skipped) string {
	switch {
	case skipped.Kind == "service" && skipped.Peer != "" && strings.HasPrefix(skipped.Reason, "upstream: ") && strings.Contains(skipped.Reason, "bound by"):
		return fmt.Sprintf("isthmus services register FILE, with another local_bind_port for %s in %s", skipped.Name, proxy)
	case skipped.Kind == "service" && skipped.Peer != "":
		return ImportFix(w, skipped.Name, skipped.Peer)
	case skipped.Kind == "proxy" && strings.HasPrefix(skipped.Reason, "mode local: "):
		return "for gateway mode local: isthmus envoy-bootstrap --gateway=mesh --register --address IP:PORT --egress-address IP:PORT --"
	case skipped.Kind == "proxy":
		return ListenFix(proxy)
	case skipped.Kind == "peering":
		return PeerFix(w, skipped.Peer)
	}
	return fmt.Sprintf("isthmus config read --kind %s --name %s", skipped.Kind, skipped.Name)
}

// ListenFix returns how a proxy comes to have an address to listen at.
func ListenFix(proxy ProxyID) string {
	return fmt.Sprintf("isthmus services register FILE, with an IP address and a port for %s", proxy)
}

// IntentionFix returns the entry that lets a service of a peer, or with an empty peer of ours, call another.
func IntentionFix(source, peer, dest string) string {
	if peer == "" {
		return fmt.Sprintf("isthmus intention create -allow %s %s", source, dest)
	}
	return fmt.Sprintf(`service-intentions %s: sources = [{ name = %q, peer = %q, action = "allow" }]`, dest, source, peer)
}

// StartFix returns the command that starts the Envoy of a proxy.
func StartFix(id ProxyID) string { return "isthmus envoy-bootstrap --proxy-id " + string(id) + " --" }
