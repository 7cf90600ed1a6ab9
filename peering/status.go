package peering

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// Status returns what is known right now of the peering with a name. For a name that is no peer's it says what is
// exported to that name in vain.
func (s *Service) Status(name string) snapshot.PeerStatus {
	world := s.Store.World()
	st := snapshot.PeerStatus{Exported: slices.Clone(s.exporter.list(name)), NotExported: s.exporter.notExported(name)}
	peer := world.Peer(name)
	if peer == nil {
		for service := range maps.Keys(st.NotExported) {
			st.NotExported[service] = "no such peer"
		}
		for _, service := range st.Exported {
			st.NotExported[service] = "no such peer"
		}
		st.Exported, st.Reason = nil, "no such peer"
		return st
	}
	for _, imported := range world.Imports(name) {
		st.Imported = append(st.Imported, imported.Service)
	}
	l := s.link(peer)
	session, last := l.current(), l.pulse()
	l.mu.Lock()
	for _, reasons := range []map[string]string{l.notes.incomplete, l.notes.refusedByPeer} {
		for id, reason := range reasons {
			if service, _, err := serviceForm(id); err == nil {
				st.NotExported[service] = reason
			}
		}
	}
	l.mu.Unlock()
	if peer.State == snapshot.Terminated || peer.State == snapshot.Deleting {
		for _, service := range st.Exported {
			st.NotExported[service] = "the peer ended the peering"
		}
		st.Exported = nil
	}
	st.LastHeartbeat, st.LastReceive, st.LastSend, st.RoundTrip = last.lastHeartbeat, last.lastReceive, last.lastSend, last.roundTrip
	st.LastRoundTrip = last.verified
	st.Stale = len(st.Imported) > 0 && (session == nil || !session.importer.complete.Load())
	st.State, st.Reason = s.state(peer, l, session, last)
	return st
}

// Ignored returns how often a peer said, in a message, whose a resource is, or who it is itself: it is believed by its
// stream's secret only.
func (s *Service) Ignored(name string) (count uint64) {
	if peer := s.Store.World().Peer(name); peer != nil {
		s.link(peer).note(func(n *notes) { count = n.ignored })
	}
	return count
}

// state computes the state of a peering, and its reason where that is not plain from the word.
func (s *Service) state(peer *snapshot.Peer, l *link, session *session, last beats) (snapshot.PeerState, string) {
	switch peer.State {
	case snapshot.Deleting:
		return peer.State, "being deleted since " + stamp(peer.DeletedAt)
	case snapshot.Terminated:
		return peer.State, "the peer deleted the peering: delete it here too, and establish again with a new token if that was not meant"
	}
	if peer.Problem != "" {
		if peer.TrustDomain == "" || len(peer.Roots) == 0 {
			return snapshot.Establishing, peer.Problem
		}
		return snapshot.Failing, peer.Problem
	}
	if session == nil {
		return s.disconnected(peer, l)
	}
	if last.verified.IsZero() {
		return snapshot.Establishing, joined("connected; no answer from the peer yet", s.remarks(peer, l, session))
	}
	if age := s.Now().Sub(last.verified); age >= 2*s.Timing.Heartbeat {
		return snapshot.Failing, joined(fmt.Sprintf("connected, but no round trip for %s", age.Round(time.Second)), s.remarks(peer, l, session))
	}
	if peer.TrustDomain == "" || len(peer.Roots) == 0 {
		return snapshot.Establishing, joined("connected; the peer has sent no trust bundle yet", s.remarks(peer, l, session))
	}
	return snapshot.Active, joined("", s.remarks(peer, l, session))
}

