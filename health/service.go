package health

import (
	"context"
	"fmt"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// sidecarSuffix ends the ID of the sidecar that is registered with a service.
const sidecarSuffix = "-sidecar-proxy"

// aliasOf returns the worst that the checks of an alias's service say.
func aliasOf(w *snapshot.World, alias *snapshot.Check) result {
	service := alias.Definition.AliasService
	if w.InstanceByID(alias.Node, service) == nil {
		return result{config.HealthCritical, fmt.Sprintf("Service %s could not be found on node %s", service, alias.Node)}
	}
	found := result{config.HealthPassing, "No checks found."}
	for _, check := range w.Checks(alias.Node, service) {
		switch {
		case check.CheckID == alias.CheckID && check.ServiceID == alias.ServiceID:
		case check.Status == config.HealthPassing:
			if found.status == config.HealthPassing {
				found.output = "All checks passing."
			}
		case check.Status == config.HealthWarning:
			if found.status == config.HealthPassing {
				found = result{config.HealthWarning, fmt.Sprintf("Aliased check %q is warning", check.Name)}
			}
		case found.status != config.HealthCritical:
			found = result{config.HealthCritical, fmt.Sprintf("Aliased check %q is critical", check.Name)}
		}
	}
	return found
}

// deregister takes away the service of a check that was critical for as long as its definition allows.
func (r *runner) deregister(ctx context.Context, w *watched) {
	instance := r.world.InstanceByID(w.check.Node, w.check.ServiceID)
	if instance == nil {
		return
	}
	events := deregistration(r.world, instance)
	events[0].Check = unmoved(w.check)
	log := r.cfg.Log.WithField(logkey.Service, w.check.ServiceID).WithField(logkey.Reason, w.check.Name)
	r.beside(ctx, w, func(ctx context.Context) report {
		_, err := r.cfg.Store.Commit(ctx, events...)
		if err == nil {
			log.Warn("service deregistered: its check stayed critical")
		}
		return report{err: err}
	})
}

// deregistration returns what takes an instance away: itself, its checks, and the sidecar that came with it.
func deregistration(w *snapshot.World, i *snapshot.Instance) []snapshot.Event {
	id := i.Service.ID
	events := []snapshot.Event{{Key: snapshot.NewKey(snapshot.TableInstances, i.Service.Name, i.Node, id)}}
	for _, check := range w.Checks(i.Node, id) {
		events = append(events, snapshot.Event{Key: snapshot.NewKey(snapshot.TableChecks, i.Node, id, check.CheckID)})
	}
	sidecar := w.InstanceByID(i.Node, id+sidecarSuffix)
	if sidecar != nil && sidecar.Service.Kind == config.KindSidecar && sidecar.Service.Proxy != nil && sidecar.Service.Proxy.DestinationServiceID == id {
		events = append(events, deregistration(w, sidecar)...)
	}
	return events
}
