package api

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

func (s *server) catalogRoutes() []route {
	return []route{
		{method: "GET", pattern: "/v1/catalog/datacenters", access: read, do: func(c *call) (any, error) {
			return []string{c.world.Cluster().Datacenter}, nil
		}},
		{method: "GET", pattern: "/v1/catalog/services", access: read, read: catalogServices},
		{method: "GET", pattern: "/v1/catalog/service/{name}", access: read, read: func(c *call) (query, error) { return catalogService(c, false) }},
		{method: "GET", pattern: "/v1/catalog/connect/{name}", access: read, read: func(c *call) (query, error) { return catalogService(c, true) }},
		{method: "GET", pattern: "/v1/catalog/nodes", access: read, read: catalogNodes},
		{method: "GET", pattern: "/v1/catalog/node/{name}", access: read, read: catalogNode},
		{method: "GET", pattern: "/v1/catalog/node-services/{name}", access: read, read: catalogNodeServices},
		{method: "PUT", pattern: "/v1/catalog/register", access: operate, do: s.catalogRegister},
		{method: "PUT", pattern: "/v1/catalog/deregister", access: operate, do: s.catalogDeregister},
	}
}

// entryJSON is one instance as the catalog lists it, its node's fields beside it.
type entryJSON struct {
	ID                       string
	Node                     string
	Address                  string
	Datacenter               string
	TaggedAddresses          map[string]string
	NodeMeta                 map[string]string
	ServiceKind              config.ServiceKind
	ServiceID                string
	ServiceName              string
	ServiceTags              []string
	ServiceAddress           string
	ServiceTaggedAddresses   map[string]config.Address `json:",omitempty"`
	ServiceWeights           config.Weights
	ServiceMeta              map[string]string
	ServicePort              int
	ServiceSocketPath        string
	ServiceEnableTagOverride bool
	ServiceProxy             proxyJSON
	ServiceConnect           connectJSON
	PeerName                 string `json:",omitempty"`
	CreateIndex              uint64 `bexpr:"-"`
	ModifyIndex              uint64 `bexpr:"-"`
}

func entryShape(i instanceJSON) entryJSON {
	n, v := i.Node, i.Service
	return entryJSON{
		ID: n.ID, Node: n.Node, Address: n.Address, Datacenter: n.Datacenter, TaggedAddresses: n.TaggedAddresses, NodeMeta: n.Meta,
		ServiceKind: v.Kind, ServiceID: v.ID, ServiceName: v.Service, ServiceTags: v.Tags, ServiceAddress: v.Address,
		ServiceTaggedAddresses: v.TaggedAddresses, ServiceWeights: v.Weights, ServiceMeta: v.Meta, ServicePort: v.Port,
		ServiceEnableTagOverride: v.EnableTagOverride, ServiceProxy: v.Proxy, ServiceConnect: v.Connect, PeerName: v.PeerName,
		CreateIndex: v.CreateIndex, ModifyIndex: v.ModifyIndex,
	}
}

// catalogServices answers with the names of all services and their tags.
func catalogServices(c *call) (query, error) {
	f, err := filterParam(c)
	if err != nil {
		return query{}, err
	}
	meta := c.URL.Query()["node-meta"]
	if peer := peerParam(c); peer != "" {
		return query{index: modified(snapshot.TableImports, peer), answer: func(w *snapshot.World) (any, error) {
			return importedNames(w, peer, f, meta)
		}}, nil
	}
	return query{index: modified(snapshot.TableInstances), answer: func(w *snapshot.World) (any, error) {
		names := map[string][]string{}
		for _, i := range w.Instances("") {
			entry := entryShape(instanceJSON{Node: nodeShape(w, i.Node, i.NodeAddress), Service: serviceShape(i.Service, i.Raft)})
			keep, err := f.keep(entry)
			if err != nil {
				return nil, err
			}
			if keep && hasMeta(entry.NodeMeta, meta) {
				names[entry.ServiceName] = union(names[entry.ServiceName], entry.ServiceTags)
			}
		}
		return names, nil
	}}, nil
}

