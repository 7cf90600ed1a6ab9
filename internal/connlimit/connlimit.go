// Package connlimit bounds what a listener lets in: all connections, and those of strangers, which have not shown yet who
// they are, in all and from one address. What is too much is closed at once, and a stranger goes when its patience ends: one
// host cannot keep the others out, nor hold memory for nothing.
package connlimit

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Limits are bounds of one listener. 0: no bound.
type Limits struct {
	Connections int           // of everybody
	Strangers   int           // of all addresses
	PerAddress  int           // strangers of one address; of IPv6, of one /64
	Patience    time.Duration // how long a stranger may stay; always wanted
}

// The reasons why a connection is refused.
const (
	Full    = "full"    // there is no room for anybody's
	Address = "address" // too many strangers of its address
)

// A Listener accepts connections within its limits, each of them a *Conn.
type Listener struct {
	net.Listener
	limits Limits

	mu        sync.Mutex
	closed    bool
	conns     int
	strangers map[*Conn]struct{}
	addresses map[netip.Prefix]int // strangers by where they come from
	refused   map[string]uint64
}

// A Conn is a connection that was let in. The listener's lock guards its state.
type Conn struct {
	net.Conn
	listener *Listener
	from     netip.Prefix
	timer    *time.Timer // ends a stranger
	streams  int         // of those that have shown who they are
	gone     bool
}

// remote is where a Conn comes from. It leads back to the Conn from what a server tells of a call.
type remote struct {
	net.Addr
	conn *Conn
}

// Of returns the connection that has a remote address; nil: it came by no Listener of this package.
func Of(address net.Addr) *Conn {
	at, _ := address.(remote)
	return at.conn
}

// New returns a listener on top of another.
func New(inner net.Listener, limits Limits) *Listener {
	return &Listener{
		Listener: inner, limits: limits,
		strangers: map[*Conn]struct{}{}, addresses: map[netip.Prefix]int{}, refused: map[string]uint64{},
	}
}

// Stats is what a listener has let in, and what it has not since it began.
type Stats struct {
	Connections, Strangers int
	Refused                map[string]uint64 // by reason
}

// Sum adds up what several listeners have let in. Each reason is there, with 0 too.
func Sum(listeners []*Listener) Stats {
	sum := Stats{Refused: map[string]uint64{Full: 0, Address: 0}}
	for _, l := range listeners {
		l.mu.Lock()
		sum.Connections += l.conns
		sum.Strangers += len(l.strangers)
		for reason, count := range l.refused {
			sum.Refused[reason] += count
		}
		l.mu.Unlock()
	}
	return sum
}

// Accept returns the next connection that may come in.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if admitted := l.admit(conn); admitted != nil {
			return admitted, nil
		}
		_ = conn.Close()
	}
}

// admit returns nil when there is no room.
func (l *Listener) admit(conn net.Conn) *Conn {
	c := &Conn{Conn: conn, listener: l, from: neighbourhood(conn.RemoteAddr())}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil
	case reached(l.addresses[c.from], l.limits.PerAddress):
		l.refused[Address]++
		return nil
	case reached(l.conns, l.limits.Connections), reached(len(l.strangers), l.limits.Strangers):
		l.refused[Full]++
		return nil
	}
	l.conns++
	c.timer = time.AfterFunc(l.limits.Patience, func() { l.dismiss(c) })
	l.estrange(c)
	return c
}

func reached(n, limit int) bool { return limit > 0 && n >= limit }

// estrange counts a stranger more. It runs with mu held.
func (l *Listener) estrange(c *Conn) {
	l.strangers[c] = struct{}{}
	l.addresses[c.from]++
}

// befriend counts a stranger less. It runs with mu held.
func (l *Listener) befriend(c *Conn) {
	c.timer.Stop()
	delete(l.strangers, c)
	if l.addresses[c.from]--; l.addresses[c.from] == 0 {
		delete(l.addresses, c.from)
	}
}

// dismiss ends a connection that is still a stranger's.
func (l *Listener) dismiss(c *Conn) {
	l.mu.Lock()
	_, stranger := l.strangers[c]
	l.mu.Unlock()
	if stranger {
		_ = c.Close()
	}
}

// Close lets nobody in any more, and ends the connections of strangers: nothing else would while they say nothing.
func (l *Listener) Close() error {
	err := l.Listener.Close()
	l.mu.Lock()
	l.closed = true
	strangers := slices.Collect(maps.Keys(l.strangers))
	l.mu.Unlock()
	for _, c := range strangers {
		_ = c.Close()
	}
	return err
}

// RemoteAddr returns the address in a form that Of knows.
func (c *Conn) RemoteAddr() net.Addr { return remote{c.Conn.RemoteAddr(), c} }

// Close ends the connection and makes room.
func (c *Conn) Close() error {
	l := c.listener
	l.mu.Lock()
	if !c.gone {
		c.gone = true
		l.conns--
		if c.streams == 0 {
			l.befriend(c)
		}
	}
	l.mu.Unlock()
	return c.Conn.Close()
}

// Begin notes that the connection carries one stream more whose other end has shown who it is, and returns what is to be
// called once when it ends. With none left the connection is a stranger's again, for as long as a new one may be. A nil Conn
// has no bounds.
func (c *Conn) Begin() (end func()) {
	if c == nil {
		return func() {}
	}
	c.carry(1)
	return func() { c.carry(-1) }
}

func (c *Conn) carry(n int) {
	l := c.listener
	l.mu.Lock()
	defer l.mu.Unlock()
	before := c.streams
	c.streams += n
	switch {
	case c.gone:
	case before == 0:
		l.befriend(c)
	case c.streams == 0:
		l.estrange(c)
		c.timer.Reset(l.limits.Patience)
	}
}

// neighbourhood is what counts as one address: of IPv6 a /64, which is what one machine is given.
func neighbourhood(remote net.Addr) netip.Prefix {
	address, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return netip.Prefix{} // of no network: all of those count as one
	}
	ip, bits := address.Addr().Unmap().WithZone(""), 32
	if ip.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(ip, bits).Masked()
}
