// Package dns answers DNS questions from a World, for machines that find services without a proxy, in the names and
// records of Consul: NAME.service.consul for our own services, NAME.service.PEER.peer.consul for a peer's. It answers for
// its own zone only, asks nobody, and keeps no state.
package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/miekg/dns"
	"github.com/sirupsen/logrus"
	"golang.org/x/net/netutil"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

const (
	// zone is what all names end with.
	zone = "consul."
	// maxUDP is the largest answer over UDP, whatever the client takes: larger ones get lost as fragments.
	maxUDP = 1232
	// maxConnections bounds the TCP connections, and maxQueries the questions on each.
	maxConnections = 256
	maxQueries     = 128
	// maxAsked bounds the questions that are answered at once; over UDP, more are dropped.
	maxAsked = 256
	// readTimeout bounds how long a question on a connection may take, idleTimeout how long none may come.
	readTimeout, idleTimeout = 2 * time.Second, 10 * time.Second
)

// Config is what a Server answers from.
type Config struct {
	// World returns the newest World. Wanted.
	World func() *snapshot.World
	// Synced tells whether the source has answered: until then every answer is "try again". Nil: it has.
	Synced func() bool
	Log    logrus.FieldLogger // wanted
}

// A Server answers questions.
type Server struct {
	cfg   Config
	asked chan struct{} // one place for each question that is being answered
}

// New returns a Server, which listens nowhere yet.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.World == nil:
		return nil, errors.New("dns: Config.World is nil")
	case cfg.Log == nil:
		return nil, errors.New("dns: Config.Log is nil")
	}
	return &Server{cfg: cfg, asked: make(chan struct{}, maxAsked)}, nil
}

// Serve answers on both until ctx ends, closes them, and returns ctx's error, or why it could not go on.
func (s *Server) Serve(ctx context.Context, packets net.PacketConn, connections net.Listener) error {
	servers := []*dns.Server{
		{PacketConn: packets, Handler: s},
		{
			Listener: netutil.LimitListener(connections, maxConnections), Handler: s, MaxTCPQueries: maxQueries,
			ReadTimeout: readTimeout, WriteTimeout: readTimeout, IdleTimeout: func() time.Duration { return idleTimeout },
		},
	}
	started, ended := make(chan struct{}, len(servers)), make(chan error, len(servers))
	for _, server := range servers {
		server.NotifyStartedFunc = func() { started <- struct{}{} }
		go func() { ended <- server.ActivateAndServe() }()
	}
	running := len(servers)
	var err error
	for range servers { // one that has not started cannot be shut down
		select {
		case <-started:
		case err = <-ended:
			running--
		}
	}
	if running == len(servers) {
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case err = <-ended:
			running--
			err = fmt.Errorf("dns: %w", err)
		}
	}
	for _, server := range servers {
		_ = server.Shutdown() // it may have ended
	}
	for range running {
		<-ended
	}
	return err
}

// ServeDNS answers one question.
func (s *Server) ServeDNS(w dns.ResponseWriter, request *dns.Msg) {
	select {
	case s.asked <- struct{}{}:
		defer func() { <-s.asked }()
	default:
		return // the client asks again
	}
	answer := s.answer(request)
	if _, tcp := w.RemoteAddr().(*net.TCPAddr); tcp {
		answer.Truncate(dns.MaxMsgSize)
	} else {
		answer.Truncate(udpSize(request))
	}
	if err := w.WriteMsg(answer); err != nil {
		s.cfg.Log.WithError(err).Debug("dns answer not sent")
	}
}

// udpSize is how large an answer over UDP may be.
func udpSize(request *dns.Msg) int {
	size := dns.MinMsgSize
	if options := request.IsEdns0(); options != nil {
		size = max(size, int(options.UDPSize()))
	}
	return min(size, maxUDP)
}

// answer returns the whole answer to a request, of any size.
func (s *Server) answer(request *dns.Msg) *dns.Msg {
	reply := new(dns.Msg)
	reply.SetReply(request)
	reply.Compress = true
	if request.IsEdns0() != nil {
		reply.SetEdns0(maxUDP, false)
	}
	switch {
	case request.Opcode != dns.OpcodeQuery:
		reply.Rcode = dns.RcodeNotImplemented
		return reply
	case len(request.Question) != 1 || request.Question[0].Qclass != dns.ClassINET:
		reply.Rcode = dns.RcodeRefused
		return reply
	case !dns.IsSubDomain(zone, request.Question[0].Name):
		reply.Rcode = dns.RcodeRefused // we ask nobody else
		return reply
	}
	world := s.cfg.World()
	if world.Cluster() == nil || s.cfg.Synced != nil && !s.cfg.Synced() {
		reply.Rcode = dns.RcodeServerFailure
		return reply
	}
	reply.Authoritative = true
	found := fill(reply, world, request.Question[0])
	if !found {
		reply.Rcode = dns.RcodeNameError
	}
	if len(reply.Answer) == 0 {
		reply.Ns = []dns.RR{soa(world)}
	}
	return reply
}
