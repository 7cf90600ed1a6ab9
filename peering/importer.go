package peering

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/time/rate"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// Limits on what waits until the peer is pinned, and on all that one peer may have sent us, in bytes.
const (
	maxHeld     = 32 << 20
	maxImported = 256 << 20
)

// An importer turns what one session receives into Import objects. It belongs to the session's apply loop. It starts from
// the imports that are stored, and leaves those of an earlier session alone until the peer has said what is still true.
type importer struct {
	service  *Service
	link     *link
	log      logrus.FieldLogger
	role     snapshot.PeerRole
	dialect  dialect
	fresh    bool // the stream was opened with a new token's secret: the peer may call us by a new name
	policy   config.PeerPolicy
	quotas   config.Quotas
	held     []*wire.Response // until the peer is pinned
	heldSize int
	sizes    map[string]int // bytes of what this session announced, by resource ID
	total    int
	// names are the imported services by their lower case form, oldest first.
	names    map[string][]string
	count    int
	complete atomic.Bool // the peer has said everything once
	swept    bool
	says     rate.Sometimes // of refusals: status has all of them, and a peer shall not fill a disk with them
}

func newImporter(s *Service, l *link, peer *snapshot.Peer, d dialect, fresh bool, log logrus.FieldLogger) *importer {
	im := &importer{
		service: s, link: l, log: log, role: peer.Role, dialect: d, fresh: fresh, policy: policy(s.Store.World(), peer.Name),
		sizes: map[string]int{}, names: map[string][]string{}, says: rate.Sometimes{First: 100, Interval: time.Second},
	}
	im.quotas = quotas(im.policy)
	return im
}

// load reads what is stored. It runs when the session before this one has ended, so that nobody else writes there.
func (im *importer) load() error {
	world := im.service.Store.World()
	if im.differs(policy(world, im.link.name)) {
		return errResync
	}
	stored := world.Imports(im.link.name)
	slices.SortStableFunc(stored, func(a, b *snapshot.Import) int { return int(a.CreateIndex) - int(b.CreateIndex) })
	for _, i := range stored {
		im.arrived(i.Service)
	}
	return nil
}

func (im *importer) arrived(service string) {
	folded := strings.ToLower(service)
	im.names[folded] = append(im.names[folded], service)
	im.count++
}

func (im *importer) left(service string) {
	folded := strings.ToLower(service)
	im.names[folded] = slices.DeleteFunc(im.names[folded], func(name string) bool { return name == service })
	if len(im.names[folded]) == 0 {
		delete(im.names, folded)
	}
	im.count--
}

// A refusal is the reason of a NACK.
type refusal struct {
	code int32
	text string // for status and the log
	told string // for the peer, where text is not for it; empty: text
}

func (r *refusal) Error() string { return r.text }

func refuse(code int32, format string, args ...any) error {
	return &refusal{code: code, text: printable(fmt.Sprintf(format, args...), longestReason)}
}

// refusedDomain is all that a peer is told of a problem with its trust domain. The problem itself may name other peers,
// and is for our operator.
const refusedDomain = "trust domain refused: the operator of this cluster sees why"

// refuseDomain refuses what came from a peer with a problem.
func refuseDomain(problem string) error {
	return &refusal{code: wire.CodeInternal, text: printable(problem, longestReason), told: refusedDomain}
}

// apply stores a batch in as few commits as it can, and returns the answers. An error means that the store did not take
// it: nothing is answered then, and the peer sends it again on the next stream.
func (im *importer) apply(ctx context.Context, batch []*wire.Response) ([]wire.Message, error) {
	var answers []wire.Message
	tx := im.begin()
	for len(batch) > 0 {
		response := batch[0]
		batch = batch[1:]
		single := response.ResourceURL == wire.TypeTrustBundle || response.ResourceURL == wire.TypeAddresses
		if single {
			if err := tx.commit(ctx); err != nil {
				return nil, err
			}
		}
		wait, err := im.take(ctx, tx, response)
		if err != nil && !isRefusal(err) {
			return nil, err
		}
		if single {
			tx = im.begin()
		}
		if wait {
			if err := im.hold(response); err != nil {
				return nil, err
			}
			continue
		}
		answers = append(answers, im.answer(response, err))
		if len(im.held) > 0 && tx.decided() {
			batch = append(im.held, batch...)
			im.held, im.heldSize = nil, 0
		}
	}
	return answers, tx.commit(ctx)
}

