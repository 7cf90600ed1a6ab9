package peering

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// owner is the first part of the keys of our private records. The second says what the record is.
const (
	owner        = "peering"
	kindToken    = "token"    // (owner, token, token ID): tokenRecord
	kindAcceptor = "acceptor" // (owner, acceptor, peering ID): acceptorSecrets
	kindDialer   = "dialer"   // (owner, dialer, peering ID): dialerSecret
	kindSent     = "sent"     // (owner, sent, peering ID): []string, the forms that a peer without inventory was sent
	kindEnded    = "ended"    // (owner, ended, peering ID): endedPeering
	kindSeen     = "seen"     // (owner, seen, peering ID): time.Time of the last round trip, coarsely
)

// hash is the SHA-256 of a secret. Secrets are random UUIDs, so that a hash needs no salt.
type hash []byte

func hashOf(secret string) hash {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// is compares with the same work for every hash and secret. An empty hash is no secret's.
func (h hash) is(secret string) bool {
	given := hashOf(secret)
	known := hash(make([]byte, len(given)))
	copy(known, h)
	return subtle.ConstantTimeCompare(known, given)&subtle.ConstantTimeEq(int32(len(h)), int32(len(given))) == 1
}

// tokenRecord is what is kept of a token that we made.
type tokenRecord struct {
	ID, Peer, PeerID        string
	Secret                  hash
	Created, Expires        time.Time
	Used, Revoked, Replaced time.Time `json:",omitzero"`
	UsedBy                  string    `json:",omitempty"`
}

// refusal says why the token is no good any more; "" when it is good.
func (r tokenRecord) refusal(now time.Time) string {
	switch {
	case !r.Used.IsZero():
		return fmt.Sprintf("token %s was used at %s by %s", r.ID, stamp(r.Used), r.UsedBy)
	case !r.Revoked.IsZero():
		return fmt.Sprintf("token %s was revoked at %s", r.ID, stamp(r.Revoked))
	case !r.Replaced.IsZero():
		return fmt.Sprintf("token %s was replaced by a newer one at %s", r.ID, stamp(r.Replaced))
	case !now.Before(r.Expires):
		return fmt.Sprintf("token %s expired at %s", r.ID, stamp(r.Expires))
	}
	return ""
}

// ended returns when the token stopped being good; zero: it is still good at now.
func (r tokenRecord) ended(now time.Time) time.Time {
	for _, t := range []time.Time{r.Used, r.Revoked, r.Replaced} {
		if !t.IsZero() {
			return t
		}
	}
	if !now.Before(r.Expires) {
		return r.Expires
	}
	return time.Time{}
}

func (r tokenRecord) info() snapshot.TokenInfo {
	return snapshot.TokenInfo{
		ID: r.ID, Peer: r.Peer, Created: r.Created, Expires: r.Expires,
		Used: r.Used, Revoked: r.Revoked, Replaced: r.Replaced, UsedBy: r.UsedBy,
	}
}

// stamp is a time as our texts show it.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// acceptorSecrets are the secrets that open streams to us. Pending was handed out and not used yet; using it makes it
// Active and voids the former.
type acceptorSecrets struct {
	Pending, Active hash `json:",omitempty"`
}

// dialerSecret opens our stream at the peer. It is the only secret that is kept in clear, because we must send it.
type dialerSecret struct{ Secret string }

// endedPeering is what is kept of a peering that we accepted and deleted, so that a dialer that was away is told.
type endedPeering struct {
	acceptorSecrets
	At time.Time
}

// endedAge is for how long that is.
const endedAge = 30 * 24 * time.Hour

// vault holds our private records in memory, as they are stored. Whoever changes one commits it first.
type vault struct {
	mu        sync.RWMutex
	tokens    map[string]tokenRecord
	acceptors map[string]acceptorSecrets
	dialers   map[string]dialerSecret
	sent      map[string][]string
	ended     map[string]endedPeering
	seen      map[string]time.Time
}

func newVault() *vault {
	return &vault{
		tokens: map[string]tokenRecord{}, acceptors: map[string]acceptorSecrets{},
		dialers: map[string]dialerSecret{}, sent: map[string][]string{},
		ended: map[string]endedPeering{}, seen: map[string]time.Time{},
	}
}

// record is the event that stores value; a nil value removes it.
func record(kind, id string, value any) snapshot.Event {
	event := snapshot.Event{Key: snapshot.NewKey(snapshot.TablePrivate, owner, kind, id)}
	if value == nil {
		return event
	}
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // our own types: cannot be
	}
	event.Object = text
	return event
}

