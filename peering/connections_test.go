package peering

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-mesh/isthmus/internal/connlimit"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// atThePort returns how many strangers a cluster has let in, and how many connections it did not.
func (c *cluster) atThePort() (strangers, refused int) {
	stats := c.connections()
	return stats.Strangers, int(stats.Refused[connlimit.Address] + stats.Refused[connlimit.Full])
}

// One address that opens connections and opens them again as they are closed takes its own places only.
func TestFloodFromOneAddress(t *testing.T) {
	east, west := newCluster(t, "east"), newCluster(t, "west")
	west.peerWith(east)
	ctx, stop := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	opened := make(chan struct{}, 10_000)
	for range 3 * maxStrangersPerAddress {
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
	strangers, refused := east.atThePort()
	require.LessOrEqual(t, strangers, maxStrangersPerAddress+2)
	require.GreaterOrEqual(t, refused, 1000-2*maxStrangersPerAddress)
	require.Equal(t, snapshot.Active, east.Status("west").State, "a peer at the same address that was there before")
	stop()
	flood.Wait()
}

// A place is free again when a stranger has taken too long; whoever is a peer takes none.
func TestStrangersHaveToGo(t *testing.T) {
	inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
		pass(time.Minute)
		strangers, refused := east.atThePort()
		require.Equal(t, []int{0, 0}, []int{strangers, refused})
		fill := func() (ended chan struct{}) {
			ended = make(chan struct{}, 2*maxStrangersPerAddress)
			for range maxStrangersPerAddress + 6 {
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
			strangers, refused = east.atThePort()
			require.Equal(t, []int{maxStrangersPerAddress, 6 * (round + 1)}, []int{strangers, refused})
			pass(handshakeTime)
			require.Len(t, ended, maxStrangersPerAddress+6, "who does not begin TLS")
		}
		client, _ := rawClient(t, east, east.token("south"))
		stream, err := client.StreamResources(t.Context())
		require.NoError(t, err)
		pass(time.Second)
		strangers, _ = east.atThePort()
		require.Equal(t, 1, strangers)
		pass(handshakeTime + 10*time.Second)
		_, err = stream.Recv()
		require.Error(t, err)
		strangers, _ = east.atThePort()
		require.Zero(t, strangers, "who never says which peer it is")
		require.Equal(t, snapshot.Active, east.Status("west").State)
	})
}

// A connection whose stream has ended is a stranger's.
func TestPeerWithoutStreamIsAStranger(t *testing.T) {
	inBubble(t, func(t *testing.T, w *wires, east, west *cluster) {
		p, _ := dialRaw(t, east, "south")
		pass(time.Second)
		strangers, _ := east.atThePort()
		require.Zero(t, strangers)
		east.link(east.store.World().Peer("south")).current().end(errResync)
		p.ended()
		pass(time.Second)
		strangers, _ = east.atThePort()
		require.Equal(t, 1, strangers)
		pass(handshakeTime + 10*time.Second)
		strangers, _ = east.atThePort()
		require.Zero(t, strangers)
	})
}