// take handles one response. wait asks for it to be kept until the peer is pinned.
func (im *importer) take(ctx context.Context, tx *importTx, r *wire.Response) (wait bool, err error) {
	if err := im.check(r); err != nil {
		return false, err
	}
	switch r.ResourceURL {
	case wire.TypeTrustBundle:
		return false, im.bundle(ctx, r)
	case wire.TypeAddresses:
		return false, im.addresses(ctx, r)
	}
	switch {
	case tx.peer.ID != im.link.id:
		return false, refuse(wire.CodeInternal, "%s", errGone)
	case tx.peer.Problem != "":
		return false, refuseDomain(tx.peer.Problem)
	}
	if tx.peer.TrustDomain == "" || len(tx.peer.Roots) == 0 {
		return true, nil
	}
	if r.ResourceURL == wire.TypeServiceList {
		return false, tx.list(r)
	}
	return false, tx.service(r)
}

// check refuses what no content could make right.
func (im *importer) check(r *wire.Response) error {
	upsert := r.Operation == wire.Operation_OPERATION_UPSERT
	remove := im.dialect.deletes && r.Operation == wire.Operation_OPERATION_DELETE && r.ResourceURL == wire.TypeService
	switch {
	case !slices.Contains(im.dialect.subscriptions(im.role), r.ResourceURL):
		return refuse(wire.CodeInvalidArgument, "received response for unknown resource type URL: %.200s", r.ResourceURL)
	case im.dialect.nonces && r.Nonce == "":
		return refuse(wire.CodeInvalidArgument, "received response without a nonce for: %.200s:%.200s", r.ResourceURL, r.ResourceID)
	case !upsert && !remove:
		return refuse(wire.CodeInvalidArgument, "unsupported operation: %d", r.Operation)
	case remove:
		return nil
	case r.Resource == nil:
		return refuse(wire.CodeInvalidArgument, "received upsert response with no content")
	case r.Resource.TypeUrl != r.ResourceURL:
		return refuse(wire.CodeInternal, "resource of type %.200q: want %q", r.Resource.TypeUrl, r.ResourceURL)
	case len(r.Resource.Value) > wire.MaxResource:
		return refuse(wire.CodeResourceExhausted, "%d bytes: want at most %d", len(r.Resource.Value), wire.MaxResource)
	}
	return nil
}

// hold keeps a response that came before the trust bundle. It is answered after it.
func (im *importer) hold(r *wire.Response) error {
	im.held = append(im.held, r)
	im.heldSize += proto.Size(r) + 100
	if im.heldSize > maxHeld {
		return fmt.Errorf("the peer sent %d resources and no trust bundle", len(im.held))
	}
	return nil
}

// answer makes the reply, and notes a refusal for status.
func (im *importer) answer(r *wire.Response, err error) wire.Message {
	if err == nil {
		im.link.note(func(n *notes) { remember(n.refusedByUs, r.ResourceID, "") })
		return wire.NewAnswer(r, 0, "")
	}
	why := err.(*refusal)
	im.link.note(func(n *notes) { remember(n.refusedByUs, r.ResourceID, why.text) })
	im.says.Do(func() {
		im.log.WithFields(logrus.Fields{logkey.TypeURL: r.ResourceURL, logkey.Name: fmt.Sprintf("%.100q", r.ResourceID), logkey.Reason: why.text}).
			Warn("peer's resource refused")
	})
	return wire.NewAnswer(r, why.code, cmp.Or(why.told, why.text))
}

func isRefusal(err error) bool {
	_, ok := err.(*refusal)
	return ok
}

// account bounds the sum of all that the peer has sent and we keep.
func (im *importer) account(id string, size int) error {
	next := im.total - im.sizes[id] + size
	if next > maxImported {
		return refuse(wire.CodeResourceExhausted, "all services together: %d bytes: want at most %d", next, maxImported)
	}
	im.total = next
	if size == 0 {
		delete(im.sizes, id)
	} else {
		im.sizes[id] = size
	}
	return nil
}

// differs tells whether a policy would take other things from the peer than the one this session began with.
func (im *importer) differs(p config.PeerPolicy) bool {
	return !slices.Equal(p.Accept, im.policy.Accept) || quotas(p) != im.quotas
}
