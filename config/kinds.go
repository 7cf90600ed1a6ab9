package config

import (
	"fmt"
	"strings"
)

// A kind is one kind of config entry: its table, its type, and what cannot be said field by field.
type kind struct {
	name      string
	fixedName string // the only name that there may be; "" where any service or peer has one
	fields    []field
	make      func() Entry
	// finish fills in what the parser computes, takes what is kept, and reports what is wrong.
	finish func(Entry, *decoder)
}

// kinds lists what is accepted, in the order of docs/compatibility.md.
var kinds = []kind{
	{KindExportedServices, "default", exportedServicesFields, func() Entry { return &ExportedServices{} }, finishAs((*ExportedServices).finish)},
	{KindServiceIntentions, "", serviceIntentionsFields, func() Entry { return &ServiceIntentions{} }, finishAs((*ServiceIntentions).finish)},
	{KindServiceDefaults, "", serviceDefaultsFields, func() Entry { return &ServiceDefaults{} }, finishAs((*ServiceDefaults).finish)},
	{KindProxyDefaults, "global", proxyDefaultsFields, func() Entry { return &ProxyDefaults{} }, finishAs((*ProxyDefaults).finish)},
	{KindMesh, "mesh", meshFields, func() Entry { return &Mesh{} }, finishAs((*Mesh).finish)},
	{KindPeerPolicy, "", peerPolicyFields, func() Entry { return &PeerPolicy{} }, finishAs((*PeerPolicy).finish)},
}

func finishAs[T Entry](finish func(T, *decoder)) func(Entry, *decoder) {
	return func(entry Entry, d *decoder) { finish(entry.(T), d) }
}

// refusedKinds lists the other kinds that Consul knows, and why they are refused.
var refusedKinds = []struct{ name, why string }{
	{"service-router", noRouting + "a service is reached by its name"},
	{"service-splitter", noRouting + "a service is reached by its name"},
	{"service-resolver", noRouting + "redirects and failover would answer with another service than the one that was asked for"},
	{"ingress-gateway", noRouting + "only mesh gateways are served"},
	{"terminating-gateway", noRouting + "only mesh gateways are served; register an outside service with its address"},
	{"api-gateway", noRouting + "only mesh gateways are served"},
	{"bound-api-gateway", noRouting + "only mesh gateways are served"},
	{"http-route", noRouting + "a service is reached by its name"},
	{"tcp-route", noRouting + "a service is reached by its name"},
	{"inline-certificate", "API gateways are not supported: certificates come from the certificate authority"},
	{"file-system-certificate", "API gateways are not supported: certificates come from the certificate authority"},
	{"jwt-provider", noRouting + "JWT requirements need the content of a connection"},
	{"sameness-group", noSameness},
	{"control-plane-request-limit", "request limits of Consul's servers are not supported: quotas of peers are in peer-policy"},
	{"rate-limit", "request limits of Consul's servers are not supported: quotas of peers are in peer-policy"},
}

// kindNamed returns a kind that is accepted, or nil.
func kindNamed(name string) *kind {
	for i := range kinds {
		if kinds[i].name == name {
			return &kinds[i]
		}
	}
	return nil
}

func kindNames() string {
	var all []string
	for _, k := range kinds {
		all = append(all, k.name)
	}
	return strings.Join(all[:len(all)-1], ", ") + " or " + all[len(all)-1]
}

// isEntryKind tells whether a kind can only be that of a config entry. Gateways are kinds of service too.
func isEntryKind(name string) bool {
	return kindNamed(name) != nil || strings.HasPrefix(name, "service-")
}

// unknownKind says why a kind is not accepted.
func unknownKind(name string) string {
	var all []string
	for _, r := range refusedKinds {
		if r.name == name {
			return r.why
		}
		all = append(all, r.name)
	}
	for _, k := range kinds {
		all = append(all, k.name)
	}
	if near := nearest(name, all); near != "" {
		return fmt.Sprintf("unknown kind: did you mean %s?", near)
	}
	return fmt.Sprintf("unknown kind: want %s", kindNames())
}
