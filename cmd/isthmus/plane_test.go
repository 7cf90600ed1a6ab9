package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/isthmus-mesh/isthmus/config"
)

// quiet is a log that nobody reads.
func quiet() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// planeConfig is a server's on free ports, with a data directory of its own.
func planeConfig(t *testing.T) config.Server {
	t.Helper()
	cfg, err := config.Server{
		DataDir: t.TempDir() + "/data", HTTPAddr: "127.0.0.1:0", XDSAddr: "127.0.0.1:0", PeeringAddr: "127.0.0.1:0",
		PeeringAdvertise: []string{"gateway.example.com:8503"}, NodeName: "node-1",
	}.Resolve("host")
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// opened returns a plane that does not run, and closes it with the test.
func opened(t *testing.T, cfg config.Server) *plane {
	t.Helper()
	p, err := newPlane(t.Context(), cfg, quiet(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.close() }) // a test may have closed it
	return p
}

func TestPlaneKeepsItsIdentity(t *testing.T) {
	cfg := planeConfig(t)
	p := opened(t, cfg)
	before, root := *p.store.World().Cluster(), p.store.World().Roots().ActiveRoot
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	p = opened(t, cfg)
	if after := p.store.World().Cluster(); after.ID != before.ID || after.TrustDomain != before.ID+".consul" {
		t.Errorf("cluster %s, trust domain %s after a restart: want those of %s", after.ID, after.TrustDomain, before.ID)
	}
	if p.store.World().Roots().ActiveRoot != root {
		t.Error("another root after a restart")
	}
}

func TestPlaneRefusesToStart(t *testing.T) {
	cfg := planeConfig(t)
	p := opened(t, cfg)
	refused := func(change func(*config.Server), want string) {
		t.Helper()
		other := cfg
		change(&other)
		_, err := newPlane(t.Context(), other, quiet(), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v: want it to say %q", err, want)
		}
	}
	refused(func(*config.Server) {}, cfg.DataDir)
	refused(func(c *config.Server) { c.HTTPAddr, c.DataDir = p.listeners.http.Addr().String(), t.TempDir() }, "http-addr")
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	refused(func(c *config.Server) { c.Datacenter = "dc2" }, "want --datacenter dc1")
	refused(func(c *config.Server) { c.NodeName = "node-2" }, "want --node-name node-1")
	opened(t, cfg) // what was refused left nothing behind
}

func TestReload(t *testing.T) {
	p := opened(t, planeConfig(t))
	next := p.cfg
	next.LogLevel, next.DefaultIntentionPolicy = "warn", config.Allow
	next.AllowPeerAddresses = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	next.HTTPOpen, next.DNSAddr = true, "127.0.0.1:0" // need a restart
	var log bytes.Buffer
	p.log.SetOutput(&log)
	current, err := p.apply(t.Context(), p.cfg, next)
	if err != nil {
		t.Fatal(err)
	}
	if self := p.store.World().Cluster(); !self.DefaultAllow || len(self.Addresses.Also) != 1 {
		t.Errorf("cluster is %+v: want the default policy and the addresses of the new configuration", self)
	}
	if p.log.GetLevel() != logrus.WarnLevel {
		t.Errorf("log level is %s: want warning", p.log.GetLevel())
	}
	if current.HTTPOpen {
		t.Error("http_open is in force without a restart")
	}
	if !strings.Contains(log.String(), `options="dns_addr, http_open"`) {
		t.Errorf("%s: want the options that need a restart", &log)
	}
}

func TestPlaneRunsAndEnds(t *testing.T) {
	p := opened(t, planeConfig(t))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, func() (config.Server, error) { return p.cfg, nil }) }()
	<-p.synced
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v: want context canceled", err)
	}
}
