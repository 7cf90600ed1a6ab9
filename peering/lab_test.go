package peering

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/ca"
	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/sni"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what comes at once when all is well.
const patience = 20 * time.Second

// cluster is one side of a peering, with everything but its network in memory.
type cluster struct {
	*Service
	t           testing.TB
	name        string
	trustDomain string
	ca          *ca.CA
	store       *memory
	changed     chan struct{} // has an element after anything that Status shows may have changed
	stop        func()        // ends Run, and waits for it
}

// newCluster returns a cluster that listens on loopback. change may alter its configuration.
func newCluster(t testing.TB, name string, change ...func(*Config)) *cluster {
	return newClusterOn(t, name, nil, change...)
}

// newClusterOn returns a cluster that listens on listener; nil is loopback.
func newClusterOn(t testing.TB, name string, listener net.Listener, change ...func(*Config)) *cluster {
	c := newIdentity(t, name)
	id := strings.TrimSuffix(c.trustDomain, ".consul")
	c.store = newMemory(snapshot.Event{Key: snapshot.NewKey(snapshot.TableCluster, ""), Object: &snapshot.Cluster{
		ID: id, TrustDomain: c.trustDomain, Datacenter: "dc1", NodeName: name + "-node",
		Addresses: config.AddressPolicy{Also: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
	}})
	c.startOn(listener, change...)
	return c
}

// newIdentity returns a cluster that has a name, a trust domain and a CA and does nothing: its streams are raw.
func newIdentity(t testing.TB, name string) *cluster {
	c := &cluster{t: t, name: name, trustDomain: uuid.NewString() + ".consul"}
	var err error
	c.ca, err = ca.New(t.Context(), ca.Config{
		TrustDomain: c.trustDomain, Datacenter: "dc1", Load: func() ([]byte, error) { return nil, nil },
		Save: func(context.Context, []byte) error { return nil },
	})
	require.NoError(t, err)
	return c
}

func (c *cluster) start(change ...func(*Config)) { c.startOn(nil, change...) }

// startOn runs a Service on the cluster's store: a first one, or the next after stop.
func (c *cluster) startOn(listener net.Listener, change ...func(*Config)) {
	t := c.t
	var err error
	if listener == nil {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
	}
	certificate, err := c.ca.ServerCertificate([]string{sni.PeeringServer("dc1", c.trustDomain)}, nil)
	require.NoError(t, err)
	log := logrus.New()
	log.SetOutput(io.Discard)
	if os.Getenv("PEERING_LOG") != "" {
		log.SetOutput(os.Stderr)
	}
	settings := Config{
		Store: c.store, Publisher: c.store.publisher, Advertise: []string{listener.Addr().String()},
		TLS:    &tls.Config{GetCertificate: certificate, MinVersion: tls.VersionTLS12},
		Roots:  func() []string { roots, _ := c.ca.Bundle(); return roots },
		Log:    log.WithField("cluster", c.name),
		Timing: Timing{Drain: 200 * time.Millisecond, Establish: 200 * time.Millisecond, MaxRetry: 100 * time.Millisecond},
	}
	for _, f := range change {
		f(&settings)
	}
	c.Service, err = New(settings)
	require.NoError(t, err)
	changed := make(chan struct{}, 1)
	c.changed = changed
	c.onStatus = func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	service := c.Service
	serving := make(chan struct{})
	go func() { defer close(serving); _ = service.Serve(listener) }()
	go func() { defer close(ended); _ = service.Run(ctx) }()
	c.stop = func() { cancel(); <-ended; <-serving }
	t.Cleanup(c.stop)
}

// commit writes to the cluster's store as its operator would.
func (c *cluster) commit(events ...snapshot.Event) {
	c.t.Helper()
	_, err := c.store.Commit(c.t.Context(), events...)
	require.NoError(c.t, err)
}

// token generates a token for a peer.
func (c *cluster) token(peer string) redact.String {
	c.t.Helper()
	secret, err := c.GenerateToken(c.t.Context(), config.TokenRequest{Peer: peer})
	require.NoError(c.t, err)
	return secret
}

// peerWith peers c, which dials, with acceptor; each calls the other by its name.
func (c *cluster) peerWith(acceptor *cluster) {
	c.t.Helper()
	secret := acceptor.token(c.name)
	require.NoError(c.t, c.Establish(c.t.Context(), config.EstablishRequest{Peer: acceptor.name, Token: secret}))
	c.awaitState(acceptor.name, snapshot.Active)
	acceptor.awaitState(c.name, snapshot.Active)
}

// await waits for a published World that holds.
func (c *cluster) await(what string, holds func(*snapshot.World) bool) *snapshot.World {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	worlds := c.store.publisher.Subscribe()
	defer worlds.Close()
	for {
		update, err := worlds.Next(ctx)
		if err != nil {
			require.FailNow(c.t, "waited in vain", "%s: %s; peers: %s", c.name, what, c.describe())
		}
		if holds(update.World) {
			return update.World
		}
	}
}

// awaitStatus waits for a status that holds.
func (c *cluster) awaitStatus(peer, what string, holds func(snapshot.PeerStatus) bool) snapshot.PeerStatus {
	c.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	worlds := c.store.publisher.Subscribe()
	defer worlds.Close()
	for {
		if status := c.Status(peer); holds(status) {
			return status
		}
		select {
		case <-c.changed:
		case <-worlds.Ready():
			worlds.Take()
		case <-limit.C:
			require.FailNow(c.t, "waited in vain", "%s: %s; peers: %s", c.name, what, c.describe())
		}
	}
}

func (c *cluster) awaitState(peer string, state snapshot.PeerState) snapshot.PeerStatus {
	c.t.Helper()
	return c.awaitStatus(peer, string(state), func(s snapshot.PeerStatus) bool { return s.State == state })
}

// awaitImport waits for an import that holds.
func (c *cluster) awaitImport(peer, service, what string, holds func(*snapshot.Import) bool) *snapshot.Import {
	c.t.Helper()
	world := c.await(service+" of "+peer+" "+what, func(w *snapshot.World) bool {
		imported := w.Import(peer, service)
		return imported != nil && holds(imported)
	})
	return world.Import(peer, service)
}

func routable(i *snapshot.Import) bool { return i.NotRoutable == "" }

func (c *cluster) describe() string {
	text := ""
	for _, peer := range c.store.World().Peers() {
		text += fmt.Sprintf("\n%s: %+v\nstatus %+v", peer.Name, *peer, c.Status(peer.Name))
		for _, i := range c.store.World().Imports(peer.Name) {
			text += fmt.Sprintf("\n  import %s: %q %s", i.Service, i.NotRoutable, i.ServerName)
		}
	}
	return text
}
