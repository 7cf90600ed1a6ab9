package peering

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// atTheDoor returns how many strangers a cluster has let in, and how many connections it did not.
func (c *cluster) atTheDoor() (strangers, refused int) {
	strangers, reasons := (&metrics{Service: c.Service}).atTheDoors()
	return strangers, int(reasons["address"] + reasons["full"])
}

// One address that opens connections and opens them again as they are closed takes its own places only.
func TestFloodFromOneAddress(t *testing.T) {
	east, west := newCluster(t, "east"), newCluster(t, "west")
	west.peerWith(east)
	ctx, stop := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	opened := make(chan struct{}, 10_000)
	for range 3 * maxStrangersPerHost {
		flood.Go(func() {
			for ctx.Err() == nil {
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", east.Advertise[0])
				if err != nil {
					continue
				}
				select {
				case opened <- struct{}{}:
				default:
				}
				closed := context.AfterFunc(ctx, func() { _ = conn.Close() })
				_, _ = conn.Read(make([]byte, 1)) // until one of the two ends closes it
				closed()
				_ = conn.Close()
			}
		})
	}
	for n := range 1000 {
		select {
		case <-opened:
		case <-time.After(patience):
			require.FailNow(t, "no flood", "%d connections", n)
		}
	}
	south := newCluster(t, "south", func(c *Config) {
		c.Dial = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext
	})
	south.peerWith(east)
	strangers, refused := east.atTheDoor()
	require.LessOrEqual(t, strangers, maxStrangersPerHost+2)
	require.GreaterOrEqual(t, refused, 1000-2*maxStrangersPerHost)
	require.Equal(t, snapshot.Active, east.Status("west").State, "a peer at the same address that was there before")
	stop()
	flood.Wait()
}

// A place is free again when a stranger has taken too long; whoever is a peer takes none.
func TestStrangersHaveToGo(t *testing.T) {
	inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
		pass(time.Minute)
		strangers, refused := east.atTheDoor()
		require.Equal(t, []int{0, 0}, []int{strangers, refused})
		fill := func() (ended chan struct{}) {
			ended = make(chan struct{}, 2*maxStrangersPerHost)
			for range maxStrangersPerHost + 6 {
				conn, err := w.dial(t.Context(), "", "127.0.0.1:1")
				require.NoError(t, err)
				go func() { _, _ = io.Copy(io.Discard, conn); _ = conn.Close(); ended <- struct{}{} }()
			}
			pass(time.Second)
			return ended
		}
		for round := range 2 {
			ended := fill()
			require.Len(t, ended, 6, "those who came too late")
			strangers, refused = east.atTheDoor()
			require.Equal(t, []int{maxStrangersPerHost, 6 * (round + 1)}, []int{strangers, refused})
			pass(handshakeTime)
			require.Len(t, ended, maxStrangersPerHost+6, "who does not begin TLS")
		}
		client, _ := rawClient(t, east, east.token("south"))
		stream, err := client.StreamResources(t.Context())
		require.NoError(t, err)
		pass(time.Second)
		strangers, _ = east.atTheDoor()
		require.Equal(t, 1, strangers)
		pass(handshakeTime + 10*time.Second)
		_, err = stream.Recv()
		require.Error(t, err)
		strangers, _ = east.atTheDoor()
		require.Zero(t, strangers, "who never says which peer it is")
		require.Equal(t, snapshot.Active, east.Status("west").State)
	})
}

// A connection whose stream has ended is a stranger's.
func TestPeerWithoutStreamIsAStranger(t *testing.T) {
	inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
		p, _ := dialRaw(t, east, "south")
		pass(time.Second)
		strangers, _ := east.atTheDoor()
		require.Zero(t, strangers)
		east.link(east.store.World().Peer("south")).current().end(errResync)
		p.ended()
		pass(time.Second)
		strangers, _ = east.atTheDoor()
		require.Equal(t, 1, strangers)
		pass(handshakeTime + 10*time.Second)
		strangers, _ = east.atTheDoor()
		require.Zero(t, strangers)
	})
}

// placeless is a connection that comes from an address and does nothing.
type placeless struct {
	net.Conn
	from net.Addr
}

func (p placeless) RemoteAddr() net.Addr { return p.from }
func (p placeless) Close() error         { return nil }

func TestDoorCountsByAddress(t *testing.T) {
	d := newDoor(nil, time.Hour)
	d.most, d.perHost = 5, 2
	from := func(address string) *guest {
		at, err := net.ResolveTCPAddr("tcp", address)
		require.NoError(t, err)
		return d.admit(placeless{from: at})
	}
	first := from("[2001:db8::1]:1000")
	require.NotNil(t, first)
	second := from("[2001:db8::2]:1000")
	require.NotNil(t, second)
	require.Nil(t, from("[2001:db8::ffff:3]:1000"), "one machine is given a /64")
	require.NotNil(t, from("[2001:db8:0:1::1]:1000"))
	require.NotNil(t, from("192.0.2.1:1"))
	require.NotNil(t, from("[::ffff:192.0.2.1]:1"))
	require.Nil(t, from("192.0.2.1:2"))
	require.Nil(t, from("192.0.2.2:1"), "there is no more room for strangers at all")
	require.Equal(t, map[string]uint64{"address": 2, "full": 1}, d.refused)
	first.carry(1)
	require.NotNil(t, from("[2001:db8::3]:1000"), "who is a peer takes no place")
	first.carry(-1)
	require.Nil(t, from("192.0.2.2:1"))
	require.NoError(t, first.Close())
	require.NoError(t, first.Close())
	require.Nil(t, from("192.0.2.2:1"), "the peer that became a stranger was one too many")
	require.NoError(t, second.Close())
	require.NotNil(t, from("192.0.2.2:1"))
	require.Len(t, d.strangers, 5)
	for g := range d.strangers {
		require.NoError(t, g.Close())
	}
	require.Empty(t, d.hosts)
}
