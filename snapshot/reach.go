package snapshot

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
)

// A Reach is how many addresses of a set there are, and how many of those are healthy.
type Reach struct {
	Addresses, Healthy int
	Left               []string // why other addresses are left out
	Reason             string   // why nobody can be reached; empty: somebody can
	Fix                string   // what would mend Reason, else Left
}

// ReachOf tells whether a service of ours can be reached: by its sidecars.
func ReachOf(w *World, service string) Reach { return reachOf(plain(w), setKey{service: service}) }

func reachOf(r *reader, key setKey) Reach {
	set := endpointSet(r, key)
	reach := Reach{Addresses: len(set.Endpoints)}
	for _, e := range set.Endpoints {
		if e.Healthy {
			reach.Healthy++
		}
	}
	for _, skipped := range set.Skipped {
		reach.Left = append(reach.Left, skipped.Reason)
	}
	reach.judge(r, key)
	return reach
}

// in says it in words, of whose addresses they are.
func (x Reach) in(words string) string {
	text := fmt.Sprintf("%d of %d %s are healthy", x.Healthy, x.Addresses, words)
	if len(x.Left) > 0 {
		text += "; left out: " + strings.Join(x.Left, "; ")
	}
	return text
}

func (x *Reach) judge(r *reader, key setKey) {
	reason := x.in(key.words())
	switch {
	case key.service != "":
		x.Fix = registerFix(r.world, key.service)
		switch proxies := r.proxies(key.service); {
		case len(proxies) == 0 && len(r.instances(key.service)) == 0:
			reason = key.service + " is not registered"
		case len(proxies) == 0:
			reason = key.service + " has no sidecar"
		case x.Healthy == 0 && x.Addresses > 0:
			failing := failing(r, proxies)
			reason += ": " + strings.Join(failing, "; ")
			x.Fix = "service " + key.service + ": mend what its check reports: " + failing[0]
		case x.Addresses == 0:
			x.Fix = "register " + key.service + " at an IP address, or at a name that resolves"
		}
	case key.peer != "":
		x.Fix = fmt.Sprintf("on the side of %s: its mesh gateways", key.peer)
		if x.Addresses+len(x.Left) == 0 {
			reason = "peer " + key.peer + " has named no gateway"
		} else if len(x.Left) > 0 {
			x.Fix = fmt.Sprintf("peer-policy %s: AllowAddresses, if %s means these addresses", key.peer, key.peer)
		}
	default:
		x.Fix = "isthmus envoy-bootstrap --gateway=mesh --register --address IP:PORT --egress-address IP:PORT --, or gateway mode remote"
	}
	if x.Healthy == 0 {
		x.Reason = reason
	} else if id, deaf := deaf(r, key.service); deaf != "" {
		x.Reason, x.Fix = fmt.Sprintf("%s has nowhere to listen: %s", id, deaf), ListenFix(id)
	}
}

// deaf returns a sidecar of a service, and why it does not listen, when none of them does.
func deaf(r *reader, service string) (id ProxyID, reason string) {
	cluster := r.cluster()
	if cluster == nil || service == "" {
		return "", ""
	}
	for _, instance := range r.proxies(service) {
		if reason = NotListening(r.world, instance); reason == "" {
			return "", ""
		}
		id = instance.ProxyID(cluster.NodeName)
	}
	return id, reason
}

// words says whose addresses a set holds.
func (k setKey) words() string {
	switch {
	case k.service != "":
		return "sidecars of " + k.service
	case k.peer != "":
		return "gateways of " + k.peer
	}
	return "egress addresses of our gateways"
}

// failing names the checks by which instances are not sent calls.
func failing(r *reader, instances []*Instance) []string {
	var found []string
	for _, instance := range instances {
		ids := []string{instance.Service.ID, ""}
		if proxy := instance.Service.Proxy; proxy != nil && proxy.DestinationServiceID != "" {
			ids = append(ids, proxy.DestinationServiceID)
		}
		for _, id := range ids {
			for _, check := range r.checks(instance.Node, id) {
				if check.Definition.AliasService == "" && !serving(check.Status) {
					found = append(found, strings.TrimSuffix(fmt.Sprintf("check %s of %s is %s: %s", check.CheckID, orNode(check), check.Status, strings.TrimSpace(check.Output)), ": "))
				}
			}
		}
	}
	slices.Sort(found)
	if found = slices.Compact(found); len(found) == 0 {
		found = []string{"an alias check says so"}
	}
	return found[:min(len(found), 3)]
}

func orNode(check *Check) string {
	if check.ServiceID == "" {
		return "node " + check.Node
	}
	return check.ServiceID
}

// NotListening tells why a sidecar or gateway has no address to take calls at; empty when it has.
func NotListening(w *World, proxy *Instance) string {
	switch {
	case proxy.Service.Kind == config.KindMeshGateway:
		if first, _, reasons := ingressBinds(proxy); first.Address == "" {
			return strings.Join(reasons, "; ")
		}
	case proxy.Service.Kind == config.KindSidecar && proxy.Service.Proxy != nil:
		_, reason := inboundOf(plain(w), proxy)
		return reason
	}
	return ""
}
