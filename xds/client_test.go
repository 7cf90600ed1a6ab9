package xds

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// A wire is a stream without a network: what the server sends is encoded and decoded as gRPC would.
type wire struct {
	ctx      context.Context
	toServer chan *request
	toClient chan *discoveryv3.DeltaDiscoveryResponse
	stuck    chan struct{} // not nil: nothing is written until it is closed
}

func (w *wire) Context() context.Context                         { return w.ctx }
func (w *wire) SetHeader(metadata.MD) error                      { return nil }
func (w *wire) SendHeader(metadata.MD) error                     { return nil }
func (w *wire) SetTrailer(metadata.MD)                           {}
func (w *wire) RecvMsg(any) error                                { return errors.New("not used") }
func (w *wire) Send(*discoveryv3.DeltaDiscoveryResponse) error   { return errors.New("not used") }
func (w *wire) send(r *discoveryv3.DeltaDiscoveryResponse)       { w.toClient <- r }
func (w *wire) receive() (r *discoveryv3.DeltaDiscoveryResponse) { return <-w.toClient }
func (w *wire) pending() int                                     { return len(w.toClient) }

func (w *wire) Recv() (*request, error) {
	select {
	case req, open := <-w.toServer:
		if !open {
			return nil, io.EOF
		}
		return req, nil
	case <-w.ctx.Done():
		return nil, w.ctx.Err()
	}
}

func (w *wire) SendMsg(m any) error {
	if w.stuck != nil {
		select {
		case <-w.stuck:
		case <-w.ctx.Done():
			return w.ctx.Err()
		}
	}
	pieces, err := newCodec().Marshal(m)
	if err != nil {
		return err
	}
	r := &discoveryv3.DeltaDiscoveryResponse{}
	if err := proto.Unmarshal(pieces.Materialize(), r); err != nil {
		return err
	}
	w.send(r)
	return nil
}

// The short names of the kinds in tests.
var short = map[string]string{
	typeURLs[secrets]: "SDS", typeURLs[clusters]: "CDS", typeURLs[endpoints]: "EDS",
	typeURLs[extensions]: "ECDS", typeURLs[listeners]: "LDS",
}

// A client behaves as Envoy does: it keeps what it is given, asks for what that refers to, acknowledges, and tells what it
// has when it connects again.
type client struct {
	t      *testing.T
	server *Server
	wire   *wire
	cancel context.CancelFunc
	ended  chan error

	have  map[kind]map[string]string // versions
	names map[kind]map[string]bool   // asked for by name
	extra map[kind]map[string]bool   // of those: nothing refers to them
	body  map[string][]byte          // last body by "SDS leaf"
	log   []string                   // one line per response
	// reject returns why a resource is refused; empty: it is not.
	reject func(k kind, name string, body []byte) string
	// mute tells which responses are not answered.
	mute  func(k kind, r *discoveryv3.DeltaDiscoveryResponse) bool
	muted []*discoveryv3.DeltaDiscoveryResponse
	// ackFirst: a response is acknowledged before what it refers to is asked for, not after.
	ackFirst bool
	notes    map[string]any // of the bootstrap
	order    []kind         // of the first requests of a stream; those not named come last
}

func node40(id string) *corev3.Node {
	return &corev3.Node{Id: id, UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{
		UserAgentBuildVersion: &corev3.BuildVersion{Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40}},
	}}
}

func newClient(t *testing.T, s *Server) *client {
	return &client{t: t, server: s, have: map[kind]map[string]string{}, names: map[kind]map[string]bool{},
		extra: map[kind]map[string]bool{}, body: map[string][]byte{}}
}

// open starts a stream with the token of a proxy.
func (c *client) open(token string) {
	ctx, cancel := context.WithCancel(c.t.Context())
	ctx = metadata.NewIncomingContext(ctx, metadata.Pairs(tokenHeader, token))
	c.wire = &wire{ctx: ctx, toServer: make(chan *request, 100), toClient: make(chan *discoveryv3.DeltaDiscoveryResponse, 100)}
	c.cancel = cancel
	c.ended = make(chan error, 1)
	w, ended := c.wire, c.ended
	go func() {
		ended <- c.server.DeltaAggregatedResources(w)
		cancel()
	}()
}

// connect opens a stream and asks for everything that the client had, telling what it has.
func (c *client) connect(proxy string) {
	c.open("token-" + proxy)
	asked := false
	sent := map[kind]bool{}
	for _, k := range append(slices.Clone(c.order), clusters, endpoints, listeners, secrets, extensions) {
		if sent[k] {
			continue
		}
		sent[k] = true
		if !k.wildcards() && len(c.names[k]) == 0 {
			continue
		}
		req := &request{TypeUrl: typeURLs[k], InitialResourceVersions: maps.Clone(c.have[k]),
			ResourceNamesSubscribe: slices.Sorted(maps.Keys(c.names[k]))}
		if !asked {
			asked, req.Node = true, node40(proxy)
			note(req, c.notes)
		}
		c.wire.toServer <- req
	}
}

// disconnect ends the stream as a lost connection does.
func (c *client) disconnect() {
	c.cancel()
	<-c.ended
}

