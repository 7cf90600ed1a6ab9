package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/ca"
	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/health"
	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/peering"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/sni"
	"github.com/isthmus-mesh/isthmus/state"
	"github.com/isthmus-mesh/isthmus/xds"
)

// plane is the embedded control plane: its parts, made in the order in which they need each other.
type plane struct {
	cfg       config.Server
	log       *logrus.Logger
	registry  *prometheus.Registry
	store     *state.Store
	trail     *trail
	pairs     filePairs
	authority *ca.CA
	peering   *peering.Service
	health    *health.Health
	xds       *xds.Server
	line      *line
	synced    chan struct{}
	restored  chan struct{} // closed once the state was replaced
	deaf      chan struct{} // closed once the API takes no more connections
	sockets   sockets
	listeners listeners
}

// listeners are open before anything runs, so that an address in use ends the start with its name.
type listeners struct {
	http, xds, peering, metrics, dns net.Listener
	dnsPackets                       net.PacketConn
}

// newPlane opens everything that can fail. Nothing runs yet. held are the sockets of the plane before this one; nil for
// a plane that none follows.
func newPlane(ctx context.Context, cfg config.Server, log *logrus.Logger, held sockets) (*plane, error) {
	p := &plane{cfg: cfg, log: log, registry: prometheus.NewRegistry(), synced: make(chan struct{}), restored: make(chan struct{}), deaf: make(chan struct{}), sockets: held}
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, step := range []func(context.Context) error{
		p.openListeners, p.openDNS, p.openStore, p.openSelf, p.openAuthority, p.openPeering, p.openHealth, p.openXDS,
	} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, p.close())
		}
	}
	return p, nil
}

func (p *plane) openListeners(ctx context.Context) error {
	if err := p.openPairs(); err != nil {
		return err
	}
	for _, l := range []struct {
		to         *net.Listener
		what, addr string
	}{
		{&p.listeners.http, "http", p.cfg.HTTPAddr}, {&p.listeners.xds, "xds", p.cfg.XDSAddr},
		{&p.listeners.peering, "peering", p.cfg.PeeringAddr}, {&p.listeners.metrics, "metrics", p.cfg.MetricsAddr},
		{&p.listeners.dns, "dns", p.cfg.DNSAddr},
	} {
		if l.addr == "" {
			continue
		}
		listener, err := p.sockets.listen(ctx, l.what, l.addr)
		if err != nil {
			return fmt.Errorf("%s-addr: %w", l.what, err)
		}
		*l.to = listener
	}
	return nil
}

func (p *plane) openStore(context.Context) (err error) {
	p.store, err = state.Open(state.Config{
		Dir: p.cfg.DataDir, Log: p.log, Actor: api.Actor, Restorable: p.restorable,
		Retire: func(key snapshot.Key, backup, running []byte) ([]byte, error) {
			return peering.RetireToken(key, backup, running, time.Now())
		},
	})
	p.trail = &trail{Store: p.store, log: p.log}
	return err
}

