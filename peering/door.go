package peering

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	grpcpeer "google.golang.org/grpc/peer"
)

// How many connections without a stream of a peer's are let in: in all, and from one address.
const (
	maxStrangers        = 1024
	maxStrangersPerHost = 64
)

// A door is a listener that bounds strangers: connections that carry no stream that was opened with a peering's secret.
// One that does is no stranger while the stream lasts, so that peers that are connected take nobody's place. What is too
// much is closed at once; a stranger goes when its patience ends.
type door struct {
	net.Listener
	patience time.Duration
	most     int // strangers in all
	perHost  int

	mu        sync.Mutex
	closed    bool
	strangers map[*guest]struct{}
	hosts     map[netip.Prefix]int // strangers by where they come from
	refused   map[string]uint64    // connections that were not let in, by reason: "full" or "address"
}

// A guest is a connection that was let in. The door's lock guards its state.
type guest struct {
	net.Conn
	door    *door
	from    netip.Prefix
	timer   *time.Timer // ends a stranger
	streams int         // of peers
	gone    bool
}

func newDoor(listener net.Listener, patience time.Duration) *door {
	return &door{
		Listener: listener, patience: patience, most: maxStrangers, perHost: maxStrangersPerHost,
		strangers: map[*guest]struct{}{}, hosts: map[netip.Prefix]int{}, refused: map[string]uint64{},
	}
}

// Accept returns the next connection that may come in.
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if g := d.admit(conn); g != nil {
			return g, nil
		}
		_ = conn.Close()
	}
}

// admit returns nil when there is no room.
func (d *door) admit(conn net.Conn) *guest {
	g := &guest{Conn: conn, door: d, from: neighbourhood(conn.RemoteAddr())}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return nil
	case d.hosts[g.from] >= d.perHost:
		d.refused["address"]++
		return nil
	case len(d.strangers) >= d.most:
		d.refused["full"]++
		return nil
	}
	g.timer = time.AfterFunc(d.patience, func() { d.dismiss(g) })
	d.estrange(g)
	return g
}

// estrange counts a stranger more. It runs with mu held.
func (d *door) estrange(g *guest) {
	d.strangers[g] = struct{}{}
	d.hosts[g.from]++
}

// befriend counts a stranger less. It runs with mu held.
func (d *door) befriend(g *guest) {
	g.timer.Stop()
	delete(d.strangers, g)
	if d.hosts[g.from]--; d.hosts[g.from] == 0 {
		delete(d.hosts, g.from)
	}
}

// dismiss ends a guest that is still a stranger.
func (d *door) dismiss(g *guest) {
	d.mu.Lock()
	_, stranger := d.strangers[g]
	d.mu.Unlock()
	if stranger {
		_ = g.Close()
	}
}

// Close lets nobody in any more, and ends the connections of strangers: nothing else would while they say nothing.
func (d *door) Close() error {
	err := d.Listener.Close()
	d.mu.Lock()
	d.closed = true
	strangers := slices.Collect(maps.Keys(d.strangers))
	d.mu.Unlock()
	for _, g := range strangers {
		_ = g.Close()
	}
	return err
}

// Close ends the connection and makes room.
func (g *guest) Close() error {
	d := g.door
	d.mu.Lock()
	if !g.gone {
		g.gone = true
		if g.streams == 0 {
			d.befriend(g)
		}
	}
	d.mu.Unlock()
	return g.Conn.Close()
}

// carry notes that the connection carries n streams of peers more. With none left it is a stranger again, for as long as a
// new one may be.
func (g *guest) carry(n int) {
	d := g.door
	d.mu.Lock()
	defer d.mu.Unlock()
	before := g.streams
	g.streams += n
	switch {
	case g.gone:
	case before == 0:
		d.befriend(g)
	case g.streams == 0:
		d.estrange(g)
		g.timer.Reset(d.patience)
	}
}

// recognize says that a stream was opened with a peering's secret, and returns what is to be called when it ends.
func recognize(stream context.Context) (ended func()) {
	if from, ok := grpcpeer.FromContext(stream); ok {
		if info, ok := from.AuthInfo.(closableInfo); ok && info.guest != nil {
			info.guest.carry(1)
			return func() { info.guest.carry(-1) }
		}
	}
	return func() {}
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
