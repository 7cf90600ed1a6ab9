package api

import (
	"cmp"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// Proxy is one sidecar or gateway: as registered, and as its Envoy says of itself while it is connected.
type Proxy struct {
	ID      snapshot.ProxyID   `json:"id"`
	Kind    config.ServiceKind `json:"kind,omitempty"`    // of the registration; empty: it is not registered
	Service string             `json:"service,omitempty"` // that it stands for
	Node    string             `json:"node,omitempty"`

	Connected bool       `json:"connected"`
	Since     *time.Time `json:"since,omitempty"`
	Envoy     string     `json:"envoy,omitempty"`   // version
	Address   string     `json:"address,omitempty"` // host:port that its stream comes from
	// Synced: it has acknowledged everything that it was sent.
	Synced       bool            `json:"synced"`
	LastAck      *time.Time      `json:"last_ack,omitempty"` // on this stream; absent: none yet
	LeafNotAfter *time.Time      `json:"leaf_not_after,omitempty"`
	Resources    map[string]int  `json:"resources,omitempty"` // by type URL
	Rejected     []Rejected      `json:"rejected,omitempty"`
	LeftOut      []string        `json:"left_out,omitempty"` // authorization secrets whose chains it goes without, since it did not take a revocation
	Warnings     []string        `json:"warnings,omitempty"`
	Skipped      []SkippedStatus `json:"skipped,omitempty"`
	// NotListening is why it has no address to take calls at.
	NotListening string `json:"not_listening,omitempty"`
}

// Rejected is a resource or part that an Envoy refused: it keeps the former version, or goes without.
type Rejected struct {
	Name    string `json:"name"`
	TypeURL string `json:"type_url,omitempty"`
	Kind    string `json:"kind,omitempty"` // with Object and Peer: the origin
	Object  string `json:"object,omitempty"`
	Peer    string `json:"peer,omitempty"`
	Error   string `json:"error"`
	// NextTry is when it is sent again as it is: the cause may have passed. Tries counts.
	NextTry *time.Time `json:"next_try,omitempty"`
	Tries   int        `json:"tries,omitempty"`
}

func (s *server) listProxies(c *call) (any, error) { return s.proxies(c.world), nil }

// proxies joins the registered proxies with those that are connected, sorted by ID.
func (s *server) proxies(w *snapshot.World) []Proxy {
	byID := map[snapshot.ProxyID]Proxy{}
	if s.Runtime.Proxies != nil {
		for _, p := range s.Runtime.Proxies() {
			byID[p.ID] = p
		}
	}
	own := w.Cluster().NodeName
	for _, i := range append(w.OfKind(config.KindSidecar), w.OfKind(config.KindMeshGateway)...) {
		p := byID[i.ProxyID(own)]
		p.ID, p.Kind, p.Node, p.Service = i.ProxyID(own), i.Service.Kind, i.Node, i.Service.Name
		if i.Service.Proxy != nil && i.Service.Proxy.DestinationServiceName != "" {
			p.Service = i.Service.Proxy.DestinationServiceName
		}
		p.NotListening = snapshot.NotListening(w, i)
		byID[p.ID] = p
	}
	for _, skipped := range s.skipped(w) {
		if p, ok := byID[skipped.Proxy]; ok {
			p.Skipped = append(p.Skipped, skipped)
			byID[p.ID] = p
		}
	}
	list := make([]Proxy, 0, len(byID))
	for _, p := range byID {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b Proxy) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

func summarize(proxies []Proxy) ProxySummary {
	var sum ProxySummary
	for _, p := range proxies {
		if p.Kind != "" {
			sum.Registered++
		}
		if p.Connected {
			sum.Connected++
		}
		if len(p.Rejected) > 0 {
			sum.Rejecting++
		}
		if p.LeafNotAfter != nil && (sum.LeafNotAfter == nil || p.LeafNotAfter.Before(*sum.LeafNotAfter)) {
			sum.LeafNotAfter, sum.LeafOf = p.LeafNotAfter, p.ID
		}
	}
	return sum
}
