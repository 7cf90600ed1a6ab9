package peering

import (
	"context"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// seenEvery is how far the stored time of a peer's last round trip may be behind while there is a stream.
const seenEvery = time.Minute

// noteSeen stores when the last round trip with each peer was, so that its imports age over our restarts too. What is
// stored is behind the truth by seenEvery at most, or a quarter of MaxStale if that is less: a crash makes imports expire
// that much too early. It runs with each heartbeat and at the end.
func (s *Service) noteSeen(ctx context.Context) {
	s.rows.Lock()
	defer s.rows.Unlock()
	world := s.Store.World()
	var events []snapshot.Event
	for _, peer := range world.Peers() {
		if !peer.Usable() {
			continue
		}
		seen, connected := s.link(peer).lastSeen()
		due := time.Duration(1)
		if connected {
			due = seenEvery
			if limit := policy(world, peer.Name).MaxStale; limit > 0 {
				due = min(due, limit/4)
			}
		}
		if !seen.IsZero() && seen.Sub(s.vault.lastSeen(peer.ID)).Abs() >= due {
			events = append(events, record(kindSeen, peer.ID, seen.UTC()))
		}
	}
	if len(events) == 0 {
		return
	}
	if err := s.commit(ctx, events...); err != nil {
		s.Log.WithError(err).Warn("times of the last round trips not stored")
	}
}

// expire removes what peers exported to us that have been away for longer than their policy allows: since the last round
// trip, or since our start where none is known. It comes again with the peer.
func (s *Service) expire(ctx context.Context) {
	world := s.Store.World()
	for _, peer := range world.Peers() {
		limit := policy(world, peer.Name).MaxStale
		if limit <= 0 || !peer.Usable() {
			continue
		}
		seen, connected := s.link(peer).lastSeen()
		if seen.IsZero() {
			seen = s.started
		}
		if connected || s.Now().Sub(seen) < limit {
			continue
		}
		events := importsGone(world, peer.Name)
		if len(events) == 0 {
			continue
		}
		s.Log.WithField(logkey.Peer, peer.Name).WithField(logkey.Resources, len(events)).Warn("imports expired")
		if err := s.commit(ctx, events...); err != nil {
			s.Log.WithError(err).WithField(logkey.Peer, peer.Name).Warn("imports not expired")
		}
	}
}
