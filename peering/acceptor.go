package peering

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"time"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/connlimit"
	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// Limits of the port. A message may be larger than a resource, so that one that is too large is refused alone and does
// not end the stream of all others.
const (
	maxMessage    = 2*wire.MaxResource + 64<<10
	maxStreams    = 16 // on one connection
	maxHeader     = 16 << 10
	handshakeTime = 5 * time.Second
	idleTime      = 30 * time.Second // without a stream
	// Connections that carry no stream which was opened with a peering's secret: in all, and from one address. One that does
	// takes nobody's place while the stream lasts.
	maxStrangers           = 1024
	maxStrangersPerAddress = 64
)

// acceptor serves the peering port.
type acceptor struct {
	wire.UnimplementedPeerStreamServiceServer
	*Service
}

// newServer returns a server for the peering service and nothing else.
func (s *Service) newServer() *grpc.Server {
	transport := insecure.NewCredentials()
	if s.TLS != nil {
		config := s.TLS.Clone()
		config.NextProtos = []string{"h2"}
		config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
		config.CipherSuites = cipherSuites
		transport = credentials.NewTLS(config)
	}
	server := grpc.NewServer(
		grpc.Creds(closable{transport}),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxConcurrentStreams(maxStreams), grpc.MaxHeaderListSize(maxHeader),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, MaxConnectionIdle: idleTime}),
		grpc.WaitForHandlers(true),
		grpc.UnaryInterceptor(func(ctx context.Context, r any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
			defer s.recovered(&err)
			return next(ctx, r)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
			defer s.recovered(&err)
			return next(srv, stream)
		}),
	)
	wire.RegisterPeerStreamServiceServer(server, &acceptor{Service: s})
	return server
}

// recovered turns a panic into the error of one call.
func (s *Service) recovered(err *error) {
	if problem := recover(); problem != nil {
		s.Log.WithField(logkey.Reason, fmt.Sprint(problem)).WithField("stack", string(debug.Stack())).Error("peering call panicked")
		*err = status.Error(codes.Internal, "grpc: panic serving request")
	}
}

// remoteAddress is where a call came from.
func remoteAddress(ctx context.Context) string {
	if from, ok := grpcpeer.FromContext(ctx); ok && from.Addr != nil {
		return from.Addr.String()
	}
	return "unknown"
}

// known notes that a stream was opened with a peering's secret, and returns what is to be called when it ends.
func known(stream context.Context) (ended func()) {
	var address net.Addr
	if from, ok := grpcpeer.FromContext(stream); ok {
		address = from.Addr
	}
	return connlimit.Of(address).Begin()
}

// ExchangeSecret trades the secret of a token for the secret that opens streams.
func (a *acceptor) ExchangeSecret(ctx context.Context, r *wire.ExchangeSecretRequest) (*wire.ExchangeSecretResponse, error) {
	from := remoteAddress(ctx)
	secret, refused, err := a.redeem(ctx, r.PeerID, r.EstablishmentSecret, from)
	if err != nil {
		a.Log.WithError(err).Error("peering secret not stored")
		return nil, status.Error(codes.Unavailable, "the secret could not be stored: try again")
	}
	if refused == "" {
		a.statusChanged()
		return &wire.ExchangeSecretResponse{StreamSecret: secret}, nil
	}
	a.Log.WithField(logkey.Address, from).WithField(logkey.Reason, refused).Warn("peering token refused")
	text := "invalid peering establishment secret"
	if refused != "unknown" {
		text += ": " + refused // whoever knows the secret may know what became of it
	}
	return nil, status.Error(codes.PermissionDenied, text)
}

// StreamResources serves one stream of a dialer.
func (a *acceptor) StreamResources(stream wire.PeerStreamService_StreamResourcesServer) error {
	ctx := stream.Context()
	r := a.newReader(stream)
	defer r.stop()
	session, err := a.open(ctx, stream, r)
	if err != nil {
		a.logRefusal(ctx, err)
		r.drain(ctx, 4, 100*time.Millisecond)
		return err
	}
	defer known(ctx)()
	if err := session.link.begin(ctx, session); err != nil {
		return status.FromContextError(err).Err()
	}
	session.log.WithField(logkey.Address, remoteAddress(ctx)).Info("peer connected")
	err = a.serve(ctx, session)
	if stuck := (*stuckError)(nil); errors.As(err, &stuck) {
		closeConnection(ctx)
	}
	// The stream ends when this returns, and with it the loops that wait inside of it.
	a.tasks.Go(func() { session.finish(err) })
	return answerToEnd(err)
}

// logRefusal is loud only where somebody who is known may be meant: anybody can reach the port.
func (a *acceptor) logRefusal(ctx context.Context, err error) {
	level := logrus.DebugLevel
	if code := status.Code(err); code == codes.PermissionDenied || code == codes.Internal {
		level = logrus.WarnLevel
	}
	entry := a.Log.WithField(logkey.Address, remoteAddress(ctx)).WithField(logkey.Reason, err.Error())
	entry.Log(level, "peering stream refused")
}

