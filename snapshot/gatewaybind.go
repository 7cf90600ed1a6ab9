package snapshot

import (
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
)

// The keys of a gateway's Config that say where it listens, as Consul's command writes them when it registers one.
const (
	noDefaultBind = "envoy_gateway_no_default_bind"
	bindTagged    = "envoy_gateway_bind_tagged_addresses"
	bindAddresses = "envoy_gateway_bind_addresses"
)

// ingressBinds returns where a gateway listens for peers, the first of it apart, and why it does not listen elsewhere:
// where it is registered, at its tagged addresses when it asks for that, and at the addresses that it lists.
func ingressBinds(gateway *Instance) (first Bind, also []Bind, reasons []string) {
	var binds []Bind
	add := func(what string, b Bind, reason string) {
		switch {
		case reason != "":
			reasons = append(reasons, what+reason)
		case !slices.Contains(binds, b):
			binds = append(binds, b)
		}
	}
	var options map[string]any
	if proxy := gateway.Service.Proxy; proxy != nil {
		options = proxy.Config
	}
	if options[noDefaultBind] != true {
		b, reason := listenAddress(gateway)
		add("", b, reason)
	}
	if options[bindTagged] == true {
		for _, tag := range taggedNames(gateway) {
			tagged := gateway.Service.TaggedAddresses[tag]
			b, reason := bind(tagged.Address, tagged.Port)
			add("tagged address "+tag+": ", b, reason)
		}
	}
	listed, _ := options[bindAddresses].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		address, _ := listed[name].(map[string]any)
		host, _ := address["Address"].(string)
		b, reason := bind(host, number(address["Port"]))
		add(bindAddresses+" "+name+": ", b, reason)
	}
	if len(binds) == 0 {
		if len(reasons) == 0 {
			reasons = []string{noDefaultBind + ", and no other address to listen at"}
		}
		return Bind{}, nil, reasons
	}
	return binds[0], binds[1:], reasons
}

// taggedNames returns the names of the tagged addresses that are for peers, sorted.
func taggedNames(gateway *Instance) []string {
	names := slices.Sorted(maps.Keys(gateway.Service.TaggedAddresses))
	return slices.DeleteFunc(names, func(name string) bool { return name == "egress" })
}

// egressBind returns where a gateway listens for its own cluster, or why it does not. bind_address is not asked: it may
// be any address of the machine, and the egress listener is for inside only.
func egressBind(gateway *Instance, ingress []Bind) (Bind, string) {
	host, port, ok := egressAddress(gateway)
	if !ok {
		return Bind{}, "the gateway has no tagged address egress"
	}
	egress, reason := bind(host, port)
	if reason != "" {
		return Bind{}, "tagged address egress: " + reason
	}
	for _, b := range ingress {
		if egress.Port == b.Port && (egress.Address == b.Address || everywhere(egress) || everywhere(b)) {
			return Bind{}, "tagged address egress is where the gateway listens for peers: want another port"
		}
	}
	return egress, ""
}

// everywhere tells whether a bind takes every address of the machine.
func everywhere(b Bind) bool { return b.Address == "0.0.0.0" || b.Address == "::" }

// bindGateway fills in where a gateway listens.
func (view *MeshGateway) bindGateway(instance *Instance) {
	origin := Origin{Kind: "proxy", Name: string(view.ID)}
	skip := func(reason string) { view.Skipped = append(view.Skipped, Skipped{Origin: origin, Reason: reason}) }
	first, also, reasons := ingressBinds(instance)
	view.Ingress, view.IngressAlso = first, also
	if len(reasons) > 0 {
		skip("ingress listener: " + strings.Join(reasons, "; "))
	}
	if egress, reason := egressBind(instance, append([]Bind{first}, also...)); reason != "" {
		skip("mode local: " + reason)
	} else {
		view.Egress = &egress
	}
}

// listening counts the gateways that listen for peers.
func listening(r *reader) int {
	n := 0
	for _, gateway := range r.ofKind(config.KindMeshGateway) {
		if first, _, _ := ingressBinds(gateway); first.Address != "" {
			n++
		}
	}
	return n
}