// disconnected says why there is no stream.
func (s *Service) disconnected(peer *snapshot.Peer, l *link) (snapshot.PeerState, string) {
	l.mu.Lock()
	failure, failed, rest := l.failure, l.failed, l.rest
	l.mu.Unlock()
	if peer.Role == snapshot.Acceptor {
		if peer.State == snapshot.Pending {
			return peer.State, s.tokenState(peer)
		}
		if failure != "" {
			return snapshot.Failing, fmt.Sprintf("disconnected at %s: %s; waiting for the peer to dial again", stamp(failed), failure)
		}
		if s.Now().Sub(s.started) < 2*s.Timing.Heartbeat {
			return peer.State, "waiting for the peer to dial"
		}
		return snapshot.Failing, fmt.Sprintf("the peer has not dialled since %s", stamp(s.started))
	}
	if failure != "" && peer.State != snapshot.Pending {
		return snapshot.Failing, fmt.Sprintf("%s; next attempt %s after %s", failure, rest.Round(time.Millisecond), stamp(failed))
	}
	if peer.State == snapshot.Pending {
		return peer.State, "the token was not traded for a secret: establish again"
	}
	return peer.State, "dialling"
}

// tokenState says what became of the token that a peering waits for.
func (s *Service) tokenState(peer *snapshot.Peer) string {
	records := s.vault.tokensOf(peer.ID)
	if len(records) == 0 {
		return "no token is left: generate a new one"
	}
	newest := records[len(records)-1]
	for _, r := range records {
		if r.Replaced.IsZero() {
			newest = r
		}
	}
	if why := newest.refusal(s.Now()); why != "" {
		return why + ": generate a new one"
	}
	return fmt.Sprintf("waiting for the peer to use the token, until %s", stamp(newest.Expires))
}

// joined is a reason and what else there is to say.
func joined(reason string, remarks []string) string {
	if reason != "" {
		remarks = append([]string{reason}, remarks...)
	}
	return strings.Join(remarks, "; ")
}

// remarks says what is not taken from a peer that is connected, or not as it was sent.
func (s *Service) remarks(peer *snapshot.Peer, l *link, session *session) []string {
	world := s.Store.World()
	var lines []string
	imports := world.Imports(peer.Name)
	if quota := quotas(policy(world, peer.Name)).Services; len(imports) > quota {
		lines = append(lines, fmt.Sprintf("%d services imported, quota %d: nothing new is taken", len(imports), quota))
	}
	if secrets := s.vault.acceptor(peer.ID); len(secrets.Pending) > 0 && len(secrets.Active) > 0 {
		lines = append(lines, "a new secret waits for the peer's next stream: until then the former is good")
	}
	lines = append(lines, l.refusals()...)
	odd := map[string]string{}
	for _, imported := range imports {
		// Without gateways nothing is wrong: some services are only shown.
		if imported.NotRoutable != "" && len(imported.Gateways) > 0 {
			odd[imported.Service] = imported.NotRoutable
		}
	}
	lines = append(lines, listed("%d services of the peer are not routable", odd)...)
	if refused := snapshot.RefusedGateways(world, peer.Name); len(refused) > 0 {
		lines = append(lines, fmt.Sprintf("%d gateways of the peer are not dialled", len(refused)))
		lines = append(lines, refused[:min(len(refused), shownReasons)]...)
	}
	if paced := session.paced.Load(); paced != nil && s.Now().Sub(*paced) < s.Timing.Heartbeat {
		lines = append(lines, fmt.Sprintf("updates of the peer wait: at most %d a second are taken", session.importer.quotas.UpdatesPerSecond))
	}
	var strays uint64
	l.note(func(n *notes) { strays = n.strays })
	if strays > 0 {
		lines = append(lines, fmt.Sprintf("%d messages of the peer mean nothing here and were passed over", strays))
	}
	return lines
}

// shownReasons is how many reasons of a kind are shown. The others are alike more often than not.
const shownReasons = 3

// listed returns a headline and the first reasons, or nothing when there are none.
func listed(headline string, reasons map[string]string) []string {
	if len(reasons) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(reasons))
	lines := []string{fmt.Sprintf(headline, len(names))}
	for _, name := range names[:min(len(names), shownReasons)] {
		lines = append(lines, fmt.Sprintf("%q: %s", name, reasons[name]))
	}
	return lines
}

// refusals summarises what is not taken from a peer that is connected, or by it.
func (l *link) refusals() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := listed("%d resources of the peer refused, the last good ones are kept", l.notes.refusedByUs)
	return append(lines, listed("%d resources have not reached the peer", l.notes.unsent)...)
}
