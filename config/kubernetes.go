package config

import "strings"

const kubernetesGroup = "consul.hashicorp.com/"

// kubernetesKinds are the custom resources of Consul that hold a config entry, and the kind of that entry. Their fields
// are the same in camelCase.
var kubernetesKinds = map[string]string{
	"ExportedServices": KindExportedServices, "ServiceIntentions": KindServiceIntentions, "ServiceDefaults": KindServiceDefaults,
	"ProxyDefaults": KindProxyDefaults, "Mesh": KindMesh,
	"ServiceRouter": "service-router", "ServiceSplitter": "service-splitter", "ServiceResolver": "service-resolver",
	"IngressGateway": "ingress-gateway", "TerminatingGateway": "terminating-gateway", "SamenessGroup": "sameness-group",
	"JWTProvider": "jwt-provider", "ControlPlaneRequestLimit": "control-plane-request-limit",
}

// peeringKinds make peerings in Kubernetes.
var peeringKinds = map[string]string{
	"PeeringAcceptor": "peerings are made by a request: want isthmus peering generate-token",
	"PeeringDialer":   "peerings are made by a request: want isthmus peering establish",
}

// fromKubernetes turns a custom resource of Consul on Kubernetes into the entry that it holds: the fields of its spec,
// and the name out of its metadata. Any other object stays as it is. The second result is false after an error.
func fromKubernetes(n *node, r *report) (*node, bool) {
	version, _ := n.text("apiVersion")
	if version == "" {
		return n, true
	}
	name, line := n.text("kind")
	r.kind, r.lines["kind"] = name, line
	if !strings.HasPrefix(version, kubernetesGroup) {
		r.errorf("apiVersion", "is %s: want %sv1alpha1", quote(version), kubernetesGroup)
		return nil, false
	}
	if why, ok := peeringKinds[name]; ok {
		r.errorf("kind", "%s", why)
		return nil, false
	}
	kind, ok := kubernetesKinds[name]
	if !ok {
		r.errorf("kind", "unknown kind")
		return nil, false
	}
	entry := &node{kind: isObject, line: n.line, fields: []*member{{key: "Kind", line: line, value: wordNode(kind, line)}}}
	ok = true
	for _, m := range n.fields {
		switch m.key {
		case "apiVersion", "kind", "status": // status is the cluster's answer
		case "metadata":
			// Labels and annotations are for Kubernetes; which service an entry of intentions is about is in its spec.
			if own, line := m.value.text("name"); own != "" && kind != KindServiceIntentions && kind != KindExportedServices {
				entry.fields = append(entry.fields, &member{key: "Name", line: line, value: wordNode(own, line)})
			}
		case "spec":
			entry.fields = append(entry.fields, specFields(m.value)...)
		default:
			r.lines[m.key] = m.line
			r.errorf(clip(m.key), "unknown field")
			ok = false
		}
	}
	return entry, ok
}

// specFields returns the fields of a spec. In that of intentions, destination holds what the entry is about.
func specFields(spec *node) []*member {
	var fields []*member
	for _, m := range spec.fields {
		if m.key == "destination" && m.value.kind == isObject {
			fields = append(fields, m.value.fields...)
			continue
		}
		fields = append(fields, m)
	}
	return fields
}

func wordNode(word string, line int) *node {
	return &node{kind: isScalar, line: line, scalar: word, source: word}
}
