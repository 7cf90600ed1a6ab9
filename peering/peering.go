// Package peering holds the connection with other clusters: tokens and secrets, the dialling and the accepting end, and
// the stream on which two peers tell each other what they export, in both dialects that Consul's servers speak. It reads
// published Worlds for what we export and commits what a peer exports to us. It never routes anything, never passes on
// what came from a peer, and believes no message about who sent it.
package peering

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/connlimit"
	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// Store is where peerings, their secrets and what they export to us are kept.
type Store interface {
	// Commit stores all events or none, durably, and returns when World shows them.
	Commit(ctx context.Context, events ...snapshot.Event) (uint64, error)
	// Private returns the TablePrivate records below prefix, by the Path of their keys.
	Private(prefix ...string) (map[string][]byte, error)
	World() *snapshot.World
}

// Config is what a Service needs. Store, Publisher, Log and Roots must be set.
type Config struct {
	Store     Store
	Publisher *snapshot.Publisher
	// Addr is the address that Run listens on. Empty: Run listens nowhere, see Serve.
	Addr string
	// Advertise is what tokens and dialers are told: host:port of the peering port.
	Advertise []string
	// TLS holds the server's certificate for sni.PeeringServer, signed by one of Roots. Nil: the port speaks in clear,
	// which needs AllowPlaintext.
	TLS   *tls.Config
	Roots func() []string // our own roots, PEM
	Log   logrus.FieldLogger
	// Registerer gets the metrics of the Service. Nil: there are none.
	Registerer prometheus.Registerer
	// AllowPlaintext dials without TLS where a token names no CA.
	AllowPlaintext bool
	Timing         Timing
	// Now, Resolve and Dial stand for the clock, the resolver and the network. Nil: the real ones.
	Now     func() time.Time
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

// Timing holds the pauses and limits of a Service. Zero is the default of each.
type Timing struct {
	Heartbeat time.Duration // between heartbeats, 15 s. A peering is ACTIVE while its last round trip is younger than two
	Silence   time.Duration // without a round trip, after which a stream is ended: 60 s
	TokenTTL  time.Duration // 24 h
	Connect   time.Duration // to one address, 3 s
	Establish time.Duration // for all tries to exchange the secret, 3 s, and at least one try of each address
	Open      time.Duration // until a stream has said who it is, 10 s
	Drain     time.Duration // for the other end to hang up after Terminated, 3 s
	Sweep     time.Duration // of quiet on a new stream, after which what was not announced again is gone, 30 s
	MinRetry  time.Duration // first pause before dialling again, at most: 50 ms
	MaxRetry  time.Duration // longest pause before dialling again, at most: 10 s
}

func (t Timing) withDefaults() Timing {
	for value, otherwise := range map[*time.Duration]time.Duration{
		&t.Heartbeat: 15 * time.Second, &t.Silence: time.Minute, &t.TokenTTL: 24 * time.Hour, &t.Connect: 3 * time.Second,
		&t.Establish: 3 * time.Second, &t.Open: 10 * time.Second, &t.Drain: 3 * time.Second, &t.Sweep: 30 * time.Second,
		&t.MinRetry: 50 * time.Millisecond, &t.MaxRetry: 10 * time.Second,
	} {
		if *value == 0 {
			*value = otherwise
		}
	}
	return t
}

// A Service is our end of all peerings.
type Service struct {
	Config
	vault    *vault
	exporter *exporter
	server   *grpc.Server
	started  time.Time
	// rows is held while a peer's row or its secrets are read, changed and committed.
	rows sync.Mutex
	// tasks counts the goroutines that Run waits for.
	tasks     sync.WaitGroup
	mu        sync.Mutex
	links     map[string]*link      // by our ID of the peering
	listeners []*connlimit.Listener // of Serve
	// maxControl bounds what waits to be sent on a stream besides resources.
	maxControl int
	// onStatus, when set, is called after anything that Status shows may have changed. For tests.
	onStatus func()
}

// New returns a Service with the records that Store holds. It starts nothing.
func New(config Config) (*Service, error) {
	if config.TLS == nil && !config.AllowPlaintext {
		return nil, errors.New("peering: no TLS certificate: want one, or plaintext allowed")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Resolve == nil {
		config.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if config.Dial == nil {
		config.Dial = new(net.Dialer).DialContext
	}
	config.Timing = config.Timing.withDefaults()
	s := &Service{Config: config, vault: newVault(), exporter: newExporter(), links: map[string]*link{}, started: config.Now(), maxControl: maxControl}
	records, err := config.Store.Private(owner)
	if err != nil {
		return nil, fmt.Errorf("peering: private records: %w", err)
	}
	for path, value := range records {
		event := snapshot.Event{Key: snapshot.Key{Table: snapshot.TablePrivate, Path: path}, Object: value}
		if err := s.vault.apply(event); err != nil {
			return nil, fmt.Errorf("peering: %w", err)
		}
	}
	s.server = s.newServer()
	if config.Registerer != nil {
		if err := config.Registerer.Register(newMetrics(s)); err != nil {
			return nil, fmt.Errorf("peering: metrics: %w", err)
		}
	}
	return s, nil
}

// Run dials, accepts and replicates until ctx ends, and returns when all that it started has ended. It is called once.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if s.Addr != "" {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.Addr)
		if err != nil {
			return fmt.Errorf("peering: listen on %s: %w", s.Addr, err)
		}
		s.tasks.Go(func() {
			if err := s.Serve(listener); err != nil {
				cancel(err)
			}
		})
	}
	s.tasks.Go(func() { s.followExports(ctx) })
	s.tasks.Go(func() { s.supervise(ctx) })
	<-ctx.Done()
	s.server.Stop()
	s.tasks.Wait()
	s.noteSeen(context.WithoutCancel(ctx))
	return context.Cause(ctx)
}

// Serve accepts peers on l until Run's context ends, and then returns nil.
func (s *Service) Serve(l net.Listener) error {
	bounded := connlimit.New(l, connlimit.Limits{
		Strangers: maxStrangers, PerAddress: maxStrangersPerAddress, Patience: handshakeTime + s.Timing.Open,
	})
	s.mu.Lock()
	s.listeners = append(s.listeners, bounded)
	s.mu.Unlock()
	if err := s.server.Serve(bounded); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("peering: serve %s: %w", l.Addr(), err)
	}
	return nil
}

