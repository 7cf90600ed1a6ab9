package api

import (
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxBody is the largest request body in bytes, backups apart.
	maxBody = 1 << 20
	// maxBackup is the largest backup that is taken, in bytes.
	maxBackup = 1 << 30
	// bodyTimeout bounds how long a client may take to send a body.
	bodyTimeout = 30 * time.Second
	// defaultRate is generous: a deployment tool registers hundreds of services at once.
	defaultRate = 2000
	// maxWaiting bounds the blocking queries that wait at once.
	maxWaiting = 10_000
	// maxClients bounds the addresses whose rate is remembered.
	maxClients = 10_000
)

// NewServer returns an http.Server for the handler with bounds on headers, idle connections and their reading. It sets no
// timeout on whole requests, since a blocking query takes minutes: bodies and answers have their own, set here.
func NewServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
}

// body returns the request's body, at most maxBody bytes of it.
func body(c *call) ([]byte, error) {
	controller := http.NewResponseController(c.w)
	_ = controller.SetReadDeadline(time.Now().Add(bodyTimeout)) // only a test's recorder has none
	data, err := io.ReadAll(http.MaxBytesReader(c.w, c.Body, maxBody))
	// Left in place, the deadline would end the request's context.
	_ = controller.SetReadDeadline(time.Time{})
	return data, err
}

// limits bounds the rate of requests from each address.
type limits struct {
	mu      sync.Mutex
	perSec  float64
	clients map[netip.Addr]*rate.Limiter // guarded by mu
}

func newLimits(perSec float64) *limits {
	return &limits{perSec: perSec, clients: map[netip.Addr]*rate.Limiter{}}
}

// take returns 0 when a request from remote may be served now, and else how long until one may.
func (l *limits) take(remote string, now time.Time) time.Duration {
	reservation := l.client(remote).ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}

// client returns the limiter of an address; one IPv6 network of 64 bits counts as one.
func (l *limits) client(remote string) *rate.Limiter {
	var address netip.Addr
	if parsed, err := netip.ParseAddrPort(remote); err == nil {
		address = parsed.Addr().Unmap()
		if address.Is6() {
			prefix, _ := address.WithZone("").Prefix(64) // 64 is always valid
			address = prefix.Addr()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if found := l.clients[address]; found != nil {
		return found
	}
	if len(l.clients) >= maxClients {
		clear(l.clients) // forgetting favours the client, and costs nothing
	}
	fresh := rate.NewLimiter(rate.Limit(l.perSec), int(2*l.perSec)+1)
	l.clients[address] = fresh
	return fresh
}
