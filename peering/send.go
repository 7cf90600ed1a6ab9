package peering

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// probeName is a name that no service can have. To send that it has no instances changes nothing at the peer, which must
// answer it.
const probeName = "_isthmus-round-trip"

// send sends what the outbox holds, the newest of each.
func (s *session) send(ctx context.Context) error {
	if err := s.recall(ctx); err != nil {
		return err
	}
	for {
		next, ok := s.out.next(s.pulse.waiting() < window)
		if !ok {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-s.out.ready:
			}
			continue
		}
		var err error
		switch next.kind {
		case jobMessage:
			err = s.transmit(ctx, next.message)
		case jobTerminated:
			return s.hangUp(ctx)
		case jobService:
			err = s.sendService(ctx, next.name)
		default:
			err = s.sendSingle(ctx, next.kind)
		}
		if err != nil {
			return err
		}
	}
}

// hangUp says Terminated and gives the peer some time to end the stream itself. Not every peer does.
func (s *session) hangUp(ctx context.Context) error {
	if err := s.transmit(ctx, wire.NewTerminated()); err != nil {
		return err
	}
	s.closeSend()
	drained := time.NewTimer(s.Timing.Drain)
	defer drained.Stop()
	select {
	case <-ctx.Done():
	case <-drained.C:
	}
	return errDeleted
}

// singles are the IDs of the resources of which there is one.
var singles = map[jobKind]string{jobBundle: wire.TrustBundleID, jobAddresses: wire.AddressesID, jobList: wire.ServiceListID, jobProbe: probeName}

// sendSingle sends a resource of which there is one.
func (s *session) sendSingle(ctx context.Context, kind jobKind) error {
	var resource wire.Resource
	var err error
	switch kind {
	case jobBundle:
		resource, err = s.ownBundle()
	case jobAddresses:
		resource, err = wire.NewAddresses(s.Advertise)
	case jobList:
		names := s.exporter.list(s.link.name)
		s.unlist(names)
		resource, err = wire.NewServiceList(names)
	case jobProbe:
		if resource, err = wire.NewService(probeName, nil); err == nil {
			return s.sendResource(ctx, resource)
		}
	}
	if err != nil {
		s.log.WithError(err).Warn("peering resource not sent")
		s.link.note(func(n *notes) { remember(n.unsent, singles[kind], err.Error()) })
		return nil
	}
	return s.sendChanged(ctx, resource)
}

// unlist forgets what was sent of names that the list which is about to be sent leaves out, because the peer does. A name
// that is exported again before its turn came is then sent again.
func (s *session) unlist(names []string) {
	rest := names
	for _, before := range s.listed {
		for len(rest) > 0 && rest[0] < before {
			rest = rest[1:]
		}
		if len(rest) == 0 || rest[0] != before {
			delete(s.sums, wire.TypeService+before)
			delete(s.sums, wire.TypeService+before+wire.ProxySuffix)
		}
	}
	s.listed = names
}

// ownBundle returns our roots as the peer gets them.
func (s *session) ownBundle() (wire.Resource, error) {
	world := s.Store.World()
	cluster := world.Cluster()
	if cluster == nil {
		return wire.Resource{}, fmt.Errorf("trust bundle: the cluster has no identity yet")
	}
	roots := s.Roots()
	if own := world.Roots(); own != nil && len(own.Roots) > 0 {
		roots = own.Roots
	}
	return wire.NewTrustBundle(cluster.TrustDomain, roots)
}

// sendService sends both forms of a service, where they differ from what was sent before.
func (s *session) sendService(ctx context.Context, name string) error {
	world, exported := s.exporter.exports(s.link.name, name)
	if !exported {
		return s.withdraw(ctx, name)
	}
	resources, err := forms(world, s.link.name, name, s.dialect.everyName)
	if err != nil {
		s.log.WithError(err).WithField(logkey.Service, name).Warn("export incomplete")
	}
	s.link.note(func(n *notes) { remember(n.incomplete, name, errorText(err)) })
	s.statusChanged()
	for _, resource := range resources {
		if err := s.announce(ctx, resource.ID()); err != nil {
			return err
		}
		if err := s.sendChanged(ctx, resource); err != nil {
			return err
		}
	}
	return nil
}

// withdraw forgets a service that is not exported any more. Where there is an inventory, the list that went out before
// has said so; else each form that was sent is deleted.
func (s *session) withdraw(ctx context.Context, name string) error {
	for _, form := range []string{name, name + wire.ProxySuffix} {
		key := wire.TypeService + form
		_, sent := s.sums[key]
		delete(s.sums, key)
		if !sent || s.dialect.inventory {
			continue
		}
		resource, err := wire.NewService(form, nil)
		if err != nil {
			continue
		}
		delete(s.announced, form)
		if err := s.sendResource(ctx, resource); err != nil {
			return err
		}
	}
	return nil
}

// sendChanged sends a resource unless the peer has it.
func (s *session) sendChanged(ctx context.Context, resource wire.Resource) error {
	key, sum := resource.URL()+resource.ID(), resource.Sum()
	if before, sent := s.sums[key]; sent && before == sum {
		return nil
	}
	s.sums[key] = sum
	return s.sendResource(ctx, resource)
}

func (s *session) sendResource(ctx context.Context, resource wire.Resource) error {
	nonce := fmt.Sprintf("%08x", s.nonce.Add(1))
	message, err := resource.Message(nonce, s.dialect.deletes)
	if err != nil {
		return err
	}
	s.pulse.sending(nonce, resource.URL(), resource.ID())
	return s.transmit(ctx, message)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// subscribe asks the peer for everything that we take, in the order of the dialect.
func (s *session) subscribe() error {
	peerID := ""
	if s.role == snapshot.Dialer {
		peerID = s.remoteID
	}
	for _, url := range s.dialect.subscriptions(s.role) {
		if s.role == snapshot.Dialer && url == wire.TypeService {
			continue // sent with Open: the peer's dialect shows in its answer
		}
		if err := s.out.post(wire.NewSubscription(peerID, url)); err != nil {
			return err
		}
	}
	return nil
}