// catalogService answers with the instances of a service without their health, or with its proxies for mesh.
func catalogService(c *call, mesh bool) (query, error) {
	f, err := filterParam(c)
	if err != nil {
		return query{}, err
	}
	name, tags, meta := c.PathValue("name"), c.URL.Query()["tag"], c.URL.Query()["node-meta"]
	_, shapes := instancesQuery(c, mesh)
	index := func(w *snapshot.World) uint64 {
		set, instances := w.Modified(snapshot.TableInstances, name), w.Instances(name)
		if mesh {
			set, instances = w.ProxiesModified(name), w.Proxies(name)
		}
		for _, i := range instances {
			set = newest(set, w.Modified(snapshot.TableNodes, i.Node))
		}
		return set
	}
	if peer := peerParam(c); peer != "" {
		index, _ = importedQuery(peer, name, mesh)
	}
	return query{index: index, answer: func(w *snapshot.World) (any, error) {
		var entries []entryJSON
		for _, i := range shapes(w) {
			if hasTags(i.Service.Tags, tags) && hasMeta(i.Node.Meta, meta) {
				entries = append(entries, entryShape(i))
			}
		}
		return filtered(f, entries)
	}}, nil
}

func catalogNodes(c *call) (query, error) {
	f, err := filterParam(c)
	if err != nil {
		return query{}, err
	}
	meta := c.URL.Query()["node-meta"]
	if peer := peerParam(c); peer != "" {
		return query{index: modified(snapshot.TableImports, peer), answer: func(w *snapshot.World) (any, error) {
			return filtered(f, slices.DeleteFunc(importedNodes(w, peer), func(n nodeJSON) bool { return !hasMeta(n.Meta, meta) }))
		}}, nil
	}
	return query{index: modified(snapshot.TableNodes), answer: func(w *snapshot.World) (any, error) {
		var nodes []nodeJSON
		for _, n := range w.Nodes() {
			if shape := nodeShape(w, n.Name, ""); hasMeta(shape.Meta, meta) {
				nodes = append(nodes, shape)
			}
		}
		return filtered(f, nodes)
	}}, nil
}

// importedNodes returns each node that a peer's instances are on, once.
func importedNodes(w *snapshot.World, peer string) []nodeJSON {
	var nodes []nodeJSON
	for _, i := range w.Imports(peer) {
		for _, shape := range importedShapes(i, false) {
			if !slices.ContainsFunc(nodes, func(n nodeJSON) bool { return n.Node == shape.Node.Node }) {
				nodes = append(nodes, shape.Node)
			}
		}
	}
	return nodes
}

// nodeQuery is a question about one node: answer gets its shape and its instances, and the answer is null where there is
// no such node.
func nodeQuery(c *call, answer func(node nodeJSON, services []serviceJSON) any) (query, error) {
	f, err := filterParam(c)
	if err != nil {
		return query{}, err
	}
	name := c.PathValue("name")
	return query{
		index: func(w *snapshot.World) uint64 {
			return newest(w.Modified(snapshot.TableNodes, name), w.NodeModified(name))
		},
		answer: func(w *snapshot.World) (any, error) {
			instances := w.OnNode(name)
			if w.Node(name) == nil && len(instances) == 0 {
				return answer(nodeJSON{}, nil), nil
			}
			var services []serviceJSON
			address := ""
			for _, i := range instances {
				services, address = append(services, serviceShape(i.Service, i.Raft)), i.NodeAddress
			}
			services, err := filtered(f, services)
			return answer(nodeShape(w, name, address), services), err
		},
	}, nil
}

func catalogNode(c *call) (query, error) {
	return nodeQuery(c, func(node nodeJSON, services []serviceJSON) any {
		if services == nil {
			return jsonNull{}
		}
		byID := map[string]serviceJSON{}
		for _, service := range services {
			byID[service.ID] = service
		}
		return struct {
			Node     nodeJSON
			Services map[string]serviceJSON
		}{node, byID}
	})
}

func catalogNodeServices(c *call) (query, error) {
	return nodeQuery(c, func(node nodeJSON, services []serviceJSON) any {
		if services == nil {
			return struct {
				Node     *nodeJSON
				Services []serviceJSON
			}{}
		}
		return struct {
			Node     nodeJSON
			Services []serviceJSON
		}{node, services}
	})
}

// jsonNull is the answer null, where nil would be an empty body.
type jsonNull struct{}

func (jsonNull) MarshalJSON() ([]byte, error) { return []byte("null"), nil }
