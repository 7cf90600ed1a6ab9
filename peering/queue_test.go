package peering

import (
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// kinds takes everything from an outbox and names it.
func kinds(o *outbox, room bool) (taken []string) {
	names := map[jobKind]string{jobMessage: "message", jobTerminated: "terminated", jobBundle: "bundle", jobAddresses: "addresses", jobList: "list", jobProbe: "probe"}
	for {
		next, ok := o.next(room)
		if !ok {
			return taken
		}
		if next.kind == jobService {
			taken = append(taken, next.name)
		} else {
			taken = append(taken, names[next.kind])
		}
	}
}

func TestOutboxOrder(t *testing.T) {
	o := newOutbox(true, 2)
	o.change(func() { o.bundle, o.addresses, o.probe = true, true, true })
	o.services(true, []string{"a", "b", "a"})
	require.Empty(t, kinds(o, true), "nothing was subscribed")
	require.True(t, o.subscribe(wire.TypeService))
	require.False(t, o.subscribe(wire.TypeService))
	require.Equal(t, []string{"probe"}, kinds(o, true), "services wait for their list")
	for _, url := range dialect114.dialer {
		o.subscribe(url)
	}
	require.NoError(t, o.post(wire.NewHeartbeat()))
	require.Equal(t, []string{"message"}, kinds(o, false), "without room only messages go")
	require.Equal(t, []string{"bundle", "addresses", "list", "a", "b"}, kinds(o, true), "each name once")
	o.services(false, []string{"b"})
	o.services(true, []string{"b"})
	o.change(func() { o.terminate = true })
	require.NoError(t, o.post(wire.NewHeartbeat()))
	next, _ := o.next(true)
	require.Equal(t, jobMessage, next.kind)
	next, _ = o.next(true)
	require.Equal(t, jobTerminated, next.kind, "before any resource")
	require.NoError(t, o.post(wire.NewHeartbeat()))
	require.NoError(t, o.post(wire.NewHeartbeat()))
	require.ErrorContains(t, o.post(wire.NewHeartbeat()), "the peer does not read: 2 messages wait to be sent")
}

func TestPulse(t *testing.T) {
	now := time.Unix(0, 0)
	p := newPulse(func() time.Time { return now }, 15*time.Second)
	pass := func(d time.Duration) { now = now.Add(d) }
	p.heartbeatReceived()
	require.True(t, p.read().verified.IsZero(), "we have sent nothing that it could follow on")
	p.sending("1", wire.TypeService, "db")
	pass(time.Second)
	_, ok := p.answered("2")
	require.False(t, ok, "a nonce that was not sent")
	sent, ok := p.answered("1")
	require.True(t, ok)
	require.Equal(t, "db", sent.id)
	require.Equal(t, time.Second, p.read().roundTrip)
	require.Equal(t, now, p.read().verified)
	_, ok = p.answered("1")
	require.False(t, ok, "twice")

	p.heartbeatSent()
	pass(time.Second)
	p.heartbeatReceived()
	require.Equal(t, now, p.read().verified)
	p.sending("3", wire.TypeService, "db")
	pass(15 * time.Second)
	p.heartbeatReceived()
	require.Equal(t, now, p.read().verified, "the answer may still come")
	verified := now
	pass(time.Second)
	p.heartbeatReceived()
	require.Equal(t, verified, p.read().verified, "a peer that does not answer does not read")
	require.Equal(t, 1, p.waiting())
	p.answered("3")
	require.Equal(t, now, p.read().verified)
}

func TestInboxIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox()
		for range maxInbox {
			require.NoError(t, b.put(t.Context(), &wire.Response{}))
		}
		done := make(chan error)
		go func() { done <- b.put(t.Context(), &wire.Response{}) }()
		synctest.Wait()
		select {
		case <-done:
			require.FailNow(t, "no bound")
		default:
		}
		require.Len(t, b.take(), maxInbox)
		require.NoError(t, <-done)
		require.Len(t, b.take(), 1)
	})
}

