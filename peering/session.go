package peering

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// window is how many Responses may wait for their answers. More are not sent until some came.
const window = 1024

// A session is one stream with a peer, from the moment that both sides know each other until it ends. Receiving,
// applying, sending and the heartbeat are loops of their own, none of which waits for another for longer than the
// watchdog allows; when one ends, for whatever reason, the session ends.
type session struct {
	*Service
	link     *link
	role     snapshot.PeerRole
	remoteID string // the peer's ID of the peering; dialer only
	dialect  dialect
	stream   messageStream
	reader   *reader
	early    []*wire.ReplicationMessage // read before the session began
	out      *outbox
	in       *inbox
	pulse    *pulse
	importer *importer
	log      logrus.FieldLogger
	began    time.Time

	nonce  atomic.Uint32       // of the last Response
	sums   map[string][32]byte // send loop only: what was sent last, by type and ID
	listed []string            // send loop only: the list that was sent last, sorted
	// announced holds the forms that a peer without inventory may have from us. Send loop only.
	announced map[string]struct{}

	idle   *rate.Limiter             // receive loop only: of what is no Response and no answer
	slowed atomic.Pointer[time.Time] // when we last made the peer wait
	paced  atomic.Pointer[time.Time] // when we last did because it sent too much
	// sendingSince is when the message that is being sent right now was begun; nil: none is.
	sendingSince atomic.Pointer[time.Time]
	ending       chan error // has what end was given
	deleting     atomic.Bool
	sending      sync.WaitGroup
	done         chan struct{} // closed when nothing of the session runs any more
}

// newSession returns a session for a stream that is open. fresh says that the stream was opened with a new token's secret.
func (s *Service) newSession(l *link, peer *snapshot.Peer, d dialect, stream messageStream, r *reader, fresh bool) *session {
	log := s.Log.WithField(logkey.Peer, peer.Name)
	session := &session{
		Service: s, link: l, role: peer.Role, remoteID: peer.RemoteID, dialect: d, stream: stream, reader: r,
		out: newOutbox(d.inventory, s.maxControl), in: newInbox(), pulse: newPulse(s.Now, s.Timing.Heartbeat), log: log, began: s.Now(),
		sums: map[string][32]byte{}, ending: make(chan error, 1), done: make(chan struct{}),
	}
	session.importer = newImporter(s, l, peer, d, fresh, log)
	session.out.bundle = true
	session.out.addresses = peer.Role == snapshot.Acceptor && len(s.Advertise) > 0
	return session
}

// run works the stream until it ends, and says why. When it returns nothing of the session writes to the store any more;
// what may still wait inside the stream ends with it, see finish.
func (s *session) run(stream context.Context) error {
	ctx, cancel := context.WithCancelCause(stream)
	defer cancel(nil)
	s.exporter.attach(s.link.name, s.out)
	defer s.exporter.detach(s.out)
	s.sending.Go(func() {
		cancel(s.guard(ctx, "send", s.send))
		s.closeSend()
	})
	var loops sync.WaitGroup
	for name, loop := range map[string]func(context.Context) error{"receive": s.receive, "apply": s.apply, "heartbeat": s.beat} {
		loops.Go(func() { cancel(s.guard(ctx, name, loop)) })
	}
	select {
	case <-ctx.Done():
	case err := <-s.ending:
		cancel(err)
	}
	loops.Wait()
	if s.deleting.Load() {
		return errDeleted
	}
	if stream.Err() != nil {
		return s.reader.reason(context.Cause(ctx))
	}
	return context.Cause(ctx)
}

// closeSend says that nothing more comes from us, where that can be said: a dialer only. It belongs to the send loop.
func (s *session) closeSend() {
	if client, ok := s.stream.(interface{ CloseSend() error }); ok {
		_ = client.CloseSend()
	}
}

// finish waits for what run left inside a stream that is now over, and lets the next session begin.
func (s *session) finish(err error) {
	s.reader.stop()
	s.sending.Wait()
	<-s.reader.over
	s.link.end(s, err)
	close(s.done)
	s.statusChanged()
}

// end ends the session with err.
func (s *session) end(err error) {
	select {
	case s.ending <- err:
	default:
	}
}

// terminate tells the peer that the peering is deleted, and ends the session when it has hung up, or when that takes too long.
func (s *session) terminate() {
	s.deleting.Store(true)
	s.out.change(func() { s.out.terminate = true })
}

// guard turns a panic into the end of this session only.
func (s *session) guard(ctx context.Context, name string, loop func(context.Context) error) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			s.log.WithField(logkey.Reason, fmt.Sprint(problem)).WithField("stack", string(debug.Stack())).Error("peering session panicked")
			err = fmt.Errorf("%s: panic: %v", name, problem)
		}
	}()
	return loop(ctx)
}

// receive reads the stream. It waits for nothing but the inbox, which is full only while the store is slow or the peer
// sends more than it may.
func (s *session) receive(ctx context.Context) error {
	quota := quotas(policy(s.Store.World(), s.link.name))
	pace := rate.NewLimiter(rate.Limit(quota.UpdatesPerSecond), 2*quota.Services+100)
	s.idle = rate.NewLimiter(straysPerSecond, 10*straysPerSecond)
	for {
		var message *wire.ReplicationMessage
		if len(s.early) > 0 {
			message, s.early = s.early[0], s.early[1:]
		} else {
			var err error
			if message, err = s.reader.read(ctx); err != nil {
				return ended(err)
			}
		}
		s.pulse.received()
		if err := readable(message); err != nil {
			return err
		}
		switch payload := message.GetPayload().(type) {
		case *wire.ReplicationMessage_Heartbeat:
			s.pulse.heartbeatReceived()
			s.statusChanged()
			if s.idle.Allow() {
				continue
			}
			if err := s.stray(ctx); err != nil {
				return err
			}
		case *wire.ReplicationMessage_Request:
			if err := s.request(ctx, payload.Request); err != nil {
				return err
			}
		case *wire.ReplicationMessage_Response:
			if err := s.admit(ctx, pace, payload.Response); err != nil {
				return err
			}
		case *wire.ReplicationMessage_Terminated:
			return errTerminated
		case *wire.ReplicationMessage_Open:
			return errors.New("the peer opened the stream twice")
		default:
			if err := s.stray(ctx); err != nil {
				return err
			}
		}
	}
}

