package api

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// Status is what an operator must know at one glance. Lists are sorted, and empty rather than absent.
type Status struct {
	Version       string `json:"version"`
	Source        string `json:"source"`
	ClusterID     string `json:"cluster_id"`
	TrustDomain   string `json:"trust_domain"`
	Datacenter    string `json:"datacenter"`
	Node          string `json:"node"`
	Index         uint64 `json:"index"`
	Ready         bool   `json:"ready"`
	HTTPOpen      bool   `json:"http_open"` // whoever is on this machine is an operator
	DefaultPolicy string `json:"default_intention_policy"`
	// AllowAll names the scopes whose services may all call every service, by the intention of * for *: "local", or a peer.
	AllowAll []string `json:"allow_all,omitempty"`
	// Problems are sentences: each needs somebody to act.
	Problems []string `json:"problems"`
	// Checks are what the server looked at of itself: each is one of `isthmus check`.
	Checks  []SelfCheck     `json:"checks"`
	Peers   []PeerStatus    `json:"peers"`
	Exports []ExportStatus  `json:"exports"`
	Imports []ImportStatus  `json:"imports"`
	Skipped []SkippedStatus `json:"skipped"` // what proxies' views leave out
	Kept    []KeptStatus    `json:"kept"`    // fields that were accepted and have no effect
	Proxies ProxySummary    `json:"proxies"`
}

// SelfCheck is one thing that should be so. Neither Problem nor Warning: it is.
type SelfCheck struct {
	Check   string `json:"check"`
	Problem string `json:"problem,omitempty"` // somebody must act
	Warning string `json:"warning,omitempty"` // worth knowing
	Fix     string `json:"fix,omitempty"`     // what to type
}

// PeerStatus is one peering right now.
type PeerStatus struct {
	Name          string             `json:"name"`
	Role          snapshot.PeerRole  `json:"role"`
	State         snapshot.PeerState `json:"state"`
	Reason        string             `json:"reason,omitempty"`
	Problem       string             `json:"problem,omitempty"`
	TrustDomain   string             `json:"trust_domain,omitempty"`
	Datacenter    string             `json:"datacenter,omitempty"`
	Dialect       string             `json:"dialect,omitempty"`
	Imported      int                `json:"imported"`
	Exported      int                `json:"exported"`
	Stale         bool               `json:"stale"` // its imports are kept from an earlier session
	LastHeartbeat *time.Time         `json:"last_heartbeat,omitempty"`
	LastRoundTrip *time.Time         `json:"last_round_trip,omitempty"` // when it last proved that it reads what we send
	RoundTripMS   float64            `json:"round_trip_ms,omitempty"`
	Fix           string             `json:"fix,omitempty"`       // what would mend it, unless it is ACTIVE
	Plaintext     bool               `json:"plaintext,omitempty"` // dialled without TLS
}

// ExportStatus is one service that the exported-services entry names for one peer.
type ExportStatus struct {
	Service  string `json:"service"`
	Peer     string `json:"peer"`
	Exported bool   `json:"exported"`
	Reason   string `json:"reason,omitempty"` // why not
	Sidecars int    `json:"sidecars"`         // of the service
	Healthy  int    `json:"healthy"`          // of these
	Down     string `json:"down,omitempty"`   // why nobody would answer, exported or not
	Admits   bool   `json:"admits"`           // an intention, or the default policy, lets somebody of the peer in
	Fix      string `json:"fix,omitempty"`    // the command or entry that mends the first of Reason, Down and Admits
}

// ImportStatus is one service that a peer exports to us.
type ImportStatus struct {
	Peer     string `json:"peer"`
	Service  string `json:"service"`
	Routable bool   `json:"routable"`
	Reason   string `json:"reason,omitempty"` // why not
	Gateways int    `json:"gateways"`         // that the peer has named

	// Dialled counts the addresses of the peer's gateways that are dialled, and Refused says why others are not.
	Dialled  int      `json:"dialled"`
	Healthy  int      `json:"healthy"` // of Dialled
	Refused  []string `json:"refused,omitempty"`
	Callers  []string `json:"callers,omitempty"`  // our services that have it as an upstream
	Down     string   `json:"down,omitempty"`     // why a call would not get there although it is routable
	Expected bool     `json:"expected,omitempty"` // our own policy leaves it out
	Fix      string   `json:"fix,omitempty"`      // what would mend Reason, else Down
}

// SkippedStatus is one thing that a proxy is not told, and why. Expected: nothing is wrong with that.
type SkippedStatus struct {
	Proxy    snapshot.ProxyID `json:"proxy"`
	Kind     string           `json:"kind"`
	Name     string           `json:"name"`
	Peer     string           `json:"peer,omitempty"`
	Reason   string           `json:"reason"`
	Expected bool             `json:"expected,omitempty"`
	Fix      string           `json:"fix,omitempty"` // the command or entry that would mend it, unless it is expected
}

// KeptStatus names the fields of one object that have no effect.
type KeptStatus struct {
	Kind   string   `json:"kind"`
	Name   string   `json:"name"`
	Fields []string `json:"fields"`
}

// ProxySummary counts the proxies, and says when the first would stop without us.
type ProxySummary struct {
	Registered   int              `json:"registered"`
	Connected    int              `json:"connected"`
	Rejecting    int              `json:"rejecting"` // that refused something they were sent
	LeafNotAfter *time.Time       `json:"earliest_leaf_expiry,omitempty"`
	LeafOf       snapshot.ProxyID `json:"earliest_leaf_of,omitempty"`
}