// close ends what newPlane opened, also when that was not all.
func (p *plane) close() error {
	errs := []error{p.closeDNS()}
	for _, l := range []net.Listener{p.listeners.http, p.listeners.xds, p.listeners.peering, p.listeners.metrics, p.listeners.dns} {
		if l != nil {
			if err := l.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	return errors.Join(errs...)
}

func (p *plane) openAuthority(ctx context.Context) (err error) {
	self := p.store.World().Cluster()
	key := snapshot.NewKey(snapshot.TablePrivate, "ca")
	p.authority, err = ca.New(ctx, ca.Config{
		TrustDomain: self.TrustDomain, Datacenter: self.Datacenter,
		Load: func() ([]byte, error) {
			records, err := p.store.Private("ca")
			return records[key.Path], err
		},
		Save: func(ctx context.Context, material []byte) error {
			_, err := p.store.Commit(ctx, snapshot.Event{Key: key, Object: material})
			return err
		},
	})
	if err != nil {
		return err
	}
	roots, active := p.authority.Bundle()
	_, err = p.store.Commit(ctx, snapshot.Event{
		Key:    snapshot.NewKey(snapshot.TableRoots),
		Object: &snapshot.Bundle{TrustDomain: self.TrustDomain, Roots: roots, ActiveRoot: active},
	})
	return err
}

func (p *plane) openPeering(context.Context) error {
	self := p.store.World().Cluster()
	certificate, err := p.authority.ServerCertificate([]string{sni.PeeringServer(self.Datacenter, self.TrustDomain)}, nil)
	if err != nil {
		return err
	}
	advertise := p.cfg.PeeringAdvertise
	if len(advertise) == 0 {
		advertise = []string{p.listeners.peering.Addr().String()}
	}
	p.peering, err = peering.New(peering.Config{
		Store: p.store, Publisher: p.store.Publisher(), Advertise: advertise, Log: p.log,
		TLS:            &tls.Config{GetCertificate: certificate, MinVersion: tls.VersionTLS12},
		Roots:          func() []string { roots, _ := p.authority.Bundle(); return roots },
		AllowPlaintext: p.cfg.AllowPlaintextPeers, Registerer: p.registry,
	})
	return err
}

func (p *plane) openHealth(context.Context) (err error) {
	p.health, err = health.New(health.Config{Publisher: p.store.Publisher(), Store: p.store, Log: p.log})
	return err
}

func (p *plane) openXDS(context.Context) error {
	p.xds = xds.New(xds.Config{
		Log: p.log, Registerer: p.registry, Synced: p.synced, Leaves: leafSource{p.authority},
		Authenticate: func(stream context.Context, token redact.String) (string, error) {
			credential, ok := p.store.Hold(stream, token)
			if !ok || credential.Role != snapshot.RoleProxy {
				return "", errors.New("not a proxy's token")
			}
			return string(credential.Proxy), nil
		},
	})
	p.registry.MustRegister(p.firstStop())
	p.line = newLine(p.store.Publisher(), p.xds, p.log, p.registry)
	return nil
}

// sync opens the gates of xds and the API once everything that proxies are told is known: the first World went down the
// line, with the names that gateways are found by.
func (p *plane) sync(ctx context.Context) error {
	for _, ready := range []<-chan struct{}{p.health.Synced(), p.line.passed} {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ready:
		}
	}
	close(p.synced)
	return nil
}

// leafSource gives xds its certificates.
type leafSource struct{ authority *ca.CA }

func (s leafSource) Leaf(ctx context.Context, identity string) (xds.Leaf, error) {
	id, err := url.Parse(identity)
	if err != nil {
		return xds.Leaf{}, err
	}
	leaf, err := s.authority.Leaf(ctx, id)
	if err != nil {
		return xds.Leaf{}, err
	}
	return xds.Leaf(leaf), nil
}

func (s leafSource) RenewAt(version string) (time.Time, bool) { return s.authority.RenewAt(version) }

// Run runs all parts until ctx ends or one of them fails, and returns when all have ended. read is for reload.
func (p *plane) Run(ctx context.Context, read func() (config.Server, error)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.store.Run(ctx) })
	group.Go(func() error { return p.trail.verify(ctx) })
	group.Go(func() error { return p.line.Run(ctx) })
	group.Go(func() error { return p.health.Run(ctx) })
	group.Go(func() error { return p.sync(ctx) })
	group.Go(func() error { return p.reload(ctx, read) })
	group.Go(func() error { return p.peering.Run(ctx) })
	group.Go(func() error { return p.servePeering() })
	group.Go(func() error { return p.serveXDS(ctx) })
	group.Go(func() error { return p.serveHTTP(ctx) })
	group.Go(func() error { return p.serveDNS(ctx) })
	group.Go(func() error { return p.untilRestored(ctx) })
	self := p.store.World().Cluster()
	p.log.WithFields(logrus.Fields{
		"http": p.listeners.http.Addr().String(), "xds": p.listeners.xds.Addr().String(), "peering": p.listeners.peering.Addr().String(),
		"trust_domain": self.TrustDomain, "datacenter": self.Datacenter,
	}).Info("server started")
	return errors.Join(group.Wait(), p.close())
}