// serve runs a session and acts on how it ended.
func (a *acceptor) serve(ctx context.Context, session *session) error {
	if err := session.subscribe(); err != nil {
		return err
	}
	err := session.run(ctx)
	if errors.Is(err, errTerminated) {
		err = errors.Join(err, a.terminatedByPeer(context.WithoutCancel(ctx), session.link.id))
	}
	session.log.WithError(err).Info("peer disconnected")
	return err
}

// answerToEnd is the status with which a dialer sees its stream end.
func answerToEnd(err error) error {
	var ended *streamError
	switch {
	case errors.Is(err, errTerminated), errors.Is(err, errDeleted):
		return nil
	case errors.Is(err, errReplaced):
		return status.Error(codes.Aborted, "replaced by a newer stream")
	case errors.As(err, &ended):
		return ended.status.Err()
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Unavailable, "the server is shutting down")
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Unavailable, err.Error())
}

// open reads the first message and checks what it says. On success the session may begin.
func (a *acceptor) open(ctx context.Context, stream messageStream, r *reader) (*session, error) {
	limit, cancel := context.WithTimeout(ctx, a.Timing.Open)
	defer cancel()
	first, err := r.read(limit)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "no first message: %v", err)
	}
	open := first.GetOpen()
	if open == nil {
		return nil, status.Error(codes.InvalidArgument, "first message when initiating a peering must be: Open")
	}
	peer, fresh, err := a.authorize(ctx, open)
	if err == nil && peer.State == snapshot.Deleting || err != nil && a.vault.wasEnded(open.PeerID, open.StreamSecretID) {
		_ = wire.NewTerminated().Send(stream)
		return nil, status.Errorf(codes.Aborted, "peering is marked as deleted: %s", open.PeerID)
	}
	if err != nil {
		return nil, err
	}
	guess := dialect114
	var early []*wire.ReplicationMessage
	if open.Remote == nil {
		// A dialer that does not say where it is speaks the older dialect, unless it subscribes to the list of services.
		if guess, early, err = detect(ctx, r, dialect113, time.Second); err != nil {
			return nil, err
		}
	}
	session := a.newSession(a.link(peer), peer, guess, stream, r, fresh)
	session.early = early
	return session, nil
}

// authorize finds the peering that a dialer opens a stream for, and promotes its new secret when it came with that.
func (a *acceptor) authorize(ctx context.Context, open *wire.Open) (peer *snapshot.Peer, fresh bool, err error) {
	if open.PeerID == "" {
		return nil, false, status.Error(codes.InvalidArgument, "initial subscription request must specify a PeerID")
	}
	a.rows.Lock()
	defer a.rows.Unlock()
	// Dialers act on the answer, so that it tells an unknown peering from a wrong secret; the time it takes does not.
	secrets := a.vault.acceptor(open.PeerID)
	active, pending := secrets.Active.is(open.StreamSecretID), secrets.Pending.is(open.StreamSecretID)
	peer = peerByID(a.Store.World(), open.PeerID)
	switch {
	case peer == nil:
		return nil, false, status.Errorf(codes.InvalidArgument, "initial subscription for unknown PeerID: %.100s", open.PeerID)
	case peer.Role != snapshot.Acceptor:
		return nil, false, status.Error(codes.InvalidArgument, "expected PeerID to be empty; the wrong end of peering is being dialed")
	case peer.State == snapshot.Terminated:
		return nil, false, status.Errorf(codes.Aborted, "peering is marked as deleted: %s", peer.ID)
	}
	if len(secrets.Active) == 0 && len(secrets.Pending) == 0 {
		return nil, false, status.Error(codes.Internal, "unable to authorize connection, peering must be re-established")
	}
	if !active && !pending {
		return nil, false, status.Error(codes.PermissionDenied, "invalid peering stream secret")
	}
	if pending {
		if peer, err = a.promote(ctx, peer, secrets, open); err != nil {
			a.Log.WithError(err).Error("peering secret not stored")
			return nil, false, status.Error(codes.Unavailable, "the secret could not be stored: try again")
		}
	}
	return peer, pending, nil
}

// promote makes the pending secret the active one, which voids the former. It runs with rows held.
func (a *acceptor) promote(ctx context.Context, peer *snapshot.Peer, secrets acceptorSecrets, open *wire.Open) (*snapshot.Peer, error) {
	row := *peer
	if datacenter := open.GetRemote().GetDatacenter(); len(datacenter) <= maxServiceName {
		row.RemoteDatacenter = datacenter
	}
	return &row, a.commit(ctx, record(kindAcceptor, peer.ID, acceptorSecrets{Active: secrets.Pending}), snapshot.Event{
		Key: snapshot.NewKey(snapshot.TablePeers, row.Name), Object: &row, Check: stillThere(row.Name, peer.ID),
	})
}
