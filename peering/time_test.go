package peering

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// The tests here run on synctest's clock, over pipes instead of sockets: hours pass in milliseconds.

// wires is a network of pipes by address, which a test can cut without anybody noticing, as a firewall does.
type wires struct {
	mu        sync.Mutex
	listeners map[string]*bufconn.Listener
	silent    chan struct{} // closed: nothing that is written arrives any more
	dialed    int
}

func newWires() *wires {
	return &wires{listeners: map[string]*bufconn.Listener{}, silent: make(chan struct{})}
}

func (w *wires) listen(address string) net.Listener {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listeners[address] = bufconn.Listen(1 << 20)
	return w.listeners[address]
}

func (w *wires) dial(ctx context.Context, _, address string) (net.Conn, error) {
	w.mu.Lock()
	listener, silent := w.listeners[address], w.silent
	w.dialed++
	w.mu.Unlock()
	conn, err := listener.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	return &cable{Conn: conn, silent: silent}, nil
}

func (w *wires) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dialed
}

// cut makes all connections silent in both directions; new ones work.
func (w *wires) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.silent)
	w.silent = make(chan struct{})
}

// cable is the dialer's end of one connection.
type cable struct {
	net.Conn
	silent <-chan struct{}
}

func (c *cable) Write(b []byte) (int, error) {
	select {
	case <-c.silent:
		return len(b), nil
	default:
		return c.Conn.Write(b)
	}
}

func (c *cable) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		select {
		case <-c.silent:
			if err == nil {
				continue
			}
		default:
		}
		return n, err
	}
}

// inBubble runs a test on synctest's clock with two clusters that are peered, west dialling east.
func inBubble(t *testing.T, test func(t *testing.T, w *wires, east, west *cluster)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWires()
		bubble := func(address string) func(*Config) {
			return func(c *Config) { c.Dial, c.Advertise, c.Timing = w.dial, []string{address}, Timing{} }
		}
		east := newClusterOn(t, "east", w.listen("127.0.0.1:1"), bubble("127.0.0.1:1"))
		west := newClusterOn(t, "west", w.listen("127.0.0.1:2"), bubble("127.0.0.1:2"))
		east.commit(append(reachable("db"), exports("west", "db"))...)
		require.NoError(t, west.Establish(t.Context(), config.EstablishRequest{Peer: "east", Token: east.token("west")}))
		synctest.Wait()
		test(t, w, east, west)
		west.stop()
		east.stop()
	})
}

// pass lets time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestPeeringStaysActiveForHours(t *testing.T) {
	inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
		pass(time.Second)
		require.Equal(t, snapshot.Active, west.Status("east").State)
		for range 3 {
			pass(time.Hour)
			for c, peer := range map[*cluster]string{east: "west", west: "east"} {
				status := c.Status(peer)
				require.Equal(t, snapshot.Active, status.State)
				require.LessOrEqual(t, c.Now().Sub(status.LastHeartbeat), 15*time.Second)
			}
		}
		require.Equal(t, 2, w.dialed, "once for the secret, once for the stream")
	})
}

// A cable that is cut tells nobody. Nothing may say ACTIVE for longer than two heartbeats, and the dialer comes back.
func TestSilenceLeavesActiveWithinTwoHeartbeats(t *testing.T) {
	inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
		pass(time.Minute)
		require.Equal(t, snapshot.Active, east.Status("west").State)
		w.cut()
		pass(30 * time.Second)
		require.NotEqual(t, snapshot.Active, east.Status("west").State)
		require.NotEqual(t, snapshot.Active, west.Status("east").State)
		require.Contains(t, east.Status("west").Reason, "no round trip for 30s")
		require.NotEmpty(t, west.store.World().Imports("east"), "what was imported stays")
		pass(time.Minute)
		require.Equal(t, snapshot.Active, east.Status("west").State)
		require.Equal(t, snapshot.Active, west.Status("east").State)
	})
}

// Heartbeats prove that the peer sends. Only answers prove that it reads.
func TestPeerThatOnlySendsIsNotActive(t *testing.T) {
	inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
		south := newClusterOn(t, "south", w.listen("127.0.0.1:3"), func(c *Config) { c.Dial, c.Timing = w.dial, Timing{} })
		defer south.stop()
		p, _ := dialRaw(t, east, "south")
		p.subscribe()
		p.resource(wire.TypeTrustBundle, wire.TrustBundleID)
		p.offer(wire.TypeTrustBundle, wire.TrustBundleID, bundle(south))
		pass(time.Second)
		require.Equal(t, snapshot.Active, east.Status("south").State)
		ended := 0
		for second := 1; second <= 120 && ended == 0; second++ {
			if second%15 == 0 {
				p.send(heartbeat())
			}
			pass(time.Second)
			if second > 45 {
				require.NotEqual(t, snapshot.Active, east.Status("south").State)
			}
			if len(p.over) > 0 {
				ended = second
			}
		}
		require.NotZero(t, ended, "the stream is ended, so that the peer dials again")
		require.Contains(t, east.Status("south").Reason, "the peer does not answer")
		require.Equal(t, snapshot.Active, east.Status("west").State)
	})
}