func (s *server) statusRoutes() []route {
	return []route{
		{method: "GET", pattern: "/isthmus/v1/status", access: read, do: s.status},
		{method: "GET", pattern: "/isthmus/v1/proxies", access: read, do: s.listProxies},
	}
}

func (s *server) status(c *call) (any, error) {
	w, cluster := c.world, c.world.Cluster()
	status := Status{
		Version: s.Server.Version, Source: s.Server.Source, ClusterID: cluster.ID, TrustDomain: cluster.TrustDomain,
		Datacenter: cluster.Datacenter, Node: cluster.NodeName, Index: w.Index, Ready: true, HTTPOpen: s.Server.HTTPOpen,
		AllowAll: allowAll(w), DefaultPolicy: "deny", Peers: s.peers(w), Exports: s.exports(w), Imports: imports(w), Skipped: s.skipped(w), Kept: kept(w),
	}
	if cluster.DefaultAllow {
		status.DefaultPolicy = "allow"
	}
	status.Checks = []SelfCheck{}
	if s.Runtime.Checks != nil {
		status.Checks = append(status.Checks, s.Runtime.Checks()...)
	}
	proxies := s.proxies(w)
	status.Proxies = summarize(proxies)
	status.Problems = s.problems(&status, proxies)
	return status, nil
}

func (s *server) peers(w *snapshot.World) []PeerStatus {
	list := []PeerStatus{}
	for _, p := range w.Peers() {
		now := s.peerStatus(p)
		peer := PeerStatus{
			Name: p.Name, Role: p.Role, State: now.State, Reason: now.Reason, Problem: p.Problem, TrustDomain: p.TrustDomain,
			Datacenter: p.RemoteDatacenter, Dialect: p.Dialect, Imported: len(now.Imported), Exported: usable(now), Stale: now.Stale,
			LastHeartbeat: timeOrNil(now.LastHeartbeat), LastRoundTrip: timeOrNil(now.LastRoundTrip),
			RoundTripMS: float64(now.RoundTrip) / float64(time.Millisecond),
			Plaintext:   p.Role == snapshot.Dialer && len(p.CAPEMs) == 0,
		}
		if now.State != snapshot.Active || p.Problem != "" {
			peer.Fix = snapshot.PeerFix(w, p.Name)
		}
		list = append(list, peer)
	}
	return list
}

// usable counts the exports that the peer can use, of those that it was told of.
func usable(now snapshot.PeerStatus) (n int) {
	for _, service := range now.Exported {
		if now.NotExported[service] == "" {
			n++
		}
	}
	return n
}

func allowAll(w *snapshot.World) []string {
	scopes := snapshot.AllowAll(w)
	for i, scope := range scopes {
		scopes[i] = cmp.Or(scope, "local")
	}
	return scopes
}

func (s *server) skipped(w *snapshot.World) []SkippedStatus {
	list := []SkippedStatus{}
	if s.Runtime.Skipped == nil {
		return list
	}
	all := s.Runtime.Skipped()
	for _, proxy := range slices.Sorted(maps.Keys(all)) {
		for _, skipped := range all[proxy] {
			left := SkippedStatus{proxy, skipped.Kind, skipped.Name, skipped.Peer, skipped.Reason, skipped.Expected, ""}
			if !left.Expected {
				left.Fix = snapshot.SkippedFix(w, proxy, skipped)
			}
			list = append(list, left)
		}
	}
	return list
}

func kept(w *snapshot.World) []KeptStatus {
	list := []KeptStatus{}
	for _, entry := range w.Entries("") {
		if fields := config.KeptFields(entry.Value); len(fields) > 0 {
			list = append(list, KeptStatus{entry.Value.EntryKind(), entry.Value.EntryName(), fields})
		}
	}
	for _, i := range w.Instances("") {
		if fields := i.Service.KeptFields(); len(fields) > 0 {
			list = append(list, KeptStatus{"service", i.Service.ID, fields})
		}
	}
	return list
}

// problems joins what the running parts say with what can be read off the status itself.
func (s *server) problems(status *Status, proxies []Proxy) []string {
	list := []string{}
	if s.Runtime.Problems != nil {
		list = append(list, s.Runtime.Problems()...)
	}
	for _, check := range status.Checks {
		if check.Problem != "" {
			list = append(list, "not so: "+check.Check+": "+check.Problem)
		}
	}
	if s.Server.HTTPOpen {
		list = append(list, "--http-open: whoever is on this machine may write; a lab only")
	}
	for _, peer := range status.Peers {
		if peer.Plaintext {
			list = append(list, "peer "+peer.Name+" is dialled without TLS: nobody can tell who answers")
		}
		switch {
		case peer.Problem != "":
			list = append(list, "peer "+peer.Name+": "+peer.Problem)
		case peer.State == snapshot.Failing || peer.State == snapshot.Terminated:
			list = append(list, "peer "+peer.Name+" is "+string(peer.State)+": "+peer.Reason)
		}
	}
	for _, proxy := range proxies {
		for _, rejected := range proxy.Rejected {
			list = append(list, "proxy "+string(proxy.ID)+" refused "+rejected.Name+": "+rejected.Error)
		}
	}
	return list
}
