package connlimit

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// callers is a listener without a network.
type callers chan net.Conn

func (c callers) Accept() (net.Conn, error) {
	conn, open := <-c
	if !open {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (c callers) Close() error   { close(c); return nil }
func (c callers) Addr() net.Addr { return &net.TCPAddr{} }

// caller is one end of a pipe, that seems to come from an address.
type caller struct {
	net.Conn
	from net.Addr
}

func (c caller) RemoteAddr() net.Addr { return c.from }

// dial returns the caller's end of a connection from an address.
func (c callers) dial(from string) net.Conn {
	ours, theirs := net.Pipe()
	c <- caller{ours, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))}
	return theirs
}

// countEnded tells how many connections were closed by their other end.
func countEnded(conns ...net.Conn) (n int) {
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
			n++
		}
	}
	return n
}

// Strangers of one address have a share and some time; who has shown who it is has both no more, from the same address too.
func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outside := make(callers)
		l := New(outside, Limits{Connections: 9, PerAddress: 3, Patience: 10 * time.Second})
		inside := make(chan net.Conn, 100)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				inside <- conn
			}
		}()
		var known []net.Conn
		for range 5 {
			known = append(known, outside.dial("10.0.0.1:1"))
			Of((<-inside).RemoteAddr()).Begin()
		}
		var strangers []net.Conn
		for _, from := range []string{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1", "[2001:db8::4]:1", "10.0.0.1:2", "10.0.0.2:1"} {
			strangers = append(strangers, outside.dial(from))
		}
		synctest.Wait()
		require.Equal(t, 2, countEnded(strangers...), "the one beyond the share of its address and the one beyond all")
		require.Equal(t, 2, countEnded(strangers[3], strangers[5]))
		require.Equal(t, Stats{9, 4, map[string]uint64{Full: 1, Address: 1}}, Sum([]*Listener{l}))
		<-time.After(10 * time.Second)
		synctest.Wait()
		require.Equal(t, 6, countEnded(strangers...), "their time is over")
		require.Zero(t, countEnded(known...))
		for range 4 {
			require.NoError(t, (<-inside).Close(), "what has ended is not counted down again")
		}
		require.Equal(t, Stats{5, 0, map[string]uint64{Full: 1, Address: 1}}, Sum([]*Listener{l}))
		late := outside.dial("[2001:db8::1]:2")
		synctest.Wait()
		require.NoError(t, l.Close())
		require.Equal(t, 1, countEnded(late), "a stranger's, when the listener closes")
		require.Zero(t, countEnded(known...), "a server's to end")
		for _, conn := range known {
			require.NoError(t, conn.Close())
		}
	})
}

// placeless is a connection that comes from an address and does nothing.
type placeless struct {
	net.Conn
	from net.Addr
}

func (p placeless) RemoteAddr() net.Addr { return p.from }
func (p placeless) Close() error         { return nil }

func TestAddresses(t *testing.T) {
	l := New(nil, Limits{Strangers: 5, PerAddress: 2, Patience: time.Hour})
	from := func(address string) *Conn {
		return l.admit(placeless{from: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))})
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
	require.Equal(t, map[string]uint64{Address: 2, Full: 1}, l.refused)
	end := first.Begin()
	require.NotNil(t, from("[2001:db8::3]:1000"), "who is known takes no place")
	end()
	require.Nil(t, from("192.0.2.2:1"))
	require.NoError(t, first.Close())
	require.NoError(t, first.Close())
	require.Nil(t, from("192.0.2.2:1"), "the one that became a stranger again was one too many")
	require.NoError(t, second.Close())
	require.NotNil(t, from("192.0.2.2:1"))
	require.Len(t, l.strangers, 5)
	for c := range l.strangers {
		require.NoError(t, c.Close())
	}
	require.Empty(t, l.addresses)
	require.Zero(t, l.conns)
}

// What came by another way has no bounds, and breaks nothing.
func TestOthersConnections(t *testing.T) {
	require.Nil(t, Of(&net.TCPAddr{}))
	require.Nil(t, Of(nil))
	Of(nil).Begin()()
}
