package lab

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Relay passes TCP connections on, as a tunnel or a firewall on the way does.
type Relay struct {
	Address  string       // where it is dialled
	Accepted atomic.Int64 // connections since start
	host     *Host
	target   string
	mu       sync.Mutex
	listener net.Listener
	passing  map[*passage]struct{}
}

// passage is one connection through a relay.
type passage struct {
	ends   [2]net.Conn
	silent atomic.Bool // nothing is passed on, not even that an end was closed
}

// Relay starts a relay on a host, to an address that the host reaches.
func (l *Lab) Relay(h *Host, target string) *Relay {
	l.T.Helper()
	r := &Relay{Address: h.WAN + ":0", host: h, target: target, passing: map[*passage]struct{}{}}
	l.T.Cleanup(r.Close)
	l.Reopen(r)
	return r
}

// Reopen lets a relay that was closed listen again.
func (l *Lab) Reopen(r *Relay) {
	l.T.Helper()
	listener, err := r.host.Listen(r.Address)
	if err != nil {
		l.T.Fatalf("relay: %v", err)
	}
	r.mu.Lock()
	r.listener, r.Address = listener, listener.Addr().String()
	r.mu.Unlock()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r.Accepted.Add(1)
			go r.pass(conn)
		}
	}()
}

func (r *Relay) pass(conn net.Conn) {
	var onward net.Conn
	err := inside(r.host.programs, func() (err error) {
		onward, err = net.DialTimeout("tcp", r.target, 5*time.Second)
		return err
	})
	if err != nil {
		_ = conn.Close()
		return
	}
	p := &passage{ends: [2]net.Conn{conn, onward}}
	r.mu.Lock()
	r.passing[p] = struct{}{}
	r.mu.Unlock()
	go p.carry(conn, onward)
	p.carry(onward, conn)
}

// carry passes on what from sends until it ends.
func (p *passage) carry(from, to net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		switch {
		case p.silent.Load():
		case err != nil:
			p.close()
		default:
			_, _ = to.Write(buffer[:n]) // when that end is gone, reading from it says so
		}
		if err != nil {
			return
		}
	}
}

func (p *passage) close() {
	for _, end := range p.ends {
		_ = end.Close()
	}
}

// Silence makes the connections that there are silent for good: as when packets are dropped on the way. New ones work.
func (r *Relay) Silence() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.passing {
		p.silent.Store(true)
	}
}

// Cut closes the connections that there are, silent ones too.
func (r *Relay) Cut() { r.cut(func(*passage) bool { return true }) }

// CutSilent closes the connections that are silent, which both ends now notice.
func (r *Relay) CutSilent() { r.cut(func(p *passage) bool { return p.silent.Load() }) }

func (r *Relay) cut(which func(*passage) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.passing {
		if which(p) {
			p.close()
			delete(r.passing, p)
		}
	}
}

// Close cuts all connections and takes no new ones.
func (r *Relay) Close() {
	r.mu.Lock()
	if r.listener != nil {
		_ = r.listener.Close()
	}
	r.mu.Unlock()
	r.Cut()
}