// A peer that floods is slowed down to its quota; nothing is lost and others do not feel it.
func TestFloodIsSlowedDown(t *testing.T) {
	inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
		east.commit(entry(&config.PeerPolicy{Name: "south", Quotas: config.Quotas{Services: 10, UpdatesPerSecond: 10}}))
		south := newClusterOn(t, "south", w.listen("127.0.0.1:3"), func(c *Config) { c.Dial, c.Timing = w.dial, Timing{} })
		defer south.stop()
		p := connectRawAs(t, "south", east, south)
		start := time.Now()
		var last string
		for i := range 200 {
			last = p.offer(wire.TypeService, "db", serviceSet(plainInstance("db", func(n *wire.CheckServiceNode) { n.Service.Port = int32(i) })))
		}
		p.accepted(last)
		took := time.Since(start)
		require.Greater(t, took, 5*time.Second)
		require.Less(t, took, 15*time.Second)
		require.Equal(t, snapshot.Active, east.Status("west").State)
	})
}

// A service that is exported again before the peer was sent anything but the list without it must be sent again: the peer
// has dropped it.
func TestExportedAgainBeforeItsTurn(t *testing.T) {
	east := newCluster(t, "east")
	east.token("west")
	east.stop()
	var on caught
	peer := east.store.World().Peer("west")
	s := east.newSession(newLink(peer.ID, "west"), peer, dialect114, &recorded{&on}, nil, false)
	index := uint64(10)
	follow := func(events ...snapshot.Event) {
		index++
		world := east.store.World().With(index, events)
		s.exporter.update(snapshot.Update{World: world, All: true})
	}
	sent := func(send func() error) string {
		before := s.sentCount()
		require.NoError(t, send())
		return fmt.Sprint(s.sentCount()-before, " ", on.last.GetResponse().GetResourceID())
	}
	list := func() error { return s.sendSingle(t.Context(), jobList) }
	db := func() error { return s.sendService(t.Context(), "db") }
	with, without := append(reachable("db"), exports("west", "db")), append(reachable("db"), exports("west"))
	follow(with...)
	require.Equal(t, "1 exported-service-list", sent(list))
	require.Equal(t, "2 db", sent(db))
	require.Equal(t, "0 db", sent(db), "the peer has it")
	follow(without...)
	require.Equal(t, "1 exported-service-list", sent(list))
	follow(with...)
	require.Equal(t, "1 exported-service-list", sent(list))
	require.Equal(t, "2 db", sent(db))
}

// A World that is followed late says nothing of a peering that was made since.
func TestYoungPeeringIsNotForgotten(t *testing.T) {
	east := newCluster(t, "east")
	older := map[string]bool{}
	east.token("west")
	peer := east.store.World().Peer("west")
	l := east.link(peer)
	require.False(t, east.forgetLinks(older))
	require.Same(t, l, east.link(peer))
	east.stop()
	east.commit(snapshot.Event{Key: snapshot.NewKey(snapshot.TablePeers, "west")})
	require.True(t, east.forgetLinks(older))
}

// recorded is a stream that keeps what is sent, and says nothing.
type recorded struct{ *caught }

func (recorded) Recv() (*wire.ReplicationMessage, error) { return nil, io.EOF }

func BenchmarkExporterOneMore(b *testing.B) {
	for _, count := range []int{50, 5000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			events := manyExports(count)
			all := events[len(events)-1].Object.(*snapshot.Entry).Value.(*config.ExportedServices)
			world := snapshot.NewWorld().With(1, events)
			e := newExporter()
			e.update(snapshot.Update{World: world, All: true})
			out := newOutbox(true, maxControl)
			e.attach("west", out)
			key := events[len(events)-1].Key
			worlds := []*snapshot.World{
				world.With(2, []snapshot.Event{entry(&config.ExportedServices{Name: "default", Services: all.Services[:count-1]})}), world,
			}
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				e.update(snapshot.Update{World: worlds[i%2], Changed: []snapshot.Key{key}})
			}
		})
	}
}