func TestStreamThatSaysNothingIsEnded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
		client, _ := rawClient(t, east, east.token("south"))
		stream, err := client.StreamResources(t.Context())
		require.NoError(t, err)
		p := newRawPeer(t, stream)
		pass(11 * time.Second)
		require.Len(t, p.over, 1)
		require.Equal(t, codes.InvalidArgument, p.ended().Code())
	})
}

func TestImportsExpireWhenThePolicySaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
		west.commit(entry(&config.PeerPolicy{Name: "east", MaxStale: 10 * time.Minute}))
		pass(30 * time.Minute)
		require.Len(t, west.store.World().Imports("east"), 1, "the peer is there")
		east.stop()
		pass(9 * time.Minute)
		require.Len(t, west.store.World().Imports("east"), 1)
		require.True(t, west.Status("east").Stale)
		pass(2 * time.Minute)
		require.Empty(t, west.store.World().Imports("east"))
		require.True(t, west.store.World().Peer("east").Usable())
	})
}

// Imports age while our server restarts, and whatever ended it before: what counts is the last round trip.
func TestImportsExpireOverRestarts(t *testing.T) {
	for _, crash := range []bool{false, true} {
		inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
			west.commit(entry(&config.PeerPolicy{Name: "east", MaxStale: 10 * time.Minute}))
			pass(30*time.Minute + 7*time.Second)
			commits := len(west.store.since(0))
			pass(20 * time.Minute)
			require.InDelta(t, 20, len(west.store.since(commits)), 1, "it is stored once a minute")
			east.stop()
			start := func() {
				west.startOn(w.listen("127.0.0.1:2"), func(c *Config) { c.Dial, c.Timing = w.dial, Timing{} })
			}
			for minute := range 9 {
				if crash && minute == 0 {
					west.store.setRefuse(func([]snapshot.Event) error { return errors.New("it is dead") })
				}
				west.stop()
				west.store.setRefuse(nil)
				start()
				pass(50 * time.Second)
			}
			require.Len(t, west.store.World().Imports("east"), 1, "7.5 minutes")
			pass(2 * time.Minute)
			west.stop()
			start()
			pass(55 * time.Second)
			require.Empty(t, west.store.World().Imports("east"), "10 minutes and less than half a one")
		})
	}
}

// A stream without a round trip does not make a peer's absence longer than it was.
func TestFruitlessStreamIsNoAbsence(t *testing.T) {
	inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
		east.commit(entry(&config.PeerPolicy{Name: "south", MaxStale: 10 * time.Minute}))
		is := newIdentity(t, "south")
		client, decoded := rawClient(t, east, east.token("south"))
		secret := exchange(t, client, decoded)
		pass(20 * time.Minute)
		p := openRaw(t, client, decoded.PeerID, secret)
		p.subscribe()
		p.offer(wire.TypeTrustBundle, wire.TrustBundleID, bundle(is))
		p.offer(wire.TypeService, "db", serviceSet(plainInstance("db")))
		p.resource(wire.TypeTrustBundle, wire.TrustBundleID)
		pass(time.Second)
		require.Len(t, east.store.World().Imports("south"), 1)
		openRaw(t, client, decoded.PeerID, secret)
		pass(70 * time.Second)
		require.Contains(t, east.Status("south").Reason, "the peer does not answer")
		pass(5 * time.Minute)
		require.Len(t, east.store.World().Imports("south"), 1)
		pass(5 * time.Minute)
		require.Empty(t, east.store.World().Imports("south"))
	})
}

// A peer that is away is dialled often at first and then every few seconds, and is back soon after it is.
func TestDialerKeepsTrying(t *testing.T) {
	inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
		pass(time.Minute)
		east.stop()
		before := w.count()
		pass(10 * time.Second)
		require.Greater(t, w.count()-before, 4)
		before = w.count()
		pass(10 * time.Minute)
		require.Greater(t, w.count()-before, 60)
		require.Less(t, w.count()-before, 250)
		require.Contains(t, west.Status("east").Reason, "next attempt")
		east.startOn(w.listen("127.0.0.1:1"), func(c *Config) { c.Dial, c.Advertise, c.Timing = w.dial, []string{"127.0.0.1:1"}, Timing{} })
		pass(11 * time.Second)
		require.Equal(t, snapshot.Active, west.Status("east").State)
		require.Equal(t, snapshot.Active, east.Status("west").State)
	})
}

