package peering

import (
	"context"
	"sync"
	"time"
)

// A link is what this process knows of one peering and stores nowhere: which stream counts, and how that goes.
type link struct {
	id, name string
	// kick wakes the dialer from its pause.
	kick chan struct{}

	mu      sync.Mutex
	session *session  // the stream that counts; nil: none
	last    beats     // of the session before
	seen    time.Time // last round trip of any session before, those of former processes included; zero: none is known
	failure string    // why there is no stream, or why the last attempt failed; empty: nothing was tried
	failed  time.Time
	rest    time.Duration // pause until the next attempt
	notes   notes
}

// notes is what a link remembers for Status beyond a session.
type notes struct {
	refusedByPeer map[string]string // our exports that the peer refused, and its words
	unsent        map[string]string // what there is one of and the peer has not got from us, and why
	incomplete    map[string]string // our exports of which something was left out, and why
	refusedByUs   map[string]string // resources of the peer that we refused, and why
	fresh         bool              // dialer: a new token's secret was not used for a stream yet
	sessions      uint64            // that began
	ignored       uint64            // fields by which the peer said who it is, or who sent something
	strays        uint64            // messages of the peer, on this stream, that mean nothing here
}

func newLink(id, name string) *link {
	return &link{id: id, name: name, kick: make(chan struct{}, 1), notes: notes{
		refusedByPeer: map[string]string{}, unsent: map[string]string{}, incomplete: map[string]string{}, refusedByUs: map[string]string{},
	}}
}

// begin makes session the one that counts. A session that counted before is ended, and waited for.
func (l *link) begin(ctx context.Context, session *session) error {
	for {
		l.mu.Lock()
		former := l.session
		if former == nil {
			l.session, l.failure = session, ""
			l.notes.sessions++
			l.notes.strays = 0
			clear(l.notes.refusedByPeer)
			clear(l.notes.unsent)
			clear(l.notes.incomplete)
			clear(l.notes.refusedByUs)
			l.mu.Unlock()
			return nil
		}
		l.mu.Unlock()
		former.end(errReplaced)
		select {
		case <-former.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end says that a session's goroutines have ended, and why.
func (l *link) end(session *session, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session != session {
		return
	}
	l.session, l.last, l.failure = nil, session.pulse.read(), printable(err.Error(), longestReason)
	l.failed = session.Now()
	l.seen = later(l.seen, l.last.verified)
}

// missed notes an attempt that brought no session, or that one ended, and when the next will be.
func (l *link) missed(err error, at time.Time, rest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure, l.failed, l.rest = printable(err.Error(), longestReason), at, rest
}

// current returns the session that counts, or nil.
func (l *link) current() *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session
}

// pulse returns what was measured of the stream that counts, else of the one before.
func (l *link) pulse() beats {
	l.mu.Lock()
	session, last := l.session, l.last
	l.mu.Unlock()
	if session != nil {
		return session.pulse.read()
	}
	return last
}

// lastSeen returns when the last round trip was, and whether there is a session.
func (l *link) lastSeen() (at time.Time, connected bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == nil {
		return l.seen, false
	}
	return later(l.seen, l.session.pulse.read().verified), true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// wake ends the dialer's pause.
func (l *link) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// noted bounds what a peer can make us remember.
const noted = 1000

func (l *link) note(in func(*notes)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	in(&l.notes)
}

// remember keeps a reason for a name, and forgets it with an empty one. Both may be a peer's words.
func remember(reasons map[string]string, name, reason string) {
	name = printable(name, longestName)
	if reason == "" {
		delete(reasons, name)
	} else if _, known := reasons[name]; known || len(reasons) < noted {
		reasons[name] = printable(reason, longestReason)
	}
}

// takeFresh tells whether the next stream is the first with a new token's secret.
func (s *Service) takeFresh(l *link) (fresh bool) {
	l.note(func(n *notes) { fresh, n.fresh = n.fresh, false })
	return fresh
}
