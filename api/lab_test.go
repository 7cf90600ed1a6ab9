package api

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

const (
	operatorToken = "operator-secret"
	readToken     = "read-secret"
	metricsToken  = "metrics-secret"
	proxyToken    = "proxy-secret"
)

// memory is a store that forgets.
type memory struct {
	mu        sync.Mutex
	publisher *snapshot.Publisher
	actors    []string
	restored  string
	broken    bool // Snapshot fails half way
}

func (m *memory) Commit(ctx context.Context, events ...snapshot.Event) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.publisher.World()
	for _, event := range events {
		if event.Check == nil {
			continue
		}
		if err := event.Check(w); err != nil {
			return 0, err
		}
	}
	var keys []snapshot.Key
	stamped := make([]snapshot.Event, 0, len(events))
	for _, event := range events {
		event.Object = stamp(w, event.Object, w.Index+1)
		stamped, keys = append(stamped, event), append(keys, event.Key)
	}
	m.actors = append(m.actors, Actor(ctx))
	next := w.With(w.Index+1, stamped)
	m.publisher.Publish(next, keys)
	return next.Index, nil
}

// stamp returns a copy of an object with its indexes.
func stamp(w *snapshot.World, object any, index uint64) any {
	set := func(raft, old *snapshot.Raft) {
		raft.CreateIndex, raft.ModifyIndex = index, index
		if old != nil {
			raft.CreateIndex = old.CreateIndex
		}
	}
	switch o := object.(type) {
	case *snapshot.Entry:
		c := *o
		var old *snapshot.Raft
		if e := w.Entry(o.Value.EntryKind(), o.Value.EntryName()); e != nil {
			old = &e.Raft
		}
		set(&c.Raft, old)
		return &c
	case *snapshot.Instance:
		c := *o
		set(&c.Raft, nil)
		return &c
	case *snapshot.Check:
		c := *o
		set(&c.Raft, nil)
		return &c
	case *snapshot.Node:
		c := *o
		set(&c.Raft, nil)
		return &c
	case *snapshot.Peer:
		c := *o
		set(&c.Raft, nil)
		return &c
	case *snapshot.Import:
		c := *o
		set(&c.Raft, nil)
		return &c
	}
	return object
}

func (m *memory) Snapshot(w io.Writer) error {
	_, err := io.WriteString(w, "archive")
	if m.broken {
		return errors.New("disk gone")
	}
	return err
}

func (m *memory) Restore(_ context.Context, r io.Reader) error {
	data, err := io.ReadAll(r)
	m.restored = string(data)
	return err
}

// tokens are the credentials of a lab.
type tokens struct {
	mu    sync.Mutex
	known map[string]snapshot.Credential
}

func (t *tokens) Authenticate(secret redact.String) (snapshot.Credential, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	found, ok := t.known[secret.Reveal()]
	return found, ok
}

func (t *tokens) CreateToken(_ context.Context, made snapshot.Credential) (redact.String, snapshot.Credential, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	secret := fmt.Sprintf("secret-%d", len(t.known))
	made.Accessor = "accessor-" + secret
	t.known[secret] = made
	return redact.NewString(secret), made, nil
}

func (t *tokens) Tokens() []snapshot.Credential {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []snapshot.Credential
	for _, credential := range t.known {
		all = append(all, credential)
	}
	return all
}

func (t *tokens) RevokeToken(_ context.Context, accessor string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for secret, credential := range t.known {
		if credential.Accessor == accessor {
			delete(t.known, secret)
			return nil
		}
	}
	return refuse(http.StatusNotFound, "not-found", "token %s: there is none", accessor)
}

// peers is a peering service that writes what it is told.
type peers struct{ store *memory }

func (p *peers) GenerateToken(ctx context.Context, r config.TokenRequest) (redact.String, error) {
	return redact.NewString("token-for-" + r.Peer), p.put(ctx, r.Peer, snapshot.Acceptor, snapshot.Pending, r.Meta)
}

func (p *peers) Establish(ctx context.Context, r config.EstablishRequest) error {
	if r.Token.Reveal() == "used" {
		return refuse(http.StatusForbidden, "used", "a new peering token must be generated: invalid peering establishment secret")
	}
	return p.put(ctx, r.Peer, snapshot.Dialer, snapshot.Establishing, r.Meta)
}

func (p *peers) put(ctx context.Context, name string, role snapshot.PeerRole, state snapshot.PeerState, meta map[string]string) error {
	peer := &snapshot.Peer{Name: name, ID: "id-" + name, Role: role, State: state, Meta: meta, TrustDomain: name + ".consul", Roots: []string{"PEM"}}
	_, err := p.store.Commit(ctx, snapshot.Event{Key: snapshot.NewKey(snapshot.TablePeers, name), Object: peer})
	return err
}

func (p *peers) Delete(ctx context.Context, name string) error {
	_, err := p.store.Commit(ctx, snapshot.Event{Key: snapshot.NewKey(snapshot.TablePeers, name)})
	return err
}

