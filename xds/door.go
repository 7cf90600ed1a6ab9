package xds

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/peer"
)

// strangerTime is how long a connection may stay without a stream that proved itself by a token: its handshake and the
// wait for its first request included.
const strangerTime = helloTimeout

// A door is a listener that bounds what it lets in: all connections, and from each address those of strangers, which have
// not shown a token yet. Who has one may come from an address that thousands share. What is too much is closed at once.
type door struct {
	net.Listener
	server *Server

	mu        sync.Mutex
	guests    map[*guest]struct{}
	strangers map[netip.Prefix]int
}

// A guest is a connection that was let in. The door's lock guards its state.
type guest struct {
	net.Conn
	door     *door
	from     netip.Prefix
	patience *time.Timer
	known    bool // it has shown a token
}

// A guestAddress is where a guest comes from. It is how the handler of a stream finds the guest that carries it.
type guestAddress struct {
	net.Addr
	guest *guest
}

func newDoor(s *Server, listener net.Listener) *door {
	return &door{Listener: listener, server: s, guests: map[*guest]struct{}{}, strangers: map[netip.Prefix]int{}}
}

// Accept returns the next connection that may come in.
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if guest := d.admit(conn); guest != nil {
			return guest, nil
		}
		_ = conn.Close()
	}
}

// admit returns nil when there is no room.
func (d *door) admit(conn net.Conn) *guest {
	g := &guest{Conn: conn, door: d, from: neighbourhood(conn.RemoteAddr())}
	limits, metrics := &d.server.config.Limits, d.server.metrics
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case len(d.guests) >= limits.Connections:
		metrics.refused.WithLabelValues("full").Inc()
		return nil
	case d.strangers[g.from] >= limits.Strangers:
		metrics.refused.WithLabelValues("address").Inc()
		return nil
	}
	d.guests[g] = struct{}{}
	d.strangers[g.from]++
	metrics.connections.Inc()
	g.patience = time.AfterFunc(strangerTime, func() { _ = g.Close() })
	return g
}

// Close lets nobody in any more, and ends the connections of strangers: nothing else would while they say nothing.
func (d *door) Close() error {
	err := d.Listener.Close()
	d.mu.Lock()
	strangers := slices.Collect(maps.Keys(d.guests))
	strangers = slices.DeleteFunc(strangers, func(g *guest) bool { return g.known })
	d.mu.Unlock()
	for _, g := range strangers {
		_ = g.Close()
	}
	return err
}

// forget counts one stranger less.
func (d *door) forget(from netip.Prefix) {
	if d.strangers[from]--; d.strangers[from] == 0 {
		delete(d.strangers, from)
	}
}

// RemoteAddr returns a guestAddress.
func (g *guest) RemoteAddr() net.Addr { return guestAddress{g.Conn.RemoteAddr(), g} }

// Close ends the connection and makes room.
func (g *guest) Close() error {
	d := g.door
	d.mu.Lock()
	if _, in := d.guests[g]; in {
		delete(d.guests, g)
		g.patience.Stop()
		if !g.known {
			d.forget(g.from)
		}
		d.server.metrics.connections.Dec()
	}
	d.mu.Unlock()
	return g.Conn.Close()
}

// recognize notes that whoever opened a stream has shown a token.
func recognize(stream context.Context) {
	from, _ := peer.FromContext(stream)
	if from == nil {
		return
	}
	address, ok := from.Addr.(guestAddress)
	if !ok {
		return // it came by a server that the caller of Register runs
	}
	g := address.guest
	g.door.mu.Lock()
	defer g.door.mu.Unlock()
	if _, in := g.door.guests[g]; in && !g.known {
		g.known = true
		g.patience.Stop()
		g.door.forget(g.from)
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
