// Package health keeps what changes by itself true in the World: whether local instances are well, by running their
// checks, and where names of gateways and proxies lead, by resolving them. It turns both into events, only where something
// changed, and never decides what a bad state means for traffic.
package health

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// Writer takes the events: the store.
type Writer interface {
	Commit(ctx context.Context, events ...snapshot.Event) (uint64, error)
	Announce(ctx context.Context, events ...snapshot.Event) error
}

// Config is what a Health needs.
type Config struct {
	Publisher *snapshot.Publisher
	Store     Writer
	Log       logrus.FieldLogger
	// Resolve returns the addresses of a host name, of both families. Nil: the system's resolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Dial connects TCP and HTTP checks. Nil: as net.Dialer does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// ResolveEvery is about how long a name's answer is kept. 0: 10 s.
	ResolveEvery time.Duration
	// Concurrency bounds how many checks, and how many look-ups, are under way at once. 0: 32.
	Concurrency int
}

// A Health runs checks and resolves names.
type Health struct {
	cfg    Config
	probe  func(context.Context, *snapshot.Check) result // replaced in tests
	synced chan struct{}

	mu    sync.Mutex
	beats map[snapshot.Key]struct{}
	beat  chan struct{} // holds one token while beats has something
}

// New returns a Health that does nothing until Run.
func New(cfg Config) (*Health, error) {
	if cfg.Publisher == nil || cfg.Store == nil || cfg.Log == nil {
		return nil, errors.New("health: want Publisher, Store and Log")
	}
	if cfg.Resolve == nil {
		cfg.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	if cfg.ResolveEvery == 0 {
		cfg.ResolveEvery = 10 * time.Second
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 32
	}
	h := &Health{cfg: cfg, synced: make(chan struct{}), beats: map[snapshot.Key]struct{}{}, beat: make(chan struct{}, 1)}
	h.probe = prober{dial: cfg.Dial}.probe
	return h, nil
}

// Run checks and resolves until ctx ends, and returns ctx's error once everything that it started has ended.
func (h *Health) Run(ctx context.Context) error {
	var all sync.WaitGroup
	all.Go(func() { newResolver(h).run(ctx) })
	all.Go(func() { newRunner(h).run(ctx) })
	all.Wait()
	return ctx.Err()
}

// Synced is closed once every name of the first World was looked up, with whatever answer, or ten seconds after Run
// began. A World before that may lack addresses that it had in an earlier process.
func (h *Health) Synced() <-chan struct{} { return h.synced }

// Heartbeat tells that the owner of a TTL check reported, whether or not the report changed anything. It never blocks.
func (h *Health) Heartbeat(node, serviceID, checkID string) {
	h.mu.Lock()
	h.beats[snapshot.NewKey(snapshot.TableChecks, node, serviceID, checkID)] = struct{}{}
	h.mu.Unlock()
	select {
	case h.beat <- struct{}{}:
	default:
	}
}

func (h *Health) takeBeats() map[snapshot.Key]struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	beats := h.beats
	h.beats = map[snapshot.Key]struct{}{}
	return beats
}
