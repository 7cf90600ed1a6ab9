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

func relations(i *Instance) []string {
	end := i.Node + sep + i.Service.ID
	keys := []string{relKind(i.Service.Kind) + end, relID(i.Node, i.Service.ID)}
	switch {
	case i.Service.Kind == config.KindSidecar && i.Service.Proxy != nil:
		keys = append(keys, relFor(i.Service.Proxy.DestinationServiceName)+end)
	case i.Service.ConnectNative:
		keys = append(keys, relFor(i.Service.Name)+end)
	}
	return keys
}

// relate keeps related true while the object of key goes from before to after.
func relate(related *iradix.Txn[*Instance], key Key, before, after any) {
	if key.Table != TableInstances {
		return
	}
	if old, ok := before.(*Instance); ok {
		for _, k := range relations(old) {
			related.Delete([]byte(k))
		}
	}
	if fresh, ok := after.(*Instance); ok {
		for _, k := range relations(fresh) {
			related.Insert([]byte(k), fresh)
		}
	}
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
