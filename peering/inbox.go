package peering

import (
	"context"
	"sync"

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
