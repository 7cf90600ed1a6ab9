package peering

import (
	"context"
	"errors"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// supervise starts and ends what each peering needs, as the peers of published Worlds say: a dialer, or the deletion. It
// returns when all that it started has.
func (s *Service) supervise(ctx context.Context) {
	worlds := s.Publisher.Subscribe()
	defer worlds.Close()
	running := map[string]context.CancelFunc{} // dialers by ID of the peering
	deleting := map[string]bool{}
	for {
		update, err := worlds.Next(ctx)
		if err != nil {
			return
		}
		if !update.All && !concernsPeers(update.Changed) {
			continue
		}
		s.followPolicies(update)
		present := map[string]bool{}
		for _, peer := range update.World.Peers() {
			present[peer.ID] = true
			l := s.link(peer)
			switch peer.State {
			case snapshot.Deleting:
				if !deleting[peer.ID] {
					deleting[peer.ID] = true
					s.tasks.Go(func() { s.finishDeletion(ctx, l) })
				}
			case snapshot.Terminated:
			default:
				if peer.Role == snapshot.Dialer && running[peer.ID] == nil {
					dialing, stop := context.WithCancel(ctx)
					running[peer.ID] = stop
					s.tasks.Go(func() { s.keepDialing(dialing, l) })
				}
			}
		}
		for id, stop := range running {
			if !present[id] {
				stop()
				delete(running, id)
			}
		}
		for id := range deleting {
			if !present[id] {
				delete(deleting, id)
			}
		}
		s.forgetLinks(present)
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

// forgetLinks drops what was known of peerings that are no more, and ends their sessions.
func (s *Service) forgetLinks(present map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, l := range s.links {
		if present[id] {
			continue
		}
		if session := l.current(); session != nil {
			session.end(errGone)
		}
		delete(s.links, id)
	}
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
	if session := l.current(); session != nil {
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

// remove takes away the secrets of a deleted peering, its imports if any came late, and its row.
func (s *Service) remove(ctx context.Context, l *link) error {
	s.rows.Lock()
	defer s.rows.Unlock()
	world := s.Store.World()
	events := append(s.vault.forget(l.id), importsGone(world, l.name)...)
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
