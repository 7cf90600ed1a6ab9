package xds

import (
	"sync"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// A mailbox takes what others want a stream to know. Nobody waits for the stream: what it did not take yet is replaced by
// what is newer.
type mailbox struct {
	wake  chan struct{} // holds one value while there is mail
	mu    sync.Mutex
	mail  mail
	taken map[string]struct{} // endpoints of the last mail taken, to be used again
}

type mail struct {
	set       *envoy.Set // nil: no change
	unset     bool       // the proxy's view is gone
	endpoints map[string]struct{}
	leaf      *leafAnswer
	renew     bool // look again whether the leaf is still good
}

func newMailbox() mailbox { return mailbox{wake: make(chan struct{}, 1)} }

func (b *mailbox) put(change func(*mail)) {
	b.mu.Lock()
	change(&b.mail)
	if b.mail.set != nil {
		b.mail.unset = false
	}
	b.mu.Unlock()
	b.ring()
}

// endpoints is put for the one change that a thousand streams get at once.
func (b *mailbox) endpoints(name string) {
	b.mu.Lock()
	if b.mail.endpoints == nil {
		b.mail.endpoints = make(map[string]struct{}, 1)
	}
	b.mail.endpoints[name] = struct{}{}
	b.mu.Unlock()
	b.ring()
}

func (b *mailbox) ring() {
	select {
	case b.wake <- struct{}{}:
	default: // it rings already
	}
}

// take returns what was put since the last time. Its endpoints are good until the next time.
func (b *mailbox) take() mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := b.mail
	clear(b.taken)
	b.mail = mail{endpoints: b.taken}
	b.taken = taken.endpoints
	return taken
}
