package peering

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/sni"
)

// Establish makes a peering with the token of the other side. It answers when the token was traded for a secret and that
// is stored; the stream comes after it, see Status. When nobody answers, the peering stays PENDING and the error says
// what happened at each address.
func (s *Service) Establish(ctx context.Context, request config.EstablishRequest) error {
	if err := config.CheckPeerName(request.Peer); err != nil {
		return badRequest("peer name %v", err)
	}
	t, err := decodeToken(request.Token)
	if err != nil {
		return err
	}
	if len(t.CA) == 0 && !s.AllowPlaintext {
		return badRequest("peering token: CA is empty, so that nobody could tell whom we speak to: want a token of a server with TLS")
	}
	peer, err := s.begin(ctx, request, t)
	if err != nil {
		return err
	}
	secret, err := s.exchange(ctx, peer, t.EstablishmentSecret)
	if err != nil {
		return err
	}
	err = s.update(ctx, peer.ID, func(row *snapshot.Peer) ([]snapshot.Event, error) {
		if row.State == snapshot.Pending {
			row.State = snapshot.Establishing
		}
		if row.TrustDomain == "" {
			row.TrustDomain = peer.TrustDomain
		}
		follows(row, request, t)
		return []snapshot.Event{record(kindDialer, peer.ID, dialerSecret{secret})}, nil
	})
	if err != nil {
		return fmt.Errorf("peer %s: the secret could not be stored, and the token is spent: %w", peer.Name, err)
	}
	s.Log.WithField(logkey.Peer, peer.Name).Info("peering established")
	l := s.link(peer)
	l.note(func(n *notes) { n.fresh = true })
	l.wake()
	s.statusChanged()
	return nil
}

// begin writes the row of the peering before anybody is dialled. One that is established already stays as it is until
// the new token has proved good, so that a stream that runs, or comes back, is not disturbed.
func (s *Service) begin(ctx context.Context, request config.EstablishRequest, t token) (*snapshot.Peer, error) {
	s.rows.Lock()
	defer s.rows.Unlock()
	world := s.Store.World()
	cluster := world.Cluster()
	if cluster == nil {
		return nil, errors.New("peering: the cluster has no identity yet")
	}
	if err := notOurs(world, cluster, t); err != nil {
		return nil, err
	}
	peer, err := dialerRow(world.Peer(request.Peer), request, t)
	if err != nil {
		return nil, err
	}
	if trustDomain, ok := sni.PeeringServerTrustDomain(t.ServerName); ok {
		if problem := mayPin(world, peer, trustDomain); problem != "" {
			return nil, conflict("peer %s: %s", peer.Name, problem)
		}
		for _, text := range t.CA {
			root, err := parseRoot(text)
			if err == nil {
				err = checkRoot(root, trustDomain)
			}
			if err != nil {
				return nil, badRequest("peering token: CA: %v", err)
			}
		}
		peer.TrustDomain = trustDomain
	}
	if _, established := s.vault.dialer(peer.ID); established {
		return peer, nil
	}
	return peer, s.commit(ctx, snapshot.Event{Key: snapshot.NewKey(snapshot.TablePeers, peer.Name), Object: peer})
}

// notOurs refuses a token that this cluster made.
func notOurs(w *snapshot.World, cluster *snapshot.Cluster, t token) error {
	own := sni.PeeringServer(cluster.Datacenter, cluster.TrustDomain)
	trustDomain, _ := sni.PeeringServerTrustDomain(t.ServerName)
	if t.ServerName == own || sameName(trustDomain, cluster.TrustDomain) || peerByID(w, t.PeerID) != nil {
		return badRequest("cannot create a peering within the same cluster %q: want a token that another cluster generated", own)
	}
	return nil
}

// dialerRow returns the row of a peering that dials: a new one, or a copy of the one there is with what the token says.
func dialerRow(existing *snapshot.Peer, request config.EstablishRequest, t token) (*snapshot.Peer, error) {
	peer := &snapshot.Peer{Name: request.Peer, ID: uuid.NewString(), Role: snapshot.Dialer, State: snapshot.Pending}
	if existing != nil {
		switch {
		case existing.Role != snapshot.Dialer:
			return nil, conflict("cannot create peering with name: %q; there is an existing peering expecting to be dialed", existing.Name)
		case existing.State == snapshot.Terminated:
			return nil, conflict("peering %q was terminated by the peer: delete it before it is established again", existing.Name)
		case existing.State == snapshot.Deleting:
			return nil, conflict("peering %q is being deleted", existing.Name)
		}
		copied := *existing
		peer = &copied
	}
	follows(peer, request, t)
	return peer, nil
}

// follows writes into a row what a token says.
func follows(peer *snapshot.Peer, request config.EstablishRequest, t token) {
	if request.Meta != nil {
		peer.Meta = request.Meta
	}
	peer.RemoteID, peer.ServerName, peer.CAPEMs = t.PeerID, t.ServerName, t.CA
	peer.ServerAddresses, peer.ManualAddresses = t.ServerAddresses, t.ManualServerAddresses
	if t.Remote != nil {
		peer.RemoteDatacenter = t.Remote.Datacenter
	}
	if peer.Dialect == "" {
		peer.Dialect = t.dialect().name
	}
}

// exchange trades the token's secret for a stream secret, trying all addresses in turn until time is up, and each at
// least once. A refusal ends it: the peer's answer would be the same everywhere.
func (s *Service) exchange(ctx context.Context, peer *snapshot.Peer, secret string) (string, error) {
	const pause = 150 * time.Millisecond
	var failed attempts
	addresses := targets(peer)
	each := min(s.Timing.Connect, 5*s.Timing.Establish/time.Duration(len(addresses)))
	deadline := time.NewTimer(s.Timing.Establish)
	defer deadline.Stop()
	for turn := 0; ; turn++ {
		address := addresses[turn%len(addresses)]
		stream, err := s.exchangeAt(ctx, each, peer, address, secret)
		if err == nil {
			return stream, nil
		}
		if status.Code(err) == codes.PermissionDenied {
			return "", forbidden("a new peering token must be generated: %s", status.Convert(err).Message())
		}
		failed.failed(address, err)
		if turn+1 < len(addresses) {
			continue
		}
		rest := time.NewTimer(pause + rand.N(pause/4))
		select {
		case <-ctx.Done():
			rest.Stop()
			return "", fmt.Errorf("peer %s: %w: %s", peer.Name, ctx.Err(), &failed)
		case <-deadline.C:
			rest.Stop()
			return "", fmt.Errorf("peer %s: no address answered: %s", peer.Name, &failed)
		case <-rest.C:
		}
	}
}

func (s *Service) exchangeAt(ctx context.Context, limit time.Duration, peer *snapshot.Peer, address, secret string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	client, err := s.client(ctx, peer, address)
	if err != nil {
		return "", err
	}
	defer client.Close()
	answer, err := wire.NewPeerStreamServiceClient(client).ExchangeSecret(ctx, &wire.ExchangeSecretRequest{PeerID: peer.RemoteID, EstablishmentSecret: secret})
	if err != nil {
		return "", err
	}
	if answer.StreamSecret == "" {
		return "", errors.New("the peer answered without a secret")
	}
	return answer.StreamSecret, nil
}
