package xds

import (
	"context"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// A LeafSource answers with certificates. It may be slow: it is asked beside the streams, by many goroutines at once.
type LeafSource interface {
	// Leaf returns the certificate of a SPIFFE ID: the same one until it is due to be renewed.
	Leaf(ctx context.Context, identity string) (Leaf, error)
	// RenewAt returns when the certificate of a version that a proxy has is due to be renewed. ok is false if that is now:
	// the version is not of an active root, or expired, or not known.
	RenewAt(version string) (at time.Time, ok bool)
}

// A Leaf is a certificate with its key.
type Leaf struct {
	CertPEM   []byte // and its chain
	KeyPEM    redact.Bytes
	NotBefore time.Time
	NotAfter  time.Time
	RootID    string
	RenewAt   time.Time
	Version   string // "<root id>.<not after>", in Unix seconds
}

// leafRetry is the pause after the first time that no certificate came; it doubles up to leafRetryMax.
const (
	leafRetry    = time.Second
	leafRetryMax = time.Minute
)

// leafGrace is how long the first secrets of a stream wait for a first certificate, to go with it in one response.
const leafGrace = 100 * time.Millisecond

// A leafLane renews the certificate of one proxy. Its clock is the certificate's: no view and no restart of the server has
// anything to do with it.
type leafLane struct {
	identity string // of the certificate that the proxy has
	look     bool   // find out when the next one is due
	force    bool   // the proxy asks for it again, whatever it has
	alone    bool   // a response with others in it was rejected
	asked    bool   // the source is at work
	grace    time.Time
	due      time.Time
	ready    *Leaf
	refused  string // version that the proxy rejected
	failures int
}

type leafAnswer struct {
	identity string
	leaf     Leaf
	err      error
}

// renewLeaf asks for the next certificate when it is due.
func (st *stream) renewLeaf(ctx context.Context) {
	l, sds := &st.leaf, &st.subs[secrets]
	if _, state := st.lookup(secrets, envoy.LeafName); state != elsewhere || !sds.interested(envoy.LeafName) {
		*l = leafLane{asked: l.asked}
		return
	}
	if l.identity != st.set.LeafIdentity {
		// What a proxy reports when it connects is taken for this identity's: it is known by its proxy id.
		l.look, l.force = true, l.force || l.identity != ""
		l.identity, l.ready = st.set.LeafIdentity, nil
	}
	if l.look {
		l.look, l.due = false, st.leafDue(sds)
	}
	switch {
	case l.ready != nil || l.due.IsZero() || l.asked:
	case st.clock.now.Before(l.due):
		st.clock.at(l.due)
	default:
		l.asked, l.due = true, time.Time{}
		if l.grace.IsZero() {
			l.grace = st.clock.now.Add(leafGrace)
		}
		st.askLeaf(ctx, l.identity)
	}
}

// leafSoon tells whether the first certificate of the proxy may come any moment.
func (st *stream) leafSoon(sds *subscription) bool {
	_, has := sds.have[envoy.LeafName]
	if has || !st.leaf.asked || !st.clock.now.Before(st.leaf.grace) {
		return false
	}
	st.clock.at(st.leaf.grace)
	return true
}

func (st *stream) leafDue(sds *subscription) time.Time {
	version, has := sds.have[envoy.LeafName]
	if !has || st.leaf.force {
		return st.clock.now
	}
	at, ok := st.server.config.Leaves.RenewAt(version)
	if !ok {
		return st.clock.now
	}
	return at
}

func (st *stream) askLeaf(ctx context.Context, identity string) {
	st.server.running.Go(func() {
		leaf, err := st.server.config.Leaves.Leaf(ctx, identity)
		st.mail.put(func(m *mail) { m.leaf = &leafAnswer{identity, leaf, err} })
	})
}

// answered takes what the source found.
func (l *leafLane) answered(st *stream, answer *leafAnswer) {
	l.asked = false
	switch {
	case answer.identity != l.identity:
		l.look = true // the proxy became another service meanwhile
	case answer.err != nil:
		pause := min(leafRetry<<min(l.failures, 6), leafRetryMax)
		l.failures++
		l.due = st.clock.now.Add(pause)
		st.server.metrics.leafErrors.Inc()
		st.log.WithError(answer.err).WithField(logkey.RetryIn, pause).Warn("no certificate for the proxy")
	case answer.leaf.Version == l.refused, answer.leaf.Version == st.subs[secrets].have[envoy.LeafName] && !l.force:
		l.plan(st, answer.leaf.RenewAt)
	default:
		l.failures, l.ready = 0, &answer.leaf
	}
}

// plan sets when to ask again, and never at once: the source may answer the same for a while.
func (l *leafLane) plan(st *stream, at time.Time) {
	l.due = at
	if soonest := st.clock.now.Add(leafRetryMax); at.Before(soonest) {
		l.due = soonest
	}
}

// pushSecrets sends what changed. A certificate goes in a response of its own, so that its answer is about nothing else;
// only the first goes with the others.
func (st *stream) pushSecrets(sds *subscription) {
	if !sds.open || sds.out != nil || st.leafSoon(sds) {
		return
	}
	_, has := sds.have[envoy.LeafName]
	leaf := st.leaf.ready
	if leaf == nil {
		st.pushKind(sds)
		return
	}
	out := &response{leaf: &Leaf{Version: leaf.Version, RenewAt: leaf.RenewAt}}
	if !has && !st.leaf.alone {
		out.items, out.removed = st.collect(sds)
	}
	body, err := leafSecret(leaf)
	if err != nil {
		panic(err) // nothing in it can be wrong
	}
	st.leaf.ready, st.leaf.force = nil, false
	out.items = append(out.items, item{name: envoy.LeafName, version: leaf.Version, body: body})
	st.send(sds, out)
}

func leafSecret(leaf *Leaf) ([]byte, error) {
	inline := func(value []byte) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: value}}
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(&tlsv3.Secret{
		Name: envoy.LeafName,
		Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(leaf.CertPEM),
			PrivateKey:       inline(leaf.KeyPEM.Reveal()),
		}},
	})
}

func (l *leafLane) acked(st *stream, leaf *Leaf) {
	l.alone = false
	l.plan(st, leaf.RenewAt)
}

func (l *leafLane) rejected(st *stream, out *response) {
	if len(out.items) > 1 {
		l.look, l.alone = true, true
		return
	}
	l.refused = out.leaf.Version
	l.plan(st, st.clock.now)
}
