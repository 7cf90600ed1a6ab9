package xds

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"

	"github.com/isthmus-mesh/isthmus/internal/connlimit"
)

// Serve answers on listener until ctx ends, and returns when every stream has ended. It closes the listener. config is the
// server end of TLS: there is no other way to be served.
func (s *Server) Serve(ctx context.Context, listener net.Listener, config *tls.Config) error {
	server := grpc.NewServer(s.options(config)...)
	s.Register(server)
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	err := server.Serve(s.bound(listener))
	server.Stop()
	s.running.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("xds %s: %w", listener.Addr(), err)
}

// strangerTime is how long a connection may stay without a stream that proved itself by a token: its handshake and the
// wait for its first request included.
const strangerTime = helloTimeout

// bound returns listener within the limits.
func (s *Server) bound(listener net.Listener) net.Listener {
	bounded := connlimit.New(listener, connlimit.Limits{
		Connections: s.config.Limits.Connections, PerAddress: s.config.Limits.Strangers, Patience: strangerTime,
	})
	s.metrics.listen(bounded)
	return bounded
}

// shown notes that whoever opened a stream has shown a token, and returns what is to be called when the stream ends.
func shown(stream context.Context) (ended func()) {
	var from net.Addr
	if caller, ok := peer.FromContext(stream); ok {
		from = caller.Addr
	}
	return connlimit.Of(from).Begin()
}

func (s *Server) options(config *tls.Config) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(credentials.NewTLS(config)),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.WaitForHandlers(true),
		grpc.ReadBufferSize(8 << 10), // of each connection, for good; requests are short
		grpc.MaxRecvMsgSize(s.config.Limits.MessageBytes),
		grpc.MaxConcurrentStreams(4), // of one connection: an Envoy needs one
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(helloTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time:    15 * time.Second,
			Timeout: 5 * time.Second,
			// A connection is told to go before its stream reaches its age, so that the next stream opens another one: that is
			// how proxies spread over servers again.
			MaxConnectionAge: s.config.MaxAge * 9 / 10,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             5 * time.Second,
			PermitWithoutStream: true,
		}),
	}
}
