package snapshot

import (
	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/isthmus-mesh/isthmus/config"
)

// relKind, relFor and relID are the other ways to find an instance: by kind, by the service that a proxy stands for,
// and by node and ID.
func relKind(kind config.ServiceKind) string { return "kind" + sep + string(kind) + sep }
func relFor(service string) string           { return "for" + sep + service + sep }
func relID(node, id string) string           { return "id" + sep + node + sep + id + sep }
func relNode(node string) string             { return "id" + sep + node + sep }

func relations(i *Instance) []string {
	end := i.Node + sep + i.Service.ID
	keys := []string{relKind(i.Service.Kind) + end, relID(i.Node, i.Service.ID)}
	if service := standsFor(i); service != "" {
		keys = append(keys, relFor(service)+end)
	}
	return keys
}

// relate keeps related true while the object of key goes from before to after. It returns what changed in it, for
// Modified: the services whose proxies, and the nodes whose instances, are others now.
func relate(related *iradix.Txn[*Instance], key Key, before, after any) []string {
	if key.Table != TableInstances {
		return nil
	}
	var touched []string
	if old, ok := before.(*Instance); ok {
		for _, k := range relations(old) {
			if current, _ := related.Get([]byte(k)); current == old {
				related.Delete([]byte(k))
			}
		}
		touched = append(touched, watched(old)...)
	}
	if fresh, ok := after.(*Instance); ok {
		for _, k := range relations(fresh) {
			related.Insert([]byte(k), fresh)
		}
		touched = append(touched, watched(fresh)...)
	}
	return touched
}

// watched returns the relations of an instance whose last change is kept.
func watched(i *Instance) []string {
	keys := []string{relNode(i.Node)}
	switch {
	case i.Service.Kind == config.KindSidecar && i.Service.Proxy != nil:
		keys = append(keys, relFor(i.Service.Proxy.DestinationServiceName))
	case i.Service.ConnectNative:
		keys = append(keys, relFor(i.Service.Name))
	}
	return keys
}

func (w *World) relatedTo(prefix string) []*Instance {
	var found []*Instance
	w.related.Root().WalkPrefix([]byte(prefix), func(_ []byte, i *Instance) bool {
		found = append(found, i)
		return false
	})
	return found
}

// Proxies returns the sidecars of a service, and its instances that need none, in the order of node and ID.
func (w *World) Proxies(service string) []*Instance { return w.relatedTo(relFor(service)) }

// OfKind returns all instances of a kind in the order of node and ID.
func (w *World) OfKind(kind config.ServiceKind) []*Instance { return w.relatedTo(relKind(kind)) }

// InstanceByID returns the instance with an ID on a node, or nil.
func (w *World) InstanceByID(node, id string) *Instance {
	if found := w.relatedTo(relID(node, id)); len(found) > 0 {
		return found[0]
	}
	return nil
}

// OnNode returns the instances of a node in the order of their IDs.
func (w *World) OnNode(node string) []*Instance { return w.relatedTo(relNode(node)) }

// ChecksOn returns all checks of a node, those of its instances included, in the order of service ID and check ID; with
// an empty name those of all nodes.
func (w *World) ChecksOn(node string) []*Check {
	if node == "" {
		return all[Check](w, TableChecks)
	}
	return all[Check](w, TableChecks, node)
}

// ProxiesModified returns the Index at which what Proxies returns for a service last changed.
func (w *World) ProxiesModified(service string) uint64 { return w.relationModified(relFor(service)) }

// NodeModified returns the Index at which what OnNode returns for a node last changed.
func (w *World) NodeModified(node string) uint64 { return w.relationModified(relNode(node)) }

func (w *World) relationModified(prefix string) uint64 {
	return w.lastModified([]byte(prefix))
}