func (p *peers) Tokens() []snapshot.TokenInfo {
	return []snapshot.TokenInfo{{ID: "t1", Peer: "east", Created: time.Unix(100, 0), Expires: time.Unix(200, 0)}}
}

func (p *peers) RevokeToken(_ context.Context, id string) error {
	if id != "t1" {
		return errors.New("no such token")
	}
	return nil
}

// A lab is the API over a store in memory, on a real port.
type lab struct {
	trail   records
	t       *testing.T
	store   *memory
	tokens  *tokens
	server  *httptest.Server
	token   string // sent with each request
	rootPEM string
}

func newLab(t *testing.T, options ...func(*Config)) *lab {
	t.Helper()
	l := &lab{t: t, token: operatorToken, rootPEM: makeRoot(t)}
	l.store = &memory{publisher: snapshot.NewPublisher(snapshot.NewWorld())}
	l.tokens = &tokens{known: map[string]snapshot.Credential{
		operatorToken: {Accessor: "op", Role: snapshot.RoleOperator}, readToken: {Accessor: "rd", Role: snapshot.RoleRead},
		metricsToken: {Accessor: "mt", Role: snapshot.RoleMetrics},
		proxyToken:   {Accessor: "px", Role: snapshot.RoleProxy, Proxy: "web-sidecar-proxy"},
	}}
	l.commit(
		snapshot.Event{Key: snapshot.NewKey(snapshot.TableCluster, ""), Object: &snapshot.Cluster{
			ID: "c1", TrustDomain: "c1.consul", Datacenter: "dc1", NodeName: "node1",
		}},
		snapshot.Event{Key: snapshot.NewKey(snapshot.TableNodes, "node1"), Object: &snapshot.Node{Name: "node1", Address: "127.0.0.1", Datacenter: "dc1"}},
		snapshot.Event{Key: snapshot.NewKey(snapshot.TableRoots, ""), Object: &snapshot.Bundle{TrustDomain: "c1.consul", Roots: []string{l.rootPEM}}},
	)
	log := logrus.New()
	log.SetOutput(io.Discard)
	registry := prometheus.NewRegistry()
	cfg := Config{
		Log: log, Publisher: l.store.publisher, Store: l.store, Backup: l.store, Audit: &l.trail, Credentials: l.tokens, Peering: &peers{l.store},
		Gatherer: registry, Registerer: registry, Leaf: l.leaf,
		Server: Server{Version: "0.1.0", Source: "embedded", XDSAddress: "127.0.0.1:8502", XDSServerName: "xds.c1", PeeringAddress: "127.0.0.1:8503", OperatorTokenFile: "/data/operator.token"},
	}
	for _, option := range options {
		option(&cfg)
	}
	handler, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.server = httptest.NewUnstartedServer(nil)
	l.server.Config = NewServer(handler)
	l.server.Start()
	t.Cleanup(l.server.Close)
	return l
}

func (l *lab) commit(events ...snapshot.Event) uint64 {
	l.t.Helper()
	index, err := l.store.Commit(context.Background(), events...)
	if err != nil {
		l.t.Fatal(err)
	}
	return index
}

func (l *lab) leaf(_ context.Context, identity *url.URL) (Leaf, error) {
	return Leaf{
		CertPEM: []byte(l.rootPEM), KeyPEM: redact.NewBytes([]byte("KEY of " + identity.String())),
		NotBefore: time.Unix(1000, 0), NotAfter: time.Unix(2000, 0), RenewAt: time.Now().Add(time.Hour),
	}, nil
}

// An answer is what came back for a request.
type answer struct {
	status int
	text   string
	header http.Header
}

func (a answer) index(t *testing.T) string {
	t.Helper()
	index := a.header.Get("X-Consul-Index")
	if index == "" || index == "0" {
		t.Fatalf("X-Consul-Index %q: want a number above 0", index)
	}
	return index
}

// into decodes a JSON answer.
func (a answer) into(t *testing.T, value any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.text), value); err != nil {
		t.Fatalf("answer %q: %v", a.text, err)
	}
}

// ask sends a request; each header is "Name: value".
func (l *lab) ask(method, path, body string, headers ...string) answer {
	l.t.Helper()
	request, err := http.NewRequest(method, l.server.URL+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	if l.token != "" {
		request.Header.Set("X-Consul-Token", l.token)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		if name == "Host" {
			request.Host = value
			continue
		}
		request.Header.Set(name, value)
	}
	response, err := l.server.Client().Do(request)
	if err != nil {
		l.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return answer{response.StatusCode, string(text), response.Header}
}

// must sends a request that has to succeed.
func (l *lab) must(method, path, body string) answer {
	l.t.Helper()
	a := l.ask(method, path, body)
	if a.status != http.StatusOK {
		l.t.Fatalf("%s %s: status %d: %s", method, path, a.status, a.text)
	}
	return a
}

func makeRoot(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "root of c1"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Unix(1000, 0), NotAfter: time.Unix(2000, 0), SubjectKeyId: []byte{0xab, 0xcd},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		t.Fatal(err)
	}
	return text.String()
}
