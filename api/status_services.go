package api

import (
	"cmp"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// exports tells of each named export whether it is one, by its entry and by what the peer was told, and whether anybody
// could be reached by it.
func (s *server) exports(w *snapshot.World) []ExportStatus {
	list := []ExportStatus{}
	reaches := map[string]snapshot.Reach{}
	add := func(service, peer, reason string) {
		reach, known := reaches[service]
		if !known {
			reach = snapshot.ReachOf(w, service)
			reaches[service] = reach
		}
		export := ExportStatus{
			Service: service, Peer: peer, Exported: reason == "", Reason: reason,
			Sidecars: reach.Addresses, Healthy: reach.Healthy, Down: reach.Reason, Admits: snapshot.Admits(w, service, peer),
		}
		switch {
		case reason != "":
			export.Fix = snapshot.ExportFix(w, service, peer, reason)
		case export.Down != "":
			export.Fix = reach.Fix
		case !export.Admits:
			export.Fix = snapshot.IntentionFix("SERVICE", peer, service)
		}
		list = append(list, export)
	}
	for _, p := range w.Peers() {
		refused := s.peerStatus(p).NotExported
		for service, reason := range snapshot.Exported(w, p.Name) {
			add(service, p.Name, cmp.Or(reason, refused[service]))
		}
	}
	exportsToNobody(w, func(service, peer string) { add(service, peer, "no such peer") })
	return list
}

// exportsToNobody yields those to peers that there are not.
func exportsToNobody(w *snapshot.World, yield func(service, peer string)) {
	entry, _ := snapshot.EntryOf[*config.ExportedServices](w, config.DefaultNamespace)
	if entry == nil {
		return
	}
	for _, service := range entry.Services {
		for _, consumer := range service.Consumers {
			if w.Peer(consumer.Peer) == nil {
				yield(service.Name, consumer.Peer)
			}
		}
	}
}

func imports(w *snapshot.World) []ImportStatus {
	list := []ImportStatus{}
	for _, i := range snapshot.ImportStates(w) {
		list = append(list, ImportStatus{
			Peer: i.Peer, Service: i.Service, Routable: i.Reason == "", Reason: cmp.Or(i.NotRoutable, i.Reason), Gateways: len(i.Import.Gateways),
			Dialled: i.Gateways.Addresses, Healthy: i.Gateways.Healthy, Refused: i.Gateways.Left, Callers: i.Callers,
			Down: i.Down, Expected: i.Chosen, Fix: i.Fix,
		})
	}
	return list
}
