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
)

// Serve answers on listener until ctx ends, and returns when every stream has ended. It closes the listener. config is the
// server end of TLS: there is no other way to be served.
func (s *Server) Serve(ctx context.Context, listener net.Listener, config *tls.Config) error {
	server := grpc.NewServer(s.options(config)...)
	s.Register(server)
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	err := server.Serve(newDoor(s, listener))
	server.Stop()
	s.running.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("xds %s: %w", listener.Addr(), err)
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
			// Of a proxy whose stream ended. Strangers are closed by the door.
			MaxConnectionIdle: strangerTime,
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