// settle answers until nothing more comes.
func (c *client) settle() {
	for {
		synctest.Wait()
		if c.wire.pending() == 0 {
			return
		}
		c.answer(c.wire.receive())
	}
}

// lines settles, and returns what was received since the last call.
func (c *client) lines() string {
	c.settle()
	log := strings.Join(c.log, "\n")
	c.log = nil
	return log
}

func (c *client) answer(r *discoveryv3.DeltaDiscoveryResponse) {
	k := kindOf[r.TypeUrl]
	c.log = append(c.log, describe(r))
	if c.mute != nil && c.mute(k, r) {
		c.muted = append(c.muted, r)
		return
	}
	c.finish(r)
}

// finish applies a response and answers it.
func (c *client) finish(r *discoveryv3.DeltaDiscoveryResponse) {
	k := kindOf[r.TypeUrl]
	req := &request{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce}
	var refused []string
	if c.have[k] == nil {
		c.have[k] = map[string]string{}
	}
	for _, res := range r.Resources {
		if !k.wildcards() && !c.names[k][res.Name] {
			continue // it let go of it meanwhile
		}
		if c.reject != nil {
			if why := c.reject(k, res.Name, res.GetResource().GetValue()); why != "" {
				refused = append(refused, res.Name+": "+why)
				continue
			}
		}
		c.have[k][res.Name] = res.Version
		c.body[short[r.TypeUrl]+" "+res.Name] = res.GetResource().GetValue()
	}
	for _, name := range r.RemovedResources {
		delete(c.have[k], name)
		if k != secrets && k != endpoints { // Envoy goes on with the last of those
			delete(c.body, short[r.TypeUrl]+" "+name)
		}
	}
	if len(refused) > 0 {
		// Envoy does not report the good ones of a rejected response.
		for _, res := range r.Resources {
			if len(r.Resources) > 1 {
				delete(c.have[k], res.Name)
			}
		}
		req.ErrorDetail = &status.Status{Code: 3, Message: strings.Join(refused, "\n")}
	}
	if c.ackFirst {
		c.wire.toServer <- req
		c.follow()
		return
	}
	c.follow()
	c.wire.toServer <- req
}

// follow asks for what the clusters and listeners refer to now, and lets go what they did: in these tests a reference is
// "|eds:NAME|" somewhere in the body.
func (c *client) follow() {
	for _, k := range []kind{endpoints, secrets, extensions} {
		prefix := strings.ToLower(short[typeURLs[k]]) + ":"
		wanted := map[string]bool{}
		for name := range c.extra[k] {
			wanted[name] = true
		}
		for owner, body := range c.body {
			if strings.HasPrefix(owner, "CDS ") || strings.HasPrefix(owner, "LDS ") {
				for _, field := range strings.Split(string(body), "|") {
					if name, refers := strings.CutPrefix(field, prefix); refers {
						wanted[name] = true
					}
				}
			}
		}
		req := &request{TypeUrl: typeURLs[k]}
		for _, name := range sorted(wanted) {
			if !c.names[k][name] {
				req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, name)
			}
		}
		for _, name := range sorted(c.names[k]) {
			if !wanted[name] {
				req.ResourceNamesUnsubscribe = append(req.ResourceNamesUnsubscribe, name)
				delete(c.have[k], name)
				delete(c.body, short[typeURLs[k]]+" "+name)
			}
		}
		c.names[k] = wanted
		if len(req.ResourceNamesSubscribe)+len(req.ResourceNamesUnsubscribe) > 0 {
			c.wire.toServer <- req
		}
	}
}

// ask0 makes the first request of the next stream ask for names that nothing refers to.
func (c *client) ask0(k kind, names ...string) {
	c.extra[k], c.names[k] = map[string]bool{}, map[string]bool{}
	for _, name := range names {
		c.extra[k][name], c.names[k][name] = true, true
	}
}

// ask subscribes to names that nothing refers to.
func (c *client) ask(k kind, names ...string) {
	if c.extra[k] == nil {
		c.extra[k] = map[string]bool{}
	}
	for _, name := range names {
		c.extra[k][name] = true
	}
	if k.wildcards() {
		c.wire.toServer <- &request{TypeUrl: typeURLs[k], ResourceNamesSubscribe: names}
		return
	}
	c.follow()
}

// describe writes a response as "CDS +a +b -c".
func describe(r *discoveryv3.DeltaDiscoveryResponse) string {
	line := short[r.TypeUrl]
	for _, res := range r.Resources {
		line += " +" + res.Name
	}
	for _, name := range r.RemovedResources {
		line += " -" + name
	}
	return line
}

// expect compares what the client received since the last call.
func (c *client) expect(want ...string) {
	c.t.Helper()
	if got := c.lines(); got != strings.Join(want, "\n") {
		c.t.Errorf("received:\n%s\nwant:\n%s", indent(got), indent(strings.Join(want, "\n")))
	}
}

// end settles and returns why the stream ended.
func (c *client) end() error {
	c.t.Helper()
	c.settle()
	select {
	case err := <-c.ended:
		return err
	default:
		c.t.Fatal("stream has not ended")
		return nil
	}
}

func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

func wait(d time.Duration) { // in a bubble, where time passes when nobody has anything to do
	<-time.After(d)
	synctest.Wait()
}
