package peering

import (
	"context"
	"errors"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// supervise starts and ends what each peering needs, as the peers of published Worlds say: a dialer, or the deletion. It
// returns when ctx ends; what it started is counted in tasks.
func (s *Service) supervise(ctx context.Context) {
	worlds := s.Publisher.Subscribe()
	defer worlds.Close()
	stale := time.NewTicker(s.Timing.Heartbeat)
	defer stale.Stop()
	v := &supervisor{Service: s, dialing: map[string]context.CancelFunc{}, deleting: map[string]bool{}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-stale.C:
			s.noteSeen(ctx)
			s.expire(ctx)
		case <-worlds.Ready():
			if update := worlds.Take(); update.All || concernsPeers(update.Changed) {
				v.follow(ctx, update)
			}
		}
	}
}

// supervisor is what supervise has started, by our IDs of the peerings.
type supervisor struct {
	*Service
	dialing  map[string]context.CancelFunc
	deleting map[string]bool
}

// follow brings what runs in step with the peers of a World.
func (v *supervisor) follow(ctx context.Context, update snapshot.Update) {
	v.followPolicies(update)
	present := map[string]bool{}
	for _, peer := range update.World.Peers() {
		present[peer.ID] = true
		v.ensure(ctx, peer)
	}
	for id, stop := range v.dialing {
		if !present[id] {
			stop()
			delete(v.dialing, id)
		}
	}
	for id := range v.deleting {
		if !present[id] {
			delete(v.deleting, id)
		}
	}
	if v.forgetLinks(present) {
		v.askAgain(update.World)
	}
}

// askAgain has peers whose trust domain was refused send it again, after another peering went: it may have been that one's.
func (v *supervisor) askAgain(w *snapshot.World) {
	for _, peer := range w.Peers() {
		if peer.Problem == "" {
			continue
		}
		if session := v.link(peer).current(); session != nil {
			session.end(errResync)
		}
	}
}

// ensure starts what a peering needs and has not got.
func (v *supervisor) ensure(ctx context.Context, peer *snapshot.Peer) {
	l := v.link(peer)
	switch peer.State {
	case snapshot.Terminated:
	case snapshot.Deleting:
		if !v.deleting[peer.ID] {
			v.deleting[peer.ID] = true
			v.tasks.Go(func() { v.finishDeletion(ctx, l) })
		}
	default:
		if peer.Role == snapshot.Dialer && v.dialing[peer.ID] == nil {
			dialing, stop := context.WithCancel(ctx)
			v.dialing[peer.ID] = stop
			v.tasks.Go(func() { v.keepDialing(dialing, l) })
		}
	}
}

func concernsPeers(changed []snapshot.Key) bool {
	for _, key := range changed {
		if key.Table == snapshot.TablePeers || key.Table == snapshot.TableEntries {
			return true
		}
	}
	return false
}

// forgetLinks drops what was known of peerings that are no more, and ends their sessions. It tells whether there were any.
// A peering that is not present yet, because it is younger than what present was read from, is one all the same.
func (s *Service) forgetLinks(present map[string]bool) (any bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, l := range s.links {
		if present[id] || peerByID(s.Store.World(), id) != nil {
			continue
		}
		if session := l.current(); session != nil {
			session.end(errGone)
		}
		delete(s.links, id)
		any = true
	}
	return any
}

// followPolicies starts again the sessions whose quotas or accepted names changed: what was refused under the old ones
// comes again only on a new stream.
func (s *Service) followPolicies(update snapshot.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		if session := l.current(); session != nil && session.importer.differs(policy(update.World, l.name)) {
			session.end(errResync)
		}
	}
}

