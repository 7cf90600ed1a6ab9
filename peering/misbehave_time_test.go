package peering

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// A stall is a misbehaviour that takes time: it is done on synctest's clock, over pipes. do returns what the operator
// must read in the end.
type stall struct {
	name string
	only func(cell) bool
	do   func(*testing.T, *stalled) (snapshot.PeerState, []string)
}

// stalled is a misfit on pipes.
type stalled struct {
	*misfit
	wires *wires
	deaf  chan struct{} // closed: it reads no more
	heard chan struct{} // closed: and its stream is over for it
}

// Peers that are silent, deaf or too busy, in both dialects and at both ends: bounded, shown, and nothing to another peer.
func TestPeersThatStall(t *testing.T) {
	for _, row := range stalls {
		for _, c := range cells {
			if row.only == nil || row.only(c) {
				t.Run(fmt.Sprintf("%s/%s", row.name, c), func(t *testing.T) {
					inBubble(t, func(t *testing.T, w *wires, east, south *cluster) { stallOnce(t, row, c, w, east, south) })
				})
			}
		}
	}
}

func stallOnce(t *testing.T, row stall, c cell, w *wires, east, south *cluster) {
	others := &neighbour{east: east, south: south}
	east.commit(append(reachable("shared"), entry(&config.ExportedServices{Name: "default", Services: []config.ExportedService{
		{Name: "shared", Consumers: []config.Consumer{{Peer: "west"}, {Peer: "stalled"}}},
	}}), entry(&config.PeerPolicy{Name: "stalled", Quotas: config.Quotas{Services: 10, UpdatesPerSecond: 10}}))...)
	south.commit(append(reachable("tool"), meshGateway("node-1", "gateway-1", "198.51.100.2", 443), exports("east", "tool"))...)
	others.fine(t, "at first")
	const address = "127.0.0.1:9"
	m := newMisfit(t, "stalled", east, others, c, w.listen(address), address)
	s := &stalled{misfit: m, wires: w, deaf: make(chan struct{}), heard: make(chan struct{})}
	m.hear = func(stream messageStream) messageStream { return &deaf{stream, s.deaf, s.heard} }
	if m.acceptor != nil {
		m.acceptor.hear = m.hear
	}
	state, texts := row.do(t, s)
	others.fine(t, "while "+row.name)
	m.shows(t, state, texts...)
	m.close(t)
	others.fine(t, "after "+row.name)
	t.Logf("slowest change of the peer in order: %s", others.slowest)
}

// ends waits for the stream to be ended, for so long at most, and returns how long it took.
func (s *stalled) ends(within time.Duration) time.Duration {
	s.east.t.Helper()
	began := time.Now()
	for len(s.over) == 0 {
		require.Less(s.east.t, time.Since(began), within, "the stream is not ended: %s", s.east.describe())
		pass(time.Second)
	}
	return time.Since(began)
}

// flood sends messages as fast as they are taken, until the stream ends. The returned func waits for that.
func (s *stalled) flood(message func(n int) *wire.ReplicationMessage) (wait func()) {
	var flooding sync.WaitGroup
	flooding.Go(func() {
		for n := 0; ; n++ {
			if s.stream.Send(message(n)) != nil {
				return
			}
		}
	})
	return flooding.Wait
}

// deaf is a stream that is not read any more once stop is closed, and ends with after.
type deaf struct {
	messageStream
	stop, after <-chan struct{}
}

func (d *deaf) Recv() (*wire.ReplicationMessage, error) {
	select {
	case <-d.stop:
		<-d.after
		return nil, io.EOF
	default:
		return d.messageStream.Recv()
	}
}

// stopReading stops it. The returned func lets the reader go.
func (s *stalled) stopReading() (hearing func()) {
	close(s.deaf)
	return sync.OnceFunc(func() { close(s.heard) })
}

