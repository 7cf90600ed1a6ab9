// Package xds serves what the translators made to Envoys, over one delta ADS stream each. It decides who may ask for what,
// in which order a proxy is told, when it is told again and what is left out after a refusal. To it every resource is a name,
// a version and bytes: it never reads what is inside, and nothing that a proxy answers changes anything for another proxy.
package xds

import (
	"cmp"
	"context"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// Config is what a Server needs. Log and Authenticate must be set.
type Config struct {
	Log logrus.FieldLogger
	// Registerer takes the server's metrics; nil: they are counted and shown to nobody.
	Registerer prometheus.Registerer
	// Authenticate returns the proxy that a token was made for; ctx ends with the stream. Its error is logged, and not told to the client.
	Authenticate func(ctx context.Context, token redact.String) (proxy string, err error)
	// Leaves answers with certificates; nil: secrets named envoy.LeafName do not exist.
	Leaves LeafSource
	// Synced is closed when the views are complete. Nobody is answered before. nil: they are.
	Synced <-chan struct{}
	// Floor is the oldest Envoy that is served, as "1.37", which is the default.
	Floor  string
	Limits Limits
	// MaxAge is how long a stream may live, but for a jitter; zero is one hour.
	MaxAge time.Duration
}

// Limits bound what clients can make the server hold. Zero values are replaced by the defaults.
type Limits struct {
	Streams        int     // open streams of all proxies; 10,000
	Connections    int     // open connections of everybody; 10,000
	Strangers      int     // of those, from one address (IPv6: /64), that have not shown a token; 1,024
	MessageBytes   int     // of one request; 4 MiB
	RequestsPerSec float64 // of one stream, which is read no faster; 200, bursts of 1,000
	Names          int     // subscribed to or reported by one stream, by type; 20,000
}

// A Server holds what each proxy is to be told and tells it to those that are connected.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	config    Config
	floor     version
	synced    <-chan struct{}
	metrics   *metrics
	endpoints endpointTable
	running   sync.WaitGroup // every goroutine of every stream

	mu      sync.Mutex
	streams int
	proxies map[string]*proxy
}

// A proxy is what the server knows by a proxy's id, connected or not.
type proxy struct {
	id     string
	sets   []*envoy.Set // one for each shape of listeners that is served, oldest first; none: no view of it
	stream *stream      // the newest; nil: not connected
	memory *memory
}

// shaped returns the set of the shape that a bootstrap noted. One that is newer than all gets the newest, one that is older,
// or not noted, the oldest: that stays the same for longest.
func (p *proxy) shaped(schema int) *envoy.Set {
	chosen := p.sets[0]
	for _, set := range p.sets {
		if set.Schema <= schema {
			chosen = set
		}
	}
	return chosen
}

// New returns a server that knows no proxy yet.
func New(config Config) *Server {
	config.Floor = cmp.Or(config.Floor, "1.37")
	config.MaxAge = cmp.Or(config.MaxAge, time.Hour)
	limits := &config.Limits
	limits.Streams = cmp.Or(limits.Streams, 10_000)
	limits.Connections = cmp.Or(limits.Connections, 10_000)
	limits.Strangers = cmp.Or(limits.Strangers, 1024)
	limits.MessageBytes = cmp.Or(limits.MessageBytes, 4<<20)
	limits.RequestsPerSec = cmp.Or(limits.RequestsPerSec, 200)
	limits.Names = cmp.Or(limits.Names, 20_000)
	synced := config.Synced
	if synced == nil {
		done := make(chan struct{})
		close(done)
		synced = done
	}
	return &Server{
		config:  config,
		floor:   parseVersion(config.Floor),
		synced:  synced,
		metrics: newMetrics(config.Registerer),
		proxies: map[string]*proxy{},
	}
}

// Register adds the service to a gRPC server that the caller runs. Only ADS is served: there is no service per type.
func (s *Server) Register(registrar grpc.ServiceRegistrar) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(registrar, s)
}

// SetProxy replaces what a proxy is told. The sets are all of that proxy: one for each shape of listeners that is served, by
// ascending Schema, of which it is told the one that its bootstrap noted. It never blocks; of several that a proxy could not
// take in time it gets the last. The sets are not written afterwards by anybody.
func (s *Server) SetProxy(sets ...*envoy.Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.proxy(sets[0].Proxy)
	p.sets = sets
	if p.stream != nil {
		set := p.shaped(p.stream.node.notes.schema())
		p.stream.mail.put(func(m *mail) { m.set = set })
	}
}

// RemoveProxy forgets the view of a proxy. One that is connected keeps what it has and is told nothing more.
func (s *Server) RemoveProxy(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, known := s.proxies[id]
	if !known {
		return
	}
	p.sets = nil
	if p.stream == nil {
		delete(s.proxies, id)
		return
	}
	p.stream.mail.put(func(m *mail) { m.set, m.unset = nil, true })
}

// SetEndpoints replaces the endpoints that all clusters with r.Name share. Its cost follows the number of proxies that
// subscribed to that name. It never blocks.
func (s *Server) SetEndpoints(r *envoy.Resource) { s.endpoints.set(r) }

// RenewLeaves makes every connected proxy whose certificate is no longer good, as LeafSource.RenewAt tells, get its next one
// now instead of when it was due: for a change of the active root.
func (s *Server) RenewLeaves() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.proxies {
		if p.stream != nil {
			p.stream.mail.put(func(m *mail) { m.renew = true })
		}
	}
}

// Disconnect ends the stream of a proxy, which must show its token again: for a token that was revoked.
func (s *Server) Disconnect(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, known := s.proxies[id]; known && p.stream != nil {
		p.stream.end(errDisconnected)
	}
}

// proxy returns the record of id, which may be new. The caller holds s.mu.
func (s *Server) proxy(id string) *proxy {
	p, known := s.proxies[id]
	if !known {
		p = &proxy{id: id, memory: &memory{}}
		s.proxies[id] = p
	}
	return p
}

// join makes st the stream of its proxy. An older one is ended: the newest wins, since a proxy that lost its connection can
// be back before the server noticed.
func (s *Server) join(id string, st *stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams >= s.config.Limits.Streams {
		return errTooManyStreams
	}
	s.streams++
	s.metrics.streams.Inc()
	p := s.proxy(id)
	st.proxy, st.memory = id, p.memory
	if p.stream != nil {
		p.stream.end(errReplaced)
	}
	p.stream = st
	p.memory.interrupted()
	if len(p.sets) > 0 {
		set := p.shaped(st.node.notes.schema())
		st.mail.put(func(m *mail) { m.set = set })
	}
	return nil
}

func (s *Server) leave(st *stream) {
	s.endpoints.unwatchAll(st)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams--
	s.metrics.streams.Dec()
	p, known := s.proxies[st.proxy]
	if !known || p.stream != st {
		return
	}
	p.stream = nil
	if len(p.sets) == 0 {
		delete(s.proxies, st.proxy)
	}
}