// Delete ends a peering: what the peer exported to us goes at once, the peer is told if it is there, and then the
// peering itself goes, with its secrets. A name that is not there is no error.
func (s *Service) Delete(ctx context.Context, name string) error {
	s.rows.Lock()
	defer s.rows.Unlock()
	world := s.Store.World()
	peer := world.Peer(name)
	if peer == nil || peer.State == snapshot.Deleting {
		return nil
	}
	row := *peer
	row.State, row.DeletedAt = snapshot.Deleting, s.Now().UTC()
	events := []snapshot.Event{{Key: snapshot.NewKey(snapshot.TablePeers, name), Object: &row, Check: stillThere(name, peer.ID)}}
	s.Log.WithField(logkey.Peer, name).Info("peering being deleted")
	return s.commit(ctx, append(events, importsGone(world, name)...)...)
}

// importsGone returns the events that remove everything that a peer exported to us.
func importsGone(w *snapshot.World, peer string) []snapshot.Event {
	var events []snapshot.Event
	for _, imported := range w.Imports(peer) {
		events = append(events, snapshot.Event{Key: snapshot.NewKey(snapshot.TableImports, peer, imported.Service)})
	}
	return events
}

// finishDeletion tells the peer, if it is there, and removes the peering. When the store does not take it, it tries again.
func (s *Service) finishDeletion(ctx context.Context, l *link) {
	session := l.current()
	if session == nil {
		s.tell(ctx, l)
	} else {
		session.terminate()
		limit := time.NewTimer(s.Timing.Drain + time.Second)
		select {
		case <-session.done:
		case <-limit.C:
			session.end(errDeleted)
		case <-ctx.Done():
		}
		limit.Stop()
	}
	for failures := 0; ctx.Err() == nil; failures++ {
		err := s.remove(ctx, l)
		if err == nil || errors.Is(err, errGone) {
			s.Log.WithField(logkey.Peer, l.name).Info("peering deleted")
			return
		}
		pause := s.Timing.backoff(failures)
		s.Log.WithError(err).WithField(logkey.Peer, l.name).WithField(logkey.RetryIn, pause).Warn("peering not deleted")
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
}

// tell opens a stream only to say that the peering is deleted. When nobody is there the peer will find out when it dials,
// or, if it never dials, never.
func (s *Service) tell(ctx context.Context, l *link) {
	peer := peerByID(s.Store.World(), l.id)
	secret, ok := s.vault.dialer(l.id)
	if peer == nil || !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timing.Connect+s.Timing.Drain)
	defer cancel()
	for _, address := range targets(peer) {
		client, err := s.client(ctx, peer, address)
		if err != nil {
			continue
		}
		stream, err := s.openStream(ctx, client, peer, secret)
		if err == nil && wire.NewTerminated().Send(stream) == nil {
			_ = stream.CloseSend()
			for err == nil {
				_, err = stream.Recv()
			}
			client.Close()
			return
		}
		client.Close()
	}
}

// remove takes away the secrets of a deleted peering, its imports if any came late, and its row.
func (s *Service) remove(ctx context.Context, l *link) error {
	s.rows.Lock()
	defer s.rows.Unlock()
	world := s.Store.World()
	events := append(s.vault.forget(l.id), s.vault.bury(l.id, s.Now().UTC())...)
	events = append(events, importsGone(world, l.name)...)
	events = append(events, snapshot.Event{Key: snapshot.NewKey(snapshot.TablePeers, l.name), Check: stillThere(l.name, l.id)})
	return s.commit(ctx, events...)
}

// terminatedByPeer keeps the row, so that people see what happened, and removes all that came from the peer, its roots
// and the secrets, as one.
func (s *Service) terminatedByPeer(ctx context.Context, id string) error {
	err := s.update(ctx, id, func(peer *snapshot.Peer) ([]snapshot.Event, error) {
		if peer.State == snapshot.Deleting {
			return nil, errUnchanged
		}
		peer.State, peer.Roots, peer.Problem = snapshot.Terminated, nil, ""
		s.Log.WithField(logkey.Peer, peer.Name).Warn("peering terminated by the peer")
		return append(s.vault.forget(id), importsGone(s.Store.World(), peer.Name)...), nil
	})
	if errors.Is(err, errUnchanged) || errors.Is(err, errGone) {
		return nil
	}
	return err
}