var stalls = []stall{
	{name: "connects and says nothing", only: dials, do: func(t *testing.T, s *stalled) (snapshot.PeerState, []string) {
		conn, err := s.wires.dial(t.Context(), "tcp", "127.0.0.1:1")
		require.NoError(t, err)
		began := time.Now()
		_, err = conn.Read(make([]byte, 1))
		require.Error(t, err)
		require.LessOrEqual(t, time.Since(began), handshakeTime+time.Second)
		return snapshot.Establishing, []string{"waiting for the peer to dial"}
	}},
	{name: "accepts and says nothing", only: dialled, do: func(t *testing.T, s *stalled) (snapshot.PeerState, []string) {
		s.open(t)
		mute := s.wires.listen(s.acceptor.address)
		var accepting sync.WaitGroup
		accepting.Go(func() {
			for {
				if _, err := mute.Accept(); err != nil {
					return
				}
			}
		})
		s.acceptor.finish <- errHangUp
		pass(time.Second)
		before := s.wires.count()
		pass(2 * time.Minute)
		require.Greater(t, s.wires.count(), before+2, "each attempt is given up, and the next one made")
		require.NoError(t, mute.Close())
		accepting.Wait()
		s.keptDB(t)
		return failing("dial 127.0.0.1:9: ")
	}},
	{name: "opens a stream and says nothing", do: func(t *testing.T, s *stalled) (snapshot.PeerState, []string) {
		if s.dials {
			stream, err := s.client.StreamResources(t.Context())
			require.NoError(t, err)
			s.rawPeer = newRawPeer(t, stream)
			require.LessOrEqual(t, s.ends(20*time.Second), 11*time.Second)
			return snapshot.Establishing, []string{"waiting for the peer to dial"}
		}
		s.start(t)
		require.LessOrEqual(t, s.ends(20*time.Second), 11*time.Second)
		return failing("the peer said nothing for 10s")
	}},
	{name: "subscribes and says nothing", do: func(t *testing.T, s *stalled) (snapshot.PeerState, []string) {
		s.start(t)
		s.subscribed()
		pass(time.Second)
		require.Equal(t, snapshot.Establishing, s.east.Status("stalled").State)
		require.LessOrEqual(t, s.ends(2*time.Minute), 75*time.Second)
		return failing("the peer does not answer")
	}},
	{name: "falls silent", do: func(t *testing.T, s *stalled) (snapshot.PeerState, []string) {
		s.open(t)
		pass(31 * time.Second)
		require.Equal(t, snapshot.Failing, s.east.Status("stalled").State, "not ACTIVE for longer than two heartbeats")
		require.Contains(t, s.east.Status("stalled").Reason, "connected, but no round trip for 3")
		s.ends(time.Minute)
		s.keptDB(t)
		return failing("no round trip for 1m0s: the peer does not answer")
	}},
	{name: "never reads", do: func(t *testing.T, s *stalled) (snapshot.PeerState, []string) {
		s.open(t)
		hearing := s.stopReading()
		defer hearing()
		for i := range 300 { // far more than the windows of the stream and the connection hold
			s.east.commit(registration("node-1", &config.Service{
				ID: fmt.Sprintf("shared-%d", i), Name: "shared", Port: 1, Address: "10.0.0.1", Tags: []string{strings.Repeat("x", 2000)},
			}))
			s.east.commit(deregistration("node-1", "shared", fmt.Sprintf("shared-%d", i-1)))
		}
		s.east.commit(deregistration("node-1", "shared", "shared-299"))
		pass(31 * time.Second)
		require.Equal(t, snapshot.Failing, s.east.Status("stalled").State)
		for seconds := 0; s.east.session("stalled") != nil; seconds++ {
			require.Less(t, seconds, 60, "the stream is not ended")
			pass(time.Second)
		}
		s.keptDB(t)
		return failing("the peer does not") // answer, or read: what waits may have filled the windows already
	}},
	{name: "sends resources and never reads", do: func(t *testing.T, s *stalled) (snapshot.PeerState, []string) {
		s.open(t)
		hearing := s.stopReading()
		defer hearing()
		wait := s.flood(func(n int) *wire.ReplicationMessage {
			r := services("db", plainInstance("db", func(c *wire.CheckServiceNode) { c.Service.Port = int32(n % 60000) }))
			r.Nonce = fmt.Sprint(n)
			return responseMessage(r)
		})
		for seconds := 0; s.east.session("stalled") != nil; seconds++ {
			require.Less(t, seconds, 3600, "the stream is not ended")
			pass(time.Second)
		}
		hearing()
		wait()
		return failing("the peer does not")
	}},
	{name: "floods heartbeats", do: meaningless(func(int) *wire.ReplicationMessage { return heartbeat() })},
	{name: "floods ACKs", do: meaningless(func(n int) *wire.ReplicationMessage {
		return request(&wire.Request{ResourceURL: wire.TypeService, ResponseNonce: fmt.Sprint("x", n)})
	})},
	{name: "changes a resource without end", do: func(t *testing.T, s *stalled) (snapshot.PeerState, []string) {
		s.open(t)
		began := time.Now()
		const changes = 500
		var last *wire.Response
		for n := range changes {
			last = services("db", plainInstance("db", func(c *wire.CheckServiceNode) { c.Service.Port = int32(n + 1) }))
			if !s.older {
				last.Nonce = fmt.Sprint("churn-", n)
			}
			s.send(responseMessage(last))
		}
		pass(time.Second)
		s.others.fine(t, "during the churn")
		s.shows(t, snapshot.Active, "updates of the peer wait: at most 10 a second are taken")
		for s.east.store.World().Import("stalled", "db").Instances[0].Service.Port != changes {
			require.Less(t, time.Since(began), time.Minute)
			pass(time.Second)
			for len(s.messages) > 0 {
				if r := (<-s.messages).GetResponse(); r != nil {
					s.send(answer(r, 0, ""))
				}
			}
		}
		require.Greater(t, time.Since(began), 30*time.Second, "no faster than 10 a second after a burst of 120")
		s.keptDB(t)
		return active()
	}},
}

// meaningless floods the stream with messages that ask for nothing and bring nothing.
func meaningless(message func(n int) *wire.ReplicationMessage) func(*testing.T, *stalled) (snapshot.PeerState, []string) {
	return func(t *testing.T, s *stalled) (snapshot.PeerState, []string) {
		s.open(t)
		wait := s.flood(message)
		pass(15 * time.Second)
		s.others.fine(t, "during the flood")
		s.shows(t, s.east.Status("stalled").State, "messages of the peer mean nothing here and were passed over")
		s.ends(2 * time.Minute)
		wait()
		return failing("no round trip for 1m0s: the peer does not answer")
	}
}
