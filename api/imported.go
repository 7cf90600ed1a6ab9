package api

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// meshSuffix ends the name under which the mesh form of a peer's service is listed.
const meshSuffix = "-sidecar-proxy"

// importedShapes returns the instances of a peer's service in the normal form, or with mesh as its gateways stand for it.
func importedShapes(i *snapshot.Import, mesh bool) []instanceJSON {
	if i == nil {
		return nil
	}
	instances := i.Instances
	if mesh {
		instances = i.Gateways
	}
	shapes := make([]instanceJSON, 0, len(instances))
	for _, instance := range instances {
		shapes = append(shapes, importedShape(i, &instance))
	}
	return shapes
}

func importedShape(i *snapshot.Import, instance *snapshot.ImportedInstance) instanceJSON {
	service := instance.Service
	if service == nil {
		service = &config.Service{ID: i.Service, Name: i.Service}
	}
	shape := instanceJSON{
		Node: nodeJSON{
			ID: instance.NodeID, Node: instance.Node, Address: instance.NodeAddress, Datacenter: instance.Datacenter,
			TaggedAddresses: filled(instance.NodeTagged), Meta: filled(instance.NodeMeta), PeerName: i.Peer,
			CreateIndex: i.CreateIndex, ModifyIndex: i.ModifyIndex,
		},
		Service: serviceShape(service, i.Raft),
		Checks:  []checkJSON{},
	}
	shape.Service.PeerName = i.Peer
	shape.Service.Connect.PeerMeta = peerMetaJSON{SNI: instance.SNI, SpiffeID: instance.SpiffeIDs, Protocol: instance.Protocol}
	if instance.HasCheck {
		shape.Checks = append(shape.Checks, checkJSON{
			Node: instance.Node, CheckID: service.ID + ":overall-check", Name: "overall-check", Status: instance.Health,
			Output: instance.CheckOutput, ServiceID: service.ID, ServiceName: service.Name, ServiceTags: shape.Service.Tags,
			PeerName: i.Peer, CreateIndex: i.CreateIndex, ModifyIndex: i.ModifyIndex,
		})
	}
	return shape
}

// importedQuery is a question about one name at a peer: the service itself, its mesh form for mesh, and also by the name
// that the mesh form has in the exporter's catalog.
func importedQuery(peer, name string, mesh bool) (index func(*snapshot.World) uint64, shapes func(*snapshot.World) []instanceJSON) {
	if service, ok := strings.CutSuffix(name, meshSuffix); ok && !mesh {
		name, mesh = service, true
	}
	return modified(snapshot.TableImports, peer, name), func(w *snapshot.World) []instanceJSON {
		return importedShapes(w.Import(peer, name), mesh)
	}
}

// importedNames returns the names that a peer's services have in its catalog, with their tags: all, or those with an
// instance that f and meta keep.
func importedNames(w *snapshot.World, peer string, f *filter, meta []string) (map[string][]string, error) {
	names := map[string][]string{}
	for _, i := range w.Imports(peer) {
		for _, mesh := range []bool{false, true} {
			shapes := importedShapes(i, mesh)
			name := i.Service
			if mesh {
				name += meshSuffix
			}
			if len(shapes) == 0 && !mesh && f == nil && len(meta) == 0 {
				names[name] = []string{}
			}
			for _, shape := range shapes {
				keep, err := f.keep(entryShape(shape))
				if err != nil {
					return nil, err
				}
				if keep && hasMeta(shape.Node.Meta, meta) {
					names[name] = union(names[name], shape.Service.Tags)
				}
			}
		}
	}
	return names, nil
}

// importedChecks is a question about the checks of all that a peer exports.
func importedChecks(peer string, f *filter, meta []string, keep func(checkJSON) bool) query {
	return query{index: modified(snapshot.TableImports, peer), answer: func(w *snapshot.World) (any, error) {
		var checks []checkJSON
		for _, i := range w.Imports(peer) {
			checks = append(checks, checksOf(append(importedShapes(i, false), importedShapes(i, true)...), meta, keep)...)
		}
		return filtered(f, checks)
	}}
}

// checksOf returns the checks of instances on nodes with that meta.
func checksOf(shapes []instanceJSON, meta []string, keep func(checkJSON) bool) []checkJSON {
	var checks []checkJSON
	for _, shape := range shapes {
		for _, check := range shape.Checks {
			if hasMeta(shape.Node.Meta, meta) && keep(check) {
				checks = append(checks, check)
			}
		}
	}
	return checks
}

func anyCheck(checkJSON) bool { return true }
