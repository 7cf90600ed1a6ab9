package xds

import "github.com/isthmus-mesh/isthmus/xds/envoy"

// A kind is one type of resource. Their order is the order in which a push sends what is new: what others refer to first.
type kind int

const (
	secrets kind = iota
	clusters
	endpoints
	extensions
	listeners
	kinds
)

var typeURLs = [kinds]string{
	secrets:    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
	clusters:   "type.googleapis.com/envoy.config.cluster.v3.Cluster",
	endpoints:  "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
	extensions: "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
	listeners:  "type.googleapis.com/envoy.config.listener.v3.Listener",
}

var kindOf = func() map[string]kind {
	index := make(map[string]kind, kinds)
	for k, url := range typeURLs {
		index[url] = kind(k)
	}
	return index
}()

func (k kind) String() string { return typeURLs[k] }

// wildcards tells whether Envoy may ask for all of the kind at once. All others it asks for by name.
func (k kind) wildcards() bool { return k == clusters || k == listeners }

// An item is one resource as it goes out.
type item struct {
	name, version string
	body          []byte          // value of the Any
	chains        [][]byte        // behind body, where that is a listener's shell
	resource      *envoy.Resource // where it comes from a set
}

// emptyAssignment is the value of a ClusterLoadAssignment without endpoints. Envoy ignores the removal of one.
func emptyAssignment(name string) item {
	const fieldClusterName = 1
	body := appendString(nil, fieldClusterName, name)
	return item{name: name, version: envoy.Hash(body), body: body}
}
