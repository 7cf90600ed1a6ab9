package api

import (
	"cmp"
	"net/http"
	"regexp"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

func (s *server) whyRoutes() []route {
	return []route{{method: "GET", pattern: "/isthmus/v1/why", access: read, do: s.why}}
}

// why explains one call: of ?source= to ?destination=, which ?peer= may make a service of a peer, while ?source-peer=
// makes the source one. The answer is a snapshot.Explanation.
func (s *server) why(c *call) (any, error) {
	p, err := pairParams(c)
	if err != nil {
		return nil, err
	}
	values := c.URL.Query()
	if from := values.Get("source-peer"); from != "" {
		p.peer = from
	}
	to := peerParam(c)
	if p.peer != "" && to != "" {
		return nil, refuse(http.StatusBadRequest, "parameter", "source of peer %s and destination of peer %s: one of the two must be a service of ours", p.peer, to)
	}
	for _, name := range []string{p.source, p.destination} {
		if !isName.MatchString(name) {
			return nil, refuse(http.StatusBadRequest, "parameter", "%q: want the name of one service: letters, digits, - and _", name)
		}
	}
	if peer := cmp.Or(p.peer, to); peer != "" {
		if err := config.CheckPeerName(peer); err != nil {
			return nil, refuse(http.StatusBadRequest, "parameter", "peer %s", err)
		}
	}
	live := s.live(c.world, cmp.Or(p.peer, to))
	if p.peer != "" {
		return snapshot.WhyFrom(c.world, live, p.peer, p.source, p.destination), nil
	}
	return snapshot.Why(c.world, live, p.source, p.destination, to), nil
}

// isName matches what a service may be called, here, at a peer, or in a Consul.
var isName = regexp.MustCompile(`^[a-zA-Z0-9]([-_a-zA-Z0-9]*[a-zA-Z0-9])?$`)

// live gathers what the running parts know of the proxies, and of a peer.
func (s *server) live(w *snapshot.World, peer string) *snapshot.Live {
	if s.Runtime.Proxies == nil {
		return nil
	}
	live := &snapshot.Live{Proxies: map[snapshot.ProxyID]snapshot.LiveProxy{}}
	for _, p := range s.Runtime.Proxies() {
		now := snapshot.LiveProxy{Connected: p.Connected, Synced: p.Synced, LeftOut: p.LeftOut}
		for _, rejected := range p.Rejected {
			now.Refused = append(now.Refused, snapshot.Refusal{Part: rejected.Name, Error: rejected.Error})
		}
		live.Proxies[p.ID] = now
	}
	if p := w.Peer(peer); p != nil {
		live.Peer = s.peerStatus(p)
	}
	return live
}
