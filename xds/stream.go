package xds

import (
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/sirupsen/logrus"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/peer"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

const (
	// patience is how long one phase of a push waits for the ACK of another.
	patience = 2 * time.Second
	// watchdog is how long a proxy may leave a response without an answer.
	watchdog = 30 * time.Second
)

type (
	request  = discoveryv3.DeltaDiscoveryRequest
	grpcConn = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
)

// A stream is one proxy's connection. Its handler owns all of it but the mailbox and the status, and never waits for the
// network: other goroutines read and write.
type stream struct {
	server *Server
	log    *logrus.Entry
	link   link
	proxy  string
	node   node
	memory *memory
	mail   mailbox
	status streamStatus

	target
	subs    [kinds]subscription
	watched map[string]*endpointSet // endpoints that this stream hears of
	leaf    leafLane
	inbound inbound
	gates   gates
	clock   clock
	nonces  uint64
}

// A target is what the proxy is to have.
type target struct {
	synced bool
	gone   bool           // its view is gone: it keeps what it has and is told nothing
	set    *envoy.Set     // nil: it never had a view, so that nothing was sent
	refs   map[string]int // endpoint set -> clusters of set that use it
}

// A link is the wire of a stream.
type link struct {
	conn     grpcConn
	requests chan *request
	broken   chan error // the reader's error, once
	ending   chan error // why others want the stream to end
	done     chan struct{}
	mu       sync.Mutex
	// unsent is short: there is at most one response of each kind that was not acknowledged.
	unsent  []*message
	writing bool // a goroutine sends what is unsent
}

// A clock collects when the stream must look at itself again.
type clock struct {
	now     time.Time
	next    time.Time
	expires time.Time
}

// at asks for another look at t.
func (c *clock) at(t time.Time) {
	if t.Before(c.next) {
		c.next = t
	}
}

func newStream(s *Server, conn grpcConn, log *logrus.Entry) *stream {
	st := &stream{
		server: s,
		log:    log,
		mail:   newMailbox(),
		link: link{
			conn:     conn,
			requests: make(chan *request),
			broken:   make(chan error, 1),
			ending:   make(chan error, 1),
			done:     make(chan struct{}),
		},
		target:  target{refs: map[string]int{}},
		watched: map[string]*endpointSet{},
		inbound: newInbound(),
	}
	for k := range st.subs {
		st.subs[k].kind = kind(k)
	}
	now := time.Now()
	st.status.since = now
	if from, ok := peer.FromContext(conn.Context()); ok {
		st.status.address = from.Addr.String()
	}
	st.clock.expires = now.Add(s.config.MaxAge + rand.N(s.config.MaxAge/10+1))
	s.running.Go(st.read)
	return st
}

// verbose tells whether debug lines are wanted. To make them up for nobody would cost more than the responses do.
func (st *stream) verbose() bool { return st.log.Logger.IsLevelEnabled(logrus.DebugLevel) }

// stop lets the goroutines of the stream end. They do when the handler has returned.
func (st *stream) stop() { close(st.link.done) }

// end asks the handler to return err.
func (st *stream) end(err error) {
	select {
	case st.link.ending <- err:
	default: // it ends already
	}
}

// read passes requests on, no faster than the limit allows: who asks more waits in its own send buffer.
func (st *stream) read() {
	limit := st.server.config.Limits.RequestsPerSec
	bucket := rate.NewLimiter(rate.Limit(limit), int(5*limit)+1)
	ctx := st.link.conn.Context()
	for {
		req, err := st.link.conn.Recv()
		if err == nil {
			err = bucket.Wait(ctx)
		}
		if err != nil {
			st.link.broken <- err
			return
		}
		select {
		case st.link.requests <- req:
		case <-st.link.done:
			return
		}
	}
}

// write sends a message without waiting for it: by a goroutine that lives only as long as there is something to send, since
// most streams are silent most of the time.
func (st *stream) write(m *message) {
	l := &st.link
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsent = append(l.unsent, m)
	if !l.writing {
		l.writing = true
		st.server.running.Go(st.flush)
	}
}

func (st *stream) flush() {
	l := &st.link
	for {
		l.mu.Lock()
		if len(l.unsent) == 0 {
			l.writing = false
			l.mu.Unlock()
			return
		}
		m := l.unsent[0]
		l.unsent = append(l.unsent[:0], l.unsent[1:]...)
		l.mu.Unlock()
		if l.conn.SendMsg(m) != nil {
			return // the reader has met the same; nothing more is sent
		}
	}
}

// hello waits for the first request.
func (st *stream) hello(ctx context.Context) (*request, error) {
	timer := time.NewTimer(helloTimeout)
	defer timer.Stop()
	select {
	case req := <-st.link.requests:
		return req, nil
	case err := <-st.link.broken:
		return nil, err
	case <-timer.C:
		return nil, errSilent
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// run is the stream's life: something happens, then it looks at what the proxy has and what it should have.
func (st *stream) run(ctx context.Context, first *request) error {
	st.clock.now = time.Now()
	if err := st.receive(first); err != nil {
		return err
	}
	synced := st.server.synced
	timer := time.NewTimer(0)
	defer timer.Stop()
	armed := st.clock.now
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-st.link.broken:
			if err == io.EOF {
				return nil
			}
			return err
		case err := <-st.link.ending:
			return err
		case req := <-st.link.requests:
			st.clock.now = time.Now()
			if err := st.receive(req); err != nil {
				return err
			}
		case <-st.mail.wake:
		case <-synced:
			synced, st.synced = nil, true
		case <-timer.C:
			armed = time.Time{}
		}
		st.clock.now = time.Now()
		if err := st.step(ctx); err != nil {
			return err
		}
		// A timer that is early is left alone: one needless look costs less than setting it twice for each response.
		if armed.IsZero() || st.clock.next.Before(armed) {
			armed = st.clock.next
			timer.Reset(armed.Sub(st.clock.now))
		}
	}
}

// step brings the proxy as far towards its target as it may go without an answer, and sets when to look again.
func (st *stream) step(ctx context.Context) error {
	st.clock.next = st.clock.expires
	if !st.clock.now.Before(st.clock.expires) {
		return errMaxAge
	}
	st.readMail()
	if err := st.overdue(); err != nil {
		return err
	}
	if st.set != nil && st.synced && !st.gone {
		st.judgeReported()
		st.settleRevocations()
		st.renewLeaf(ctx)
		st.retry()
		st.push()
	}
	for k := range st.subs {
		if out := st.subs[k].out; out != nil {
			st.clock.at(out.sent.Add(watchdog))
		}
	}
	st.report()
	return nil
}

// overdue ends a stream whose proxy does not answer any more: connecting again is the only cure for a wedged session.
func (st *stream) overdue() error {
	for k := range st.subs {
		if out := st.subs[k].out; out != nil && st.clock.now.Sub(out.sent) >= watchdog {
			st.server.metrics.of[k].watchdog.Inc()
			return errWatchdog
		}
	}
	return nil
}

func (st *stream) readMail() {
	taken := st.mail.take()
	if taken.unset {
		st.gone = true
	}
	if taken.set != nil {
		st.gone = false
		st.retarget(taken.set)
	}
	for name := range taken.endpoints {
		st.subs[endpoints].mark(name, false)
		if st.memory.any(endpoints) {
			st.memory.pruneEndpoints(name)
		}
	}
	if taken.leaf != nil {
		st.leaf.answered(st, taken.leaf)
	}
	if taken.renew {
		st.leaf.look = true
	}
}
