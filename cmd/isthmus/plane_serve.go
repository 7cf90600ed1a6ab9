package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/state"
	"github.com/isthmus-mesh/isthmus/xds"
)

// shutdown is how long answers that are under way may take when the server ends.
const shutdown = 2 * time.Second

// xdsName is what the certificate of the xDS port carries, and what our bootstraps check.
func (p *plane) xdsName() string {
	self := p.store.World().Cluster()
	return "xds." + self.Datacenter + "." + self.TrustDomain
}

// tls returns the server end of a listener: the operator's certificate, or one of our CA for names and the address.
func (p *plane) tls(pair *filePair, listener net.Listener, names ...string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
	if pair != nil {
		cfg.GetCertificate = pair.get
		return cfg, nil
	}
	var ips []net.IP
	if ip := listener.Addr().(*net.TCPAddr).IP; !ip.IsUnspecified() {
		ips = append(ips, ip)
	}
	certificate, err := p.authority.ServerCertificate(names, ips)
	cfg.GetCertificate = certificate
	return cfg, err
}

func (p *plane) serveXDS(ctx context.Context) error {
	cfg, err := p.tls(p.pairs.xds, p.listeners.xds, p.xdsName(), "localhost")
	if err != nil {
		return fmt.Errorf("xds: %w", err)
	}
	return p.xds.Serve(ctx, p.listeners.xds, cfg)
}

// serveHTTP serves the API, and the metrics apart where they have an address of their own.
func (p *plane) serveHTTP(ctx context.Context) error {
	handler, err := api.New(p.apiConfig())
	if err != nil {
		return err
	}
	if p.sockets.inherited() {
		if err := p.untilSynced(ctx); err != nil { // who comes after a restore waits for what was restored
			return err
		}
	}
	failed := make(chan error, 2)
	own := api.NewServer(handler)
	own.RegisterOnShutdown(func() { close(p.deaf) })
	own.BaseContext = func(net.Listener) context.Context { return ctx } // blocking queries end with the server
	servers := []*http.Server{own}
	go func() { failed <- p.listen(own, p.listeners.http) }()
	if p.listeners.metrics != nil {
		metrics := http.NewServeMux()
		metrics.Handle("/metrics", handler) // which asks who scrapes, wherever that is from
		scraped := api.NewServer(metrics)
		servers = append(servers, scraped)
		go func() { failed <- p.listen(scraped, p.listeners.metrics) }()
	}
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case err = <-failed:
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdown)
	defer cancel()
	for _, server := range servers {
		if server.Shutdown(stopping) != nil {
			_ = server.Close() // a client is slow
		}
	}
	return err
}

func (p *plane) listen(server *http.Server, listener net.Listener) error {
	server.ErrorLog = stdlog.New(connectionLog{p.log}, "", 0)
	if p.pairs.http != nil {
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: p.pairs.http.get}
		return server.ServeTLS(listener, "", "")
	}
	return server.Serve(listener)
}

// connectionLog takes what net/http says of connections, such as of a client that does not trust our certificate.
type connectionLog struct{ log logrus.FieldLogger }

func (l connectionLog) Write(text []byte) (int, error) {
	l.log.WithField("reason", strings.TrimSpace(string(text))).Debug("http connection failed")
	return len(text), nil
}

func (p *plane) apiConfig() api.Config {
	return api.Config{
		Log: p.log, Publisher: p.store.Publisher(), Credentials: credentials{p.store, p.xds}, Store: p.store, Peering: p.peering,
		Audit:    p.trail,
		Backup:   backup{p.store, sync.OnceFunc(p.startAnew)},
		Gatherer: p.registry, Registerer: p.registry,
		Leaf: func(ctx context.Context, identity *url.URL) (api.Leaf, error) {
			leaf, err := p.authority.Leaf(ctx, identity)
			return api.Leaf{CertPEM: leaf.CertPEM, KeyPEM: leaf.KeyPEM, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, RenewAt: leaf.RenewAt}, err
		},
		Server: api.Server{
			Version: version, Source: p.cfg.Source, HTTPOpen: p.cfg.HTTPOpen, XDSAddress: p.listeners.xds.Addr().String(),
			XDSServerName: p.xdsName(), PeeringAddress: cmp.Or(first(p.cfg.PeeringAdvertise), p.listeners.peering.Addr().String()),
			OperatorTokenFile: filepath.Join(p.cfg.DataDir, "operator.token"),
			OperatorToken:     p.store.OperatorToken,
		},
		Runtime: api.Runtime{
			PeerStatus: p.peering.Status, Proxies: p.proxies, Skipped: p.line.Skipped, Problems: p.line.Problems, Synced: p.isSynced, Heartbeat: p.health.Heartbeat,
			Checks: p.checks,
		},
	}
}

// credentials are the store's; a proxy whose token was revoked loses its stream at once.
type credentials struct {
	*state.Store
	xds *xds.Server
}

func (c credentials) RevokeToken(ctx context.Context, accessor string) error {
	var revoked snapshot.Credential
	for _, credential := range c.Tokens() {
		if credential.Accessor == accessor {
			revoked = credential
		}
	}
	if err := c.Store.RevokeToken(ctx, accessor); err != nil {
		return err
	}
	if revoked.Role == snapshot.RoleProxy {
		c.xds.Disconnect(string(revoked.Proxy))
	}
	return nil
}

// backup is the store's, as the API knows it.
type backup struct {
	*state.Store
	restored func()
}

// Restore ends the plane after it: who we are, our keys and all that is pinned on them may be others now.
func (b backup) Restore(ctx context.Context, r io.Reader) error {
	_, err := b.Store.Restore(context.WithoutCancel(ctx), r) // a restore that was begun is not left half way
	if err == nil {
		b.restored()
	}
	return err
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func (p *plane) isSynced() bool {
	select {
	case <-p.synced:
		return true
	default:
		return false
	}
}

// servePeering serves peers until the service ends; it closes the listener itself.
func (p *plane) servePeering() error {
	if err := p.peering.Serve(p.listeners.peering); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("peering: %w", err)
	}
	return nil
}
