package peering

import (
	"sync"
	"time"
)

// pulse measures whether a stream works in both directions. That a stream exists, and even that its heartbeats arrive,
// does not prove that the peer reads what we send. So a round trip is verified only by
//
//   - an answer, ACK or NACK, to a Response of ours, or
//   - a heartbeat that arrives after one of ours left, while no Response of ours has waited for its answer for longer
//     than a heartbeat.
//
// With every heartbeat the session sends a probe, a Response that says nothing new, so that there is an answer to wait for.
type pulse struct {
	now       func() time.Time
	heartbeat time.Duration

	mu         sync.Mutex
	unanswered map[string]sentResponse // by nonce
	order      []string                // nonces as sent; answered ones are dropped from its front
	beats
	sentBeat time.Time
}

// beats is what status shows of a pulse.
type beats struct {
	verified      time.Time // zero: not yet
	lastHeartbeat time.Time
	lastReceive   time.Time
	lastSend      time.Time
	roundTrip     time.Duration
}

// sentResponse is a Response that the peer has not answered.
type sentResponse struct {
	at      time.Time
	url, id string
}

func newPulse(now func() time.Time, heartbeat time.Duration) *pulse {
	return &pulse{now: now, heartbeat: heartbeat, unanswered: map[string]sentResponse{}}
}

// sent notes that a message left.
func (p *pulse) sent() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastSend = p.now()
}

// heartbeatSent notes that a heartbeat left.
func (p *pulse) heartbeatSent() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sentBeat = p.now()
}

// sending notes that a Response is about to leave. It comes before the send, because the answer may be faster than us.
func (p *pulse) sending(nonce, url, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unanswered[nonce] = sentResponse{p.now(), url, id}
	p.order = append(p.order, nonce)
}

// waiting returns how many Responses have no answer yet.
func (p *pulse) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.unanswered)
}

// received notes that a message arrived.
func (p *pulse) received() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastReceive = p.now()
}

// heartbeatReceived notes a heartbeat.
func (p *pulse) heartbeatReceived() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.lastHeartbeat = now
	if p.sentBeat.IsZero() {
		return
	}
	if oldest, ok := p.oldest(); ok && now.Sub(oldest) > p.heartbeat {
		return
	}
	p.verified = now
}

// answered returns what a nonce was sent with, and false for a nonce that waits for no answer.
func (p *pulse) answered(nonce string) (sentResponse, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sent, ok := p.unanswered[nonce]
	if !ok {
		return sent, false
	}
	delete(p.unanswered, nonce)
	p.oldest()
	p.verified = p.now()
	p.roundTrip = p.verified.Sub(sent.at)
	return sent, true
}

// oldest returns when the oldest unanswered Response left. It runs with mu held.
func (p *pulse) oldest() (time.Time, bool) {
	for len(p.order) > 0 {
		if sent, ok := p.unanswered[p.order[0]]; ok {
			return sent.at, true
		}
		p.order = p.order[1:]
	}
	return time.Time{}, false
}

func (p *pulse) read() beats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.beats
}