// acceptorOn returns a peer in the hands of the test, at an address of the pipes.
func acceptorOn(t *testing.T, c *cluster, w *wires, address string) *rawAcceptor {
	certificate, err := c.ca.ServerCertificate([]string{"server.dc1.peering." + c.trustDomain}, nil)
	require.NoError(t, err)
	a := &rawAcceptor{cluster: c, t: t, address: address, streams: make(chan *rawPeer, 10), finish: make(chan error, 10)}
	a.exchange = func(*wire.ExchangeSecretRequest) (*wire.ExchangeSecretResponse, error) {
		return &wire.ExchangeSecretResponse{StreamSecret: "stream-secret"}, nil
	}
	listener, server := w.listen(address), grpc.NewServer()
	wire.RegisterPeerStreamServiceServer(server, a)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(tls.NewListener(listener, &tls.Config{GetCertificate: certificate}))
	}()
	t.Cleanup(func() { server.Stop(); <-served })
	return a
}

// Of a peer's servers one holds streams. The others say that they do not, and then which one does is soon found.
func TestOtherServersAreTriedSoon(t *testing.T) {
	inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
		south := newClusterOn(t, "south", w.listen("127.0.0.1:3"))
		defer south.stop()
		acceptor := acceptorOn(t, south, w, "127.0.0.1:4")
		refuse := func(with error) {
			<-acceptor.streams
			acceptor.finish <- with
		}
		require.NoError(t, west.Establish(t.Context(), config.EstablishRequest{Peer: "south", Token: acceptor.token()}))
		began := time.Now()
		for range 30 {
			refuse(status.Error(codes.FailedPrecondition, "cannot establish a peering stream on a follower node"))
		}
		require.Less(t, time.Since(began), 25*time.Second)
		require.Greater(t, time.Since(began), 3*time.Second)
		synctest.Wait()
		require.Contains(t, west.Status("south").Reason, "a follower node: that server of the peer is not its leader: the next is tried")
	})
}

// A peer that refused a stream for one that was gone may count the next as gone too, once it notices: that one is opened
// again when it must have noticed, and then stays.
func TestStreamThatMayNotCountIsOpenedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
		south := newClusterOn(t, "south", w.listen("127.0.0.1:3"))
		defer south.stop()
		acceptor := acceptorOn(t, south, w, "127.0.0.1:4")
		alive := func() {
			p := acceptor.stream()
			p.subscribe(dialect114.acceptor...)
			go func() {
				for m := range p.messages {
					if r := m.GetResponse(); r != nil {
						p.send(answer(r, 0, ""))
					} else if m.GetHeartbeat() != nil {
						p.send(heartbeat())
					}
				}
			}()
		}
		require.NoError(t, west.Establish(t.Context(), config.EstablishRequest{Peer: "south", Token: acceptor.token()}))
		<-acceptor.streams
		acceptor.finish <- status.Error(codes.Unknown, "failed to register stream: there is an active stream for the given PeerID 1")
		alive()
		pass(124 * time.Second)
		require.Empty(t, acceptor.streams)
		pass(3 * time.Second)
		alive()
		pass(10 * time.Minute)
		require.Empty(t, acceptor.streams)
	})
}

// Nobody has to be there for a peering to be deleted, and whoever was away is told when it comes back.
func TestDeletionWhileThePeerIsAway(t *testing.T) {
	inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
		pass(time.Second)
		west.stop()
		require.NoError(t, east.Delete(t.Context(), "west"))
		pass(10 * time.Second)
		require.Nil(t, east.store.World().Peer("west"))
		west.startOn(w.listen("127.0.0.1:2"), func(c *Config) { c.Dial, c.Timing = w.dial, Timing{} })
		pass(time.Minute)
		require.Equal(t, snapshot.Terminated, west.Status("east").State)
		require.Empty(t, west.store.World().Imports("east"))
	})
	inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
		pass(time.Second)
		east.stop()
		require.NoError(t, west.Delete(t.Context(), "east"))
		pass(20 * time.Second)
		require.Nil(t, west.store.World().Peer("east"))
		require.Empty(t, west.store.World().Imports("east"))
		require.Empty(t, west.store.secrets())
	})
}

// Not every peer hangs up after Terminated.
func TestDeletionDoesNotWaitForEver(t *testing.T) {
	inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
		p, _ := dialRaw(t, east, "south")
		p.subscribe()
		pass(time.Second)
		require.NoError(t, east.Delete(t.Context(), "south"))
		p.next("Terminated", func(m *wire.ReplicationMessage) bool { return m.GetTerminated() != nil })
		pass(5 * time.Second)
		require.Nil(t, east.store.World().Peer("south"))
		require.Equal(t, codes.OK, statusOf(p))
	})
}

func statusOf(p *rawPeer) codes.Code {
	if err := <-p.over; !errors.Is(err, io.EOF) {
		return status.Code(err)
	}
	return codes.OK
}