// commit stores events and keeps the vault in step.
func (s *Service) commit(ctx context.Context, events ...snapshot.Event) error {
	if _, err := s.Store.Commit(ctx, events...); err != nil {
		return err
	}
	return s.vault.apply(events...)
}

// update changes the row of the peering with an ID: change gets a copy, and returns what is to be committed with it. It
// returns errGone when there is no such peering.
func (s *Service) update(ctx context.Context, id string, change func(*snapshot.Peer) ([]snapshot.Event, error)) error {
	s.rows.Lock()
	defer s.rows.Unlock()
	current := peerByID(s.Store.World(), id)
	if current == nil {
		return errGone
	}
	peer := *current
	events, err := change(&peer)
	if err != nil {
		return err
	}
	row := snapshot.Event{Key: snapshot.NewKey(snapshot.TablePeers, peer.Name), Object: &peer, Check: stillThere(peer.Name, id)}
	return s.commit(ctx, append([]snapshot.Event{row}, events...)...)
}

// stillThere refuses a write when the peering was deleted in the meantime.
func stillThere(name, id string) func(*snapshot.World) error {
	return func(w *snapshot.World) error {
		if peer := w.Peer(name); peer == nil || peer.ID != id {
			return errGone
		}
		return nil
	}
}

// peerByID returns the peer that we gave an ID, or nil. There are few peers.
func peerByID(w *snapshot.World, id string) *snapshot.Peer {
	for _, peer := range w.Peers() {
		if peer.ID == id {
			return peer
		}
	}
	return nil
}

// link returns what this process knows of a peering, which from then on exists.
func (s *Service) link(peer *snapshot.Peer) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[peer.ID]
	if l == nil {
		l = newLink(peer.ID, peer.Name)
		if l.seen = s.vault.lastSeen(peer.ID); l.seen.After(s.started) {
			l.seen = s.started // the clock was put back
		}
		s.links[peer.ID] = l
	}
	return l
}

func (s *Service) statusChanged() {
	if s.onStatus != nil {
		s.onStatus()
	}
}

// policy returns what the operator lets a peer do: field by field its own policy, else that of every peer, else the defaults.
func policy(w *snapshot.World, peer string) config.PeerPolicy { return snapshot.Policy(w, peer) }

// addressPolicy returns the rules for the addresses that a peer names.
func addressPolicy(w *snapshot.World, peer string) config.AddressPolicy {
	var rules config.AddressPolicy
	if cluster := w.Cluster(); cluster != nil {
		rules = cluster.Addresses
	}
	rules.Allow = policy(w, peer).AllowAddresses
	return rules
}

// Inspect reads a token and asks nobody.
func (s *Service) Inspect(secret redact.String) (TokenContents, error) { return InspectToken(secret) }

// sameName tells whether two names are one to people and to DNS.
func sameName(a, b string) bool { return strings.EqualFold(a, b) }
