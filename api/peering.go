package api

import (
	"net/http"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

func (s *server) peeringRoutes() []route {
	return []route{
		{method: "POST", pattern: "/v1/peering/token", access: operate, do: s.generateToken},
		{method: "POST", pattern: "/v1/peering/establish", access: operate, do: s.establish},
		{method: "GET", pattern: "/v1/peering/{name}", access: read, read: s.readPeering},
		{method: "DELETE", pattern: "/v1/peering/{name}", access: operate, do: s.deletePeering},
		{method: "GET", pattern: "/v1/peerings", access: read, read: s.listPeerings},
		{method: "GET", pattern: "/isthmus/v1/peering/tokens", access: operate, do: s.listPeeringTokens},
		{method: "DELETE", pattern: "/isthmus/v1/peering/tokens/{id}", access: operate, do: s.revokePeeringToken},
	}
}

func (s *server) generateToken(c *call) (any, error) {
	if s.Peering == nil {
		return nil, errReadOnly
	}
	data, err := body(c)
	if err != nil {
		return nil, err
	}
	request, err := config.ParseTokenRequest(data)
	if err != nil {
		return nil, err
	}
	token, err := s.Peering.GenerateToken(c.Context(), request)
	if err != nil {
		return nil, err
	}
	return struct{ PeeringToken string }{token.Reveal()}, nil
}

func (s *server) establish(c *call) (any, error) {
	if s.Peering == nil {
		return nil, errReadOnly
	}
	data, err := body(c)
	if err != nil {
		return nil, err
	}
	request, err := config.ParseEstablishRequest(data)
	if err != nil {
		return nil, err
	}
	return struct{}{}, s.Peering.Establish(c.Context(), request)
}

// deletePeering answers alike for a name that there is not, as Consul does.
func (s *server) deletePeering(c *call) (any, error) {
	if s.Peering == nil {
		return nil, errReadOnly
	}
	name := strings.ToLower(c.PathValue("name"))
	if c.world.Peer(name) == nil {
		return nil, nil
	}
	return nil, s.Peering.Delete(c.Context(), name)
}

func (s *server) readPeering(c *call) (query, error) {
	asked := c.PathValue("name")
	name := strings.ToLower(asked)
	return query{index: modified(snapshot.TablePeers, name), answer: func(w *snapshot.World) (any, error) {
		peer := w.Peer(name)
		if peer == nil {
			return nil, refuse(http.StatusNotFound, "not-found", "Peering not found for %q", asked).about("peering/" + name)
		}
		return s.peeringShape(peer), nil
	}}, nil
}

func (s *server) listPeerings(*call) (query, error) {
	return query{index: modified(snapshot.TablePeers), answer: func(w *snapshot.World) (any, error) {
		peers := []peeringJSON{}
		for _, peer := range w.Peers() {
			peers = append(peers, s.peeringShape(peer))
		}
		return peers, nil
	}}, nil
}

type peeringJSON struct {
	ID, Name            string
	DeletedAt           *time.Time        `json:",omitempty"`
	Meta                map[string]string `json:",omitempty"`
	State               snapshot.PeerState
	PeerID              string   `json:",omitempty"`
	PeerCAPems          []string `json:",omitempty"`
	PeerServerName      string   `json:",omitempty"`
	PeerServerAddresses []string `json:",omitempty"`
	StreamStatus        streamJSON
	CreateIndex         uint64
	ModifyIndex         uint64
	Remote              remoteJSON
}

type streamJSON struct {
	ImportedServices, ExportedServices   []string
	LastHeartbeat, LastReceive, LastSend *time.Time
}

type remoteJSON struct{ Partition, Datacenter string }

// peeringShape returns a peering as it is right now: its state is the age of the last round trip, not what is stored.
func (s *server) peeringShape(p *snapshot.Peer) peeringJSON {
	status := s.peerStatus(p)
	shape := peeringJSON{
		ID: p.ID, Name: p.Name, DeletedAt: timeOrNil(p.DeletedAt), Meta: p.Meta, State: status.State, PeerID: p.RemoteID,
		PeerCAPems: p.Roots, PeerServerName: p.ServerName, PeerServerAddresses: p.ServerAddresses,
		StreamStatus: streamJSON{
			ImportedServices: status.Imported, ExportedServices: status.Exported, LastHeartbeat: timeOrNil(status.LastHeartbeat),
			LastReceive: timeOrNil(status.LastReceive), LastSend: timeOrNil(status.LastSend),
		},
		CreateIndex: p.CreateIndex, ModifyIndex: p.ModifyIndex, Remote: remoteJSON{Datacenter: p.RemoteDatacenter},
	}
	if len(shape.PeerCAPems) == 0 {
		shape.PeerCAPems = p.CAPEMs
	}
	if len(p.ManualAddresses) > 0 {
		shape.PeerServerAddresses = p.ManualAddresses
	}
	return shape
}

// peerStatus is what the peering service says of a peer, or what is stored where there is no service to ask.
func (s *server) peerStatus(p *snapshot.Peer) snapshot.PeerStatus {
	status := snapshot.PeerStatus{State: p.State, Reason: p.Problem}
	if s.Runtime.PeerStatus != nil {
		status = s.Runtime.PeerStatus(p.Name)
	}
	if status.State == "" {
		status.State = p.State
	}
	return status
}

// PeeringToken describes a peering token without its secret.
type PeeringToken struct {
	ID      string     `json:"id"`
	Peer    string     `json:"peer"`
	State   string     `json:"state"` // unused, used, revoked, replaced or expired
	Created time.Time  `json:"created"`
	Expires time.Time  `json:"expires"`
	Used    *time.Time `json:"used,omitempty"`
	UsedBy  string     `json:"used_by,omitempty"` // remote address
}

func (s *server) listPeeringTokens(*call) (any, error) {
	if s.Peering == nil {
		return nil, errReadOnly
	}
	tokens := []PeeringToken{}
	for _, t := range s.Peering.Tokens() {
		tokens = append(tokens, PeeringToken{
			ID: t.ID, Peer: t.Peer, State: tokenState(t, s.Now()), Created: t.Created, Expires: t.Expires,
			Used: timeOrNil(t.Used), UsedBy: t.UsedBy,
		})
	}
	return tokens, nil
}

// tokenState says in one word whether a peering token is still good.
func tokenState(t snapshot.TokenInfo, now time.Time) string {
	switch {
	case !t.Used.IsZero():
		return "used"
	case !t.Revoked.IsZero():
		return "revoked"
	case !t.Replaced.IsZero():
		return "replaced"
	case !now.Before(t.Expires):
		return "expired"
	}
	return "unused"
}

func (s *server) revokePeeringToken(c *call) (any, error) {
	if s.Peering == nil {
		return nil, errReadOnly
	}
	return nil, s.Peering.RevokeToken(c.Context(), c.PathValue("id"))
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