// maxEcho bounds what an answer repeats of what it answers. The peer decides how much of it waits here.
const maxEcho = 1 << 10

// readable wants a message that can be answered.
func readable(message *wire.ReplicationMessage) error {
	r := message.GetResponse()
	if longest := max(len(r.GetNonce()), len(r.GetResourceURL())); longest > maxEcho {
		return fmt.Errorf("a nonce or type URL of %d bytes: want at most %d", longest, maxEcho)
	}
	return nil
}

// admit lets a response in at the pace that the peer's quota allows. While it waits, everything that the peer sent after
// it waits too, its answers included, so that the watchdog must not count that time against the peer.
func (s *session) admit(ctx context.Context, pace *rate.Limiter, r *wire.Response) error {
	before := s.Now()
	var err error
	if !pace.Allow() {
		s.paced.Store(&before)
		err = pace.Wait(ctx)
	}
	if err == nil {
		err = s.in.put(ctx, r)
	}
	if after := s.Now(); after.Sub(before) > time.Millisecond {
		s.slowed.Store(&after)
	}
	return err
}

// straysPerSecond is how many heartbeats, and messages that mean nothing, are read in a second.
const straysPerSecond = 100

// stray counts a message that means nothing here. Such messages are read slowly when there are many. The watchdog does not
// make up for that: a peer whose answers wait behind them for too long has its stream ended.
func (s *session) stray(ctx context.Context) error {
	s.link.note(func(n *notes) { n.strays++ })
	return s.idle.Wait(ctx)
}

// apply stores what was received, as much at once as there is, and then answers it.
func (s *session) apply(ctx context.Context) error {
	if err := s.importer.load(); err != nil {
		return err
	}
	sweep := time.NewTimer(s.Timing.Sweep)
	defer sweep.Stop()
	var batch []*wire.Response
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.in.ready:
			if len(batch) >= burst {
				s.in.gather(ctx)
			}
			batch = s.in.take()
			if s.deleting.Load() {
				continue // whatever it is, nothing of the peer is taken any more
			}
			answers, err := s.importer.apply(ctx, batch)
			if err != nil {
				return err
			}
			for _, message := range answers {
				if err := s.out.post(message); err != nil {
					return err
				}
			}
			sweep.Reset(s.Timing.Sweep)
			s.statusChanged()
		case <-sweep.C:
			if err := s.importer.sweep(ctx); err != nil {
				return err
			}
		}
	}
}

// beat sends heartbeats, and ends the session when the peer has been silent for too long.
func (s *session) beat(ctx context.Context) error {
	beat := time.NewTicker(s.Timing.Heartbeat)
	defer beat.Stop()
	watch := time.NewTicker(max(s.Timing.Heartbeat/5, time.Millisecond))
	defer watch.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-beat.C:
			if err := s.out.post(wire.NewHeartbeat()); err != nil {
				return err
			}
			s.out.change(func() { s.out.probe = true })
		case <-watch.C:
			if since := s.sendingSince.Load(); since != nil && s.Now().Sub(*since) >= s.Timing.Silence {
				return stuck("the peer does not read: what was sent at %s still waits", stamp(*since))
			}
			last := s.pulse.read().verified
			if last.Before(s.began) {
				last = s.began
			}
			if slowed := s.slowed.Load(); slowed != nil && last.Before(*slowed) {
				last = *slowed
			}
			if age := s.Now().Sub(last); age >= s.Timing.Silence {
				return stuck("no round trip for %s: the peer does not answer", age.Round(time.Second))
			}
			s.statusChanged()
		}
	}
}

// ignored counts fields by which the peer said who it, or something of it, is. Only the stream's secret says that.
func (s *session) ignored(count uint64) {
	s.link.note(func(n *notes) { n.ignored += count })
}

// answered takes the peer's answer to a Response.
func (s *session) answered(sent sentResponse, r *wire.Request) {
	reason := ""
	if r.Error != nil {
		reason = "refused by the peer: " + printable(r.Error.Message, 300)
		s.log.WithFields(logrus.Fields{logkey.TypeURL: sent.url, logkey.Name: sent.id, logkey.Reason: reason}).Warn("peer refused a resource")
	}
	s.link.note(func(n *notes) {
		if sent.url == wire.TypeService {
			remember(n.refusedByPeer, sent.id, reason)
		} else {
			remember(n.unsent, sent.id, reason)
		}
	})
	s.statusChanged()
}

// transmit sends one message. When the stream is over its reason comes with the next read, which ends the session.
func (s *session) transmit(ctx context.Context, message wire.Message) error {
	began := s.Now()
	s.sendingSince.Store(&began)
	err := message.Send(s.stream)
	s.sendingSince.Store(nil)
	if errors.Is(err, io.EOF) {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if err != nil {
		return ended(err)
	}
	s.pulse.sent()
	if message.IsHeartbeat() {
		s.pulse.heartbeatSent()
	}
	return nil
}
