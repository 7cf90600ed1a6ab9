package peering

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// An importTx is a batch of changes to one peer's imports.
type importTx struct {
	im      *importer
	world   *snapshot.World
	peer    *snapshot.Peer
	ourName string
	changed map[string]*snapshot.Import // nil: gone
}

func (im *importer) begin() *importTx {
	tx := &importTx{im: im, world: im.service.Store.World(), changed: map[string]*snapshot.Import{}}
	tx.peer = tx.world.Peer(im.link.name)
	if tx.peer == nil || tx.peer.ID != im.link.id {
		tx.peer = &snapshot.Peer{Problem: errGone.Error()}
	}
	tx.ourName = tx.peer.OurName
	return tx
}

// decided tells whether it is known what to do with resources that waited for the trust bundle.
func (tx *importTx) decided() bool {
	return tx.peer.Problem != "" || tx.peer.TrustDomain != "" && len(tx.peer.Roots) > 0
}

// get returns the newest state of an import, or nil.
func (tx *importTx) get(service string) *snapshot.Import {
	if changed, ok := tx.changed[service]; ok {
		return changed
	}
	return tx.world.Import(tx.im.link.name, service)
}

// service takes the complete set of instances of one form of a service.
func (tx *importTx) service(r *wire.Response) error {
	name, mesh, err := serviceForm(r.ResourceID)
	if err != nil {
		return refuse(wire.CodeInvalidArgument, "%v", err)
	}
	var set wire.ExportedService
	if r.Operation == wire.Operation_OPERATION_UPSERT {
		if err := proto.Unmarshal(r.Resource.Value, &set); err != nil {
			return refuse(wire.CodeInternal, "service %s: %v", name, err)
		}
	}
	if quota := tx.im.quotas.Instances; len(set.Nodes) > quota {
		return refuse(wire.CodeResourceExhausted, "service %s: %d instances: want at most %d", name, len(set.Nodes), quota)
	}
	converted, ignored, err := instances(name, mesh, set.Nodes)
	if err != nil {
		return refuse(wire.CodeInvalidArgument, "service %s: %v", name, err)
	}
	if ignored > 0 {
		tx.im.link.note(func(n *notes) { n.ignored += ignored })
	}
	size := 0
	if len(converted) > 0 {
		size = len(r.Resource.Value)
		if quota := tx.im.quotas.Services; tx.get(name) == nil && tx.im.count >= quota {
			return refuse(wire.CodeResourceExhausted, "service %s: %d services are imported already: want at most %d", name, tx.im.count, quota)
		}
	}
	if err := tx.im.account(r.ResourceID, size); err != nil {
		return err
	}
	tx.replace(name, mesh, converted)
	return nil
}

// replace gives one form of a service a new set of instances.
func (tx *importTx) replace(name string, mesh bool, converted []snapshot.ImportedInstance) {
	before := tx.get(name)
	if before == nil && len(converted) == 0 {
		return
	}
	after := &snapshot.Import{Peer: tx.im.link.name, Service: name}
	if before != nil {
		after.Raft, after.Gateways, after.Instances = before.Raft, before.Gateways, before.Instances
	}
	if mesh {
		after.Gateways = converted
	} else {
		after.Instances = converted
	}
	if len(after.Gateways) == 0 && len(after.Instances) == 0 {
		tx.remove(name)
		return
	}
	if before == nil {
		tx.im.arrived(name)
	}
	tx.judge(after)
	if before == nil || !reflect.DeepEqual(before, after) {
		tx.changed[name] = after
	}
}

// judge decides whether the mesh may route a service.
func (tx *importTx) judge(i *snapshot.Import) {
	i.NotRoutable, i.ServerName, i.SpiffeIDs, i.Protocol = "", "", nil, ""
	if len(i.Gateways) > 0 {
		i.Protocol = i.Gateways[0].Protocol
	}
	if elder := tx.im.names[strings.ToLower(i.Service)][0]; elder != i.Service {
		i.NotRoutable = fmt.Sprintf("name differs from %s only in upper and lower case, wanted another name", elder)
		return
	}
	if accept := tx.im.policy.Accept; len(accept) > 0 && !slices.Contains(accept, i.Service) {
		i.NotRoutable = fmt.Sprintf("not accepted, wanted one of those in Accept of peer-policy %s", tx.im.policy.Name)
		i.Gateways, i.Instances = nil, nil
		return
	}
	wanted := terms{trustDomain: tx.peer.TrustDomain, ourName: tx.ourName}
	if tx.im.fresh {
		wanted.ourName = ""
	}
	serverName, ids, ourName, err := wanted.route(i.Service, i.Gateways)
	if err != nil {
		i.NotRoutable = printable(err.Error(), longestReason)
		return
	}
	i.ServerName, i.SpiffeIDs, tx.ourName, tx.im.fresh = serverName, ids, ourName, false
}

// remove takes an import away. A younger name that it stood in the way of becomes routable.
func (tx *importTx) remove(name string) {
	if tx.get(name) == nil {
		return
	}
	tx.changed[name] = nil
	tx.im.left(name)
	for _, form := range []string{name, name + wire.ProxySuffix} {
		tx.im.total -= tx.im.sizes[form]
		delete(tx.im.sizes, form)
	}
	for _, sibling := range tx.im.names[strings.ToLower(name)] {
		again := *tx.get(sibling)
		tx.judge(&again)
		tx.changed[sibling] = &again
	}
}

// list takes the complete list of exported names: what is not in it is gone.
func (tx *importTx) list(r *wire.Response) error {
	var list wire.ExportedServiceList
	if err := proto.Unmarshal(r.Resource.Value, &list); err != nil {
		return refuse(wire.CodeInternal, "list of services: %v", err)
	}
	listed := make(map[string]struct{}, len(list.Services))
	for _, name := range list.Services {
		listed[name] = struct{}{}
	}
	for _, names := range tx.im.names {
		for _, name := range slices.Clone(names) {
			if _, still := listed[name]; !still {
				tx.remove(name)
			}
		}
	}
	tx.im.complete.Store(true)
	return nil
}

// commit stores the changes, as one.
func (tx *importTx) commit(ctx context.Context) error {
	if len(tx.changed) == 0 {
		return nil
	}
	im := tx.im
	events := make([]snapshot.Event, 0, len(tx.changed))
	for name, object := range tx.changed {
		event := snapshot.Event{Key: snapshot.NewKey(snapshot.TableImports, im.link.name, name)}
		if object != nil {
			event.Object = object
		}
		events = append(events, event)
	}
	events[0].Check = acceptsImports(im.link.name, im.link.id)
	var err error
	if tx.ourName == tx.peer.OurName {
		err = im.service.commit(ctx, events...)
	} else {
		err = im.service.update(ctx, im.link.id, func(peer *snapshot.Peer) ([]snapshot.Event, error) {
			peer.OurName = tx.ourName
			return events, nil
		})
	}
	clear(tx.changed)
	return err
}

// acceptsImports refuses imports of a peering that ended while they were under way.
func acceptsImports(name, id string) func(*snapshot.World) error {
	return func(w *snapshot.World) error {
		if peer := w.Peer(name); peer == nil || peer.ID != id || !peer.Usable() {
			return errGone
		}
		return nil
	}
}
