package peering

import (
	"sync"

	"github.com/isthmus-mesh/isthmus/peering/wire"
)

// maxControl bounds what waits to be sent besides resources: answers, above all. A peer that sends and does not read
// ends its session when it is reached.
const maxControl = 1 << 16

// An outbox holds what is to be sent on one stream. Resources are held by name only and made when they are sent, so that
// the newest wins and the outbox never grows beyond the number of names. Any goroutine may add; one takes.
type outbox struct {
	limit int           // of control
	ready chan struct{} // has an element when there may be something to take

	mu        sync.Mutex
	control   []wire.Message  // in order, before everything else
	wanted    map[string]bool // the types that the peer subscribed to
	inventory bool            // names wait until the list of them was sent
	bundle    bool
	addresses bool
	list      bool
	probe     bool
	terminate bool
	names     []string // in order, each once
	queued    map[string]struct{}
}

// jobKind is what a job asks to be made and sent.
type jobKind int

const (
	jobMessage    jobKind = iota // job.message, as it is
	jobTerminated                // the last message of all
	jobBundle
	jobAddresses
	jobList
	jobProbe
	jobService // of job.name, both forms
)

type job struct {
	kind    jobKind
	message wire.Message
	name    string
}

func newOutbox(inventory bool, limit int) *outbox {
	return &outbox{limit: limit, ready: make(chan struct{}, 1), wanted: map[string]bool{}, inventory: inventory, queued: map[string]struct{}{}}
}

func (o *outbox) wake() {
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// change runs in with mu held and wakes the taker.
func (o *outbox) change(in func()) {
	o.mu.Lock()
	in()
	o.mu.Unlock()
	o.wake()
}

// post adds a message that is sent as it is.
func (o *outbox) post(message wire.Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.control) >= o.limit {
		return stuck("the peer does not read: %d messages wait to be sent", len(o.control))
	}
	o.control = append(o.control, message)
	o.wake()
	return nil
}

// subscribe notes that the peer wants a type, and tells whether that is new.
func (o *outbox) subscribe(url string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wanted[url] {
		return false
	}
	o.wanted[url] = true
	o.wake()
	return true
}

func (o *outbox) subscribed(url string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.wanted[url]
}

// services marks names to be sent, and the list of names if it changed.
func (o *outbox) services(list bool, names []string) {
	o.change(func() {
		o.list = o.list || list
		for _, name := range names {
			if _, waits := o.queued[name]; !waits {
				o.queued[name] = struct{}{}
				o.names = append(o.names, name)
			}
		}
	})
}

// next takes the next job. room tells whether another Response may be under way.
func (o *outbox) next(room bool) (job, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.control) > 0 {
		first := o.control[0]
		o.control[0], o.control = wire.Message{}, o.control[1:]
		return job{kind: jobMessage, message: first}, true
	}
	if o.terminate {
		o.terminate = false
		return job{kind: jobTerminated}, true
	}
	if !room {
		return job{}, false
	}
	return o.nextResource()
}

// nextResource runs with mu held. The bundle comes first: a peer can use nothing without it.
func (o *outbox) nextResource() (job, bool) {
	take := func(flag *bool, url string) bool {
		taken := *flag && o.wanted[url]
		if taken {
			*flag = false
		}
		return taken
	}
	switch {
	case take(&o.bundle, wire.TypeTrustBundle):
		return job{kind: jobBundle}, true
	case take(&o.addresses, wire.TypeAddresses):
		return job{kind: jobAddresses}, true
	case o.inventory && take(&o.list, wire.TypeServiceList):
		return job{kind: jobList}, true
	case take(&o.probe, wire.TypeService):
		return job{kind: jobProbe}, true
	case len(o.names) > 0 && o.wanted[wire.TypeService] && (!o.inventory || o.wanted[wire.TypeServiceList]):
		name := o.names[0]
		o.names = o.names[1:]
		delete(o.queued, name)
		return job{kind: jobService, name: name}, true
	}
	return job{}, false
}
