package peering

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/sni"
)

// How many records of tokens that are no good any more are kept of one peering, and for how long.
const (
	maxSpentTokens = 50
	spentTokenAge  = 30 * 24 * time.Hour
)

// maxTokenTTL is the longest life of a token: one that lies about for longer is one that somebody else finds.
const maxTokenTTL = 30 * 24 * time.Hour

// GenerateToken returns a token that a dialer can establish a peering with, once, until it expires. It replaces the
// peering's former token if that was not used; a stream that runs is not disturbed.
func (s *Service) GenerateToken(ctx context.Context, request config.TokenRequest) (redact.String, error) {
	if err := config.CheckPeerName(request.Peer); err != nil {
		return redact.String{}, badRequest("peer name %v", err)
	}
	if err := checkAddresses(request.Addresses); err != nil {
		return redact.String{}, badRequest("%v", err)
	}
	if request.TTL < 0 {
		return redact.String{}, badRequest("token life %s: want a positive one", request.TTL)
	}
	if request.TTL > maxTokenTTL {
		return redact.String{}, badRequest("token life %s: want at most 720h, which is 30 days: make a new one when it is needed", request.TTL)
	}
	if len(s.Advertise) == 0 && len(request.Addresses) == 0 {
		return redact.String{}, badRequest("no address to put into the token: want --peering-advertise, or server external addresses in the request")
	}
	s.rows.Lock()
	defer s.rows.Unlock()
	world := s.Store.World()
	cluster := world.Cluster()
	if cluster == nil {
		return redact.String{}, errors.New("peering: the cluster has no identity yet")
	}
	peer, err := acceptorRow(world.Peer(request.Peer), request)
	if err != nil {
		return redact.String{}, err
	}
	ttl := request.TTL
	if ttl == 0 {
		ttl = s.Timing.TokenTTL
	}
	now := s.Now().UTC()
	t := token{
		CA: s.Roots(), ManualServerAddresses: request.Addresses, ServerAddresses: s.Advertise,
		ServerName: sni.PeeringServer(cluster.Datacenter, cluster.TrustDomain), PeerID: peer.ID,
		EstablishmentSecret: uuid.NewString(), Remote: &tokenRemote{Datacenter: cluster.Datacenter},
		ID: uuid.NewString(), Expires: now.Add(ttl).Truncate(time.Second),
	}
	if s.TLS == nil {
		t.CA = nil
	}
	if len(t.ServerAddresses) == 0 {
		t.ServerAddresses = request.Addresses
	}
	fresh := tokenRecord{ID: t.ID, Peer: peer.Name, PeerID: peer.ID, Secret: hashOf(t.EstablishmentSecret), Created: now, Expires: t.Expires}
	events := append(s.retire(peer.ID, now), record(kindToken, fresh.ID, fresh),
		snapshot.Event{Key: snapshot.NewKey(snapshot.TablePeers, peer.Name), Object: peer})
	if err := s.commit(ctx, events...); err != nil {
		return redact.String{}, err
	}
	s.Log.WithField(logkey.Peer, peer.Name).WithField("token", t.ID).Info("peering token generated")
	return t.encode(), nil
}

// acceptorRow returns the row of a peering that waits to be dialled: a new one, or a copy of the one there is.
func acceptorRow(existing *snapshot.Peer, request config.TokenRequest) (*snapshot.Peer, error) {
	if existing == nil {
		return &snapshot.Peer{
			Name: request.Peer, ID: uuid.NewString(), Role: snapshot.Acceptor, State: snapshot.Pending, Meta: request.Meta,
		}, nil
	}
	switch {
	case existing.Role != snapshot.Acceptor:
		return nil, conflict("cannot create peering with name: %q; there is already an established peering", existing.Name)
	case existing.State == snapshot.Terminated:
		return nil, conflict("peering %q was terminated by the peer: delete it before it is made again", existing.Name)
	case existing.State == snapshot.Deleting:
		return nil, conflict("peering %q is being deleted", existing.Name)
	}
	peer := *existing
	if request.Meta != nil {
		peer.Meta = request.Meta
	}
	return &peer, nil
}

// retire returns the events that replace the unused token of a peering and forget those that nobody will ask about.
func (s *Service) retire(peerID string, now time.Time) []snapshot.Event {
	var events []snapshot.Event
	records := s.vault.tokensOf(peerID)
	for n, r := range records {
		switch ended := r.ended(now); {
		case ended.IsZero():
			r.Replaced = now
			events = append(events, record(kindToken, r.ID, r))
		case len(records)-n > maxSpentTokens || now.Sub(ended) > spentTokenAge:
			events = append(events, record(kindToken, r.ID, nil))
		}
	}
	return events
}

// Tokens describes all tokens that we made and still know of, oldest first.
func (s *Service) Tokens() []snapshot.TokenInfo {
	var infos []snapshot.TokenInfo
	for _, r := range s.vault.tokensOf("") {
		infos = append(infos, r.info())
	}
	return infos
}

// RevokeToken makes a token useless. One that was used already is refused: what it opened ends with the peering.
func (s *Service) RevokeToken(ctx context.Context, id string) error {
	s.rows.Lock()
	defer s.rows.Unlock()
	now := s.Now().UTC()
	for _, r := range s.vault.tokensOf("") {
		if r.ID != id {
			continue
		}
		if why := r.refusal(now); why != "" {
			return gone("%s: it cannot be revoked; to end the peering, delete it", why)
		}
		r.Revoked = now
		s.Log.WithField(logkey.Peer, r.Peer).WithField("token", r.ID).Info("peering token revoked")
		return s.commit(ctx, record(kindToken, r.ID, r))
	}
	return notFound("no token %.100q", id)
}

// redeem trades the secret of a token for a stream secret, once. It says in words why it does not.
func (s *Service) redeem(ctx context.Context, peerID, secret, from string) (stream string, refused string, err error) {
	s.rows.Lock()
	defer s.rows.Unlock()
	now := s.Now().UTC()
	r, known := s.vault.token(peerID, secret)
	peer := peerByID(s.Store.World(), peerID)
	if !known || peer == nil || peer.Role != snapshot.Acceptor {
		return "", "unknown", nil
	}
	if why := r.refusal(now); why != "" {
		return "", why, nil
	}
	if peer.State == snapshot.Deleting || peer.State == snapshot.Terminated {
		return "", "the peering was ended", nil
	}
	r.Used, r.UsedBy = now, from
	stream = uuid.NewString()
	secrets := s.vault.acceptor(peerID)
	secrets.Pending = hashOf(stream)
	row := *peer
	if row.State == snapshot.Pending {
		row.State = snapshot.Establishing
	}
	err = s.commit(ctx, record(kindToken, r.ID, r), record(kindAcceptor, peerID, secrets), snapshot.Event{
		Key: snapshot.NewKey(snapshot.TablePeers, row.Name), Object: &row, Check: stillThere(row.Name, peerID),
	})
	if err != nil {
		return "", "", err
	}
	s.Log.WithField(logkey.Peer, peer.Name).WithField(logkey.Address, from).WithField("token", r.ID).Info("peering token used")
	return stream, "", nil
}
