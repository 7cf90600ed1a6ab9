package peering

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// keepDialing holds the stream to one peer: it dials, and dials again after a growing pause, until ctx ends or the
// peering does. A session that was healthy makes the next pauses short again.
func (s *Service) keepDialing(ctx context.Context, l *link) {
	failures, said := 0, ""
	var doubted time.Time
	for turn := 0; ; turn++ {
		peer := peerByID(s.Store.World(), l.id)
		if peer == nil || peer.State == snapshot.Deleting || peer.State == snapshot.Terminated {
			return
		}
		if _, ok := s.vault.dialer(l.id); !ok {
			// Establish has not got that far yet, or never did.
			select {
			case <-ctx.Done():
				return
			case <-l.kick:
				continue
			}
		}
		healthy, err := s.dialDoubted(ctx, l, peer, turn, doubted)
		if ctx.Err() != nil || errors.Is(err, errTerminated) || errors.Is(err, errDeleted) {
			return
		}
		if healthy {
			failures, said = 0, ""
		}
		if endedWith(err) == codes.FailedPrecondition {
			failures = min(failures, electing)
		}
		if formerCounts(err) {
			doubted = s.Now()
		}
		pause := s.Timing.backoff(failures)
		if errors.Is(err, errDoubted) {
			pause += time.Second // the next stream must not meet this one
		}
		failures++
		l.missed(explain(err), s.Now(), pause)
		s.statusChanged()
		if why := err.Error(); why != said {
			s.Log.WithError(err).WithField(logkey.Peer, l.name).WithField(logkey.RetryIn, pause).Warn("peer not connected")
			said = why // the same again is no news
		}
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-l.kick:
			failures = 0
		case <-wait.C:
		}
		wait.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// electing is how many failures in a row count at most when a server of the peer says that it is not the one that holds
// streams: another is, or will be in some seconds, so that pauses stay below one.
const electing = 4

// endedWith returns the code with which the peer ended a stream, or OK when it was not the peer.
func endedWith(err error) codes.Code {
	var from *streamError
	if !errors.As(err, &from) {
		return codes.OK
	}
	return from.status.Code()
}

// explain adds what an operator can do, or expect, where the peer's words do not say it.
func explain(err error) error {
	switch endedWith(err) {
	case codes.PermissionDenied:
		return fmt.Errorf("%w: the peer does not know our secret any more: establish again with a new token", err)
	case codes.InvalidArgument:
		return fmt.Errorf("%w: the peer may have deleted the peering: if so, delete it here, and establish again with a new token", err)
	case codes.Aborted:
		return fmt.Errorf("%w: the peer has ended this peering, or opened another stream", err)
	case codes.FailedPrecondition:
		return fmt.Errorf("%w: that server of the peer is not its leader: the next is tried", err)
	}
	if formerCounts(err) {
		return fmt.Errorf("%w: the peer has not noticed yet that our former stream is gone, which takes it two minutes at most", err)
	}
	return err
}

// formerCounts tells whether the peer refused a stream because it has one of ours, which is gone.
func formerCounts(err error) bool {
	return endedWith(err) == codes.Unknown && strings.Contains(err.Error(), "there is an active stream")
}

// unnoticed is how long a stream that is dead may count at the peer, and a little more.
const unnoticed = 125 * time.Second

// dialDoubted is dialOnce after the peer, at the time of doubted, refused a stream for one that is gone. It may take the
// next all the same, and when it notices the first, count the next as gone with it. So that one is ended when that must
// have happened.
func (s *Service) dialDoubted(ctx context.Context, l *link, peer *snapshot.Peer, turn int, doubted time.Time) (healthy bool, err error) {
	if left := unnoticed - s.Now().Sub(doubted); left > 0 {
		ending, end := context.WithCancelCause(ctx)
		defer end(nil)
		timer := time.AfterFunc(left, func() { end(errDoubted) })
		defer timer.Stop()
		ctx = ending
	}
	return s.dialOnce(ctx, l, peer, turn)
}

// dialOnce opens one stream, at the address whose turn it is, and works it until it ends. healthy tells whether there
// was a round trip.
func (s *Service) dialOnce(ctx context.Context, l *link, peer *snapshot.Peer, turn int) (healthy bool, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			s.Log.WithField(logkey.Peer, l.name).WithField(logkey.Reason, fmt.Sprint(problem)).WithField("stack", string(debug.Stack())).Error("dialling panicked")
			err = fmt.Errorf("panic: %v", problem)
		}
	}()
	secret, ok := s.vault.dialer(l.id)
	addresses := targets(peer)
	if !ok || len(addresses) == 0 {
		return false, errors.New("no secret or no address is stored for the peer: establish the peering with a new token")
	}
	address := addresses[turn%len(addresses)]
	client, err := s.client(ctx, peer, address)
	if err != nil {
		return false, fmt.Errorf("dial %s: %w", address, err)
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.openStream(ctx, client, peer, secret)
	if err != nil {
		return false, fmt.Errorf("dial %s: %w", address, ended(err))
	}
	session, err := s.greet(ctx, l, peer, stream)
	if err != nil {
		return false, fmt.Errorf("%s: %w", address, ended(err))
	}
	defer session.reader.stop()
	if err := l.begin(ctx, session); err != nil {
		return false, err
	}
	session.log.WithField(logkey.Address, address).WithField("dialect", session.dialect.name).Info("peer connected")
	err = s.converse(ctx, session)
	if errors.Is(err, errTerminated) {
		session.reader.drain(ctx, maxControl, s.Timing.Drain) // the peer waits for our end of the stream to be closed
	}
	cancel()
	client.Close()
	session.finish(err)
	session.log.WithError(err).Info("peer disconnected")
	return !session.pulse.read().verified.IsZero(), err
}

// converse runs a session and acts on how it ended.
func (s *Service) converse(ctx context.Context, session *session) error {
	if err := session.subscribe(); err != nil {
		return err
	}
	err := session.run(ctx)
	if errors.Is(err, errTerminated) {
		err = errors.Join(err, s.terminatedByPeer(context.WithoutCancel(ctx), session.link.id))
	}
	return err
}

// openStream opens a stream and says who we are. The first subscription goes with it, because a peer that refuses Open
// may only notice then.
func (s *Service) openStream(ctx context.Context, client *peerConn, peer *snapshot.Peer, secret dialerSecret) (wire.PeerStreamService_StreamResourcesClient, error) {
	stream, err := wire.NewPeerStreamServiceClient(client).StreamResources(ctx)
	if err != nil {
		return nil, err
	}
	datacenter := ""
	if cluster := s.Store.World().Cluster(); cluster != nil {
		datacenter = cluster.Datacenter
	}
	for _, message := range []wire.Message{
		wire.NewOpen(peer.RemoteID, secret.Secret, datacenter), wire.NewSubscription(peer.RemoteID, wire.TypeService),
	} {
		if message.Send(stream) != nil {
			break // the reason comes with the first read
		}
	}
	return stream, nil
}

// greet waits for the peer's first subscriptions, which show that it let us in and which dialect it speaks.
func (s *Service) greet(ctx context.Context, l *link, peer *snapshot.Peer, stream messageStream) (*session, error) {
	r := s.newReader(stream)
	d, early, err := detect(ctx, r, dialectNamed(peer.Dialect), s.Timing.Open)
	if err == nil && len(early) == 0 {
		err = fmt.Errorf("the peer said nothing for %s", s.Timing.Open)
	}
	if err != nil {
		r.stop()
		return nil, err
	}
	session := s.newSession(l, peer, d, stream, r, s.takeFresh(l))
	session.early = early
	return session, nil
}