// apply follows events that were committed, or loaded. Those of others are passed over.
func (v *vault) apply(events ...snapshot.Event) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, event := range events {
		parts := event.Key.Parts()
		if event.Key.Table != snapshot.TablePrivate || len(parts) != 3 || parts[0] != owner {
			continue
		}
		text, _ := event.Object.([]byte)
		var err error
		switch parts[1] {
		case kindToken:
			err = follow(v.tokens, parts[2], text)
		case kindAcceptor:
			err = follow(v.acceptors, parts[2], text)
		case kindDialer:
			err = follow(v.dialers, parts[2], text)
		case kindSent:
			err = follow(v.sent, parts[2], text)
		case kindEnded:
			err = follow(v.ended, parts[2], text)
		case kindSeen:
			err = follow(v.seen, parts[2], text)
		}
		if err != nil {
			return fmt.Errorf("private record %s: %w", event.Key, err)
		}
	}
	return nil
}

func follow[T any](records map[string]T, id string, text []byte) error {
	if text == nil {
		delete(records, id)
		return nil
	}
	var value T
	if err := json.Unmarshal(text, &value); err != nil {
		return err
	}
	records[id] = value
	return nil
}

// token returns the record of a secret that a dialer of peering peerID sent. It compares with every record, so that its
// time tells nothing.
func (v *vault) token(peerID, secret string) (tokenRecord, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var found tokenRecord
	var ok bool
	for _, r := range v.tokens {
		if r.Secret.is(secret) && r.PeerID == peerID {
			found, ok = r, true
		}
	}
	return found, ok
}

// tokensOf returns the records of one peering, or with an empty ID all of them, oldest first.
func (v *vault) tokensOf(peerID string) []tokenRecord {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var found []tokenRecord
	for _, r := range v.tokens {
		if peerID == "" || r.PeerID == peerID {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b tokenRecord) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return found
}

func (v *vault) acceptor(peerID string) acceptorSecrets {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.acceptors[peerID]
}

func (v *vault) dialer(peerID string) (dialerSecret, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	secret, ok := v.dialers[peerID]
	return secret, ok
}

// sentBefore returns the forms that a peer without inventory may still have from us.
func (v *vault) sentBefore(peerID string) []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.sent[peerID]
}

// lastSeen returns when the last round trip was that is stored; zero: none is.
func (v *vault) lastSeen(peerID string) time.Time {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.seen[peerID]
}

// wasEnded tells whether a secret opened, or could have opened, the streams of a peering that we deleted.
func (v *vault) wasEnded(peerID, secret string) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	ended := v.ended[peerID]
	active, pending := ended.Active.is(secret), ended.Pending.is(secret)
	return active || pending
}

// bury returns the events that keep what a dialer that was away must be told, and drop what is too old to keep.
func (v *vault) bury(peerID string, now time.Time) []snapshot.Event {
	var events []snapshot.Event
	secrets := v.acceptor(peerID)
	if len(secrets.Active)+len(secrets.Pending) > 0 {
		events = append(events, record(kindEnded, peerID, endedPeering{secrets, now}))
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	for id, ended := range v.ended {
		if now.Sub(ended.At) > endedAge {
			events = append(events, record(kindEnded, id, nil))
		}
	}
	return events
}

// forget returns the events that remove every record of a peering.
func (v *vault) forget(peerID string) []snapshot.Event {
	events := []snapshot.Event{
		record(kindAcceptor, peerID, nil), record(kindDialer, peerID, nil), record(kindSent, peerID, nil), record(kindSeen, peerID, nil),
	}
	for _, r := range v.tokensOf(peerID) {
		events = append(events, record(kindToken, r.ID, nil))
	}
	return events
}
