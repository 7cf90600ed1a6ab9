package peering

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/peering/wire"
)

// maxInbox bounds what was received and not yet stored, in bytes and in messages.
const (
	maxInboxBytes = 16 << 20
	maxInbox      = 4096
)

// An inbox is between the loop that receives and the one that applies: one puts, one takes all there is.
type inbox struct {
	ready chan struct{} // has an element when there is something to take
	room  chan struct{} // has an element after something was taken

	mu        sync.Mutex
	responses []*wire.Response
	bytes     int
}

func newInbox() *inbox {
	return &inbox{ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// put waits for room and adds a response. Any one response fits into an empty inbox.
func (b *inbox) put(ctx context.Context, r *wire.Response) error {
	size := proto.Size(r)
	for !b.tryPut(r, size) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-b.room:
		}
	}
	return nil
}

func (b *inbox) tryPut(r *wire.Response, size int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.responses) > 0 && (len(b.responses) >= maxInbox || b.bytes+size > maxInboxBytes) {
		return false
	}
	b.responses = append(b.responses, r)
	b.bytes += size
	select {
	case b.ready <- struct{}{}:
	default:
	}
	return true
}

// In a burst, which a batch of so many shows, the next batch may grow for as long as more keeps coming, within limits: each
// is a write to the disk, and a new World for everybody. One change on its own never waits.
const (
	burst     = 32
	burstStep = time.Millisecond
	burstMost = 15 * time.Millisecond
)

// gather waits while more keeps coming.
func (b *inbox) gather(ctx context.Context) {
	step := time.NewTicker(burstStep)
	defer step.Stop()
	for before, waited := 0, time.Duration(0); waited < burstMost; waited += burstStep {
		b.mu.Lock()
		now, full := len(b.responses), b.bytes > maxInboxBytes/2
		b.mu.Unlock()
		if full || now == before || now >= window/2 {
			return
		}
		before = now
		select {
		case <-ctx.Done():
			return
		case <-step.C:
		}
	}
}

func (b *inbox) take() []*wire.Response {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := b.responses
	b.responses, b.bytes = nil, 0
	select {
	case b.room <- struct{}{}:
	default:
	}
	return taken
}
