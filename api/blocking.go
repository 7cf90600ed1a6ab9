package api

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

const (
	defaultWait = 5 * time.Minute
	maxWait     = 10 * time.Minute
	// jitterShare is the part of the wait that is added at random, so that many clients do not come back at once.
	jitterShare = 16
)

// A query is a question about the World. index is when the answer last changed: it moves with every change of what was
// asked, a deletion included, and with nothing else.
type query struct {
	index  func(*snapshot.World) uint64
	answer func(*snapshot.World) (any, error)
}

// ask answers a question: at once, or once its index is past the one that the client saw, or when the wait is over.
func (s *server) ask(c *call, question func(*call) (query, error)) (any, error) {
	q, err := question(c)
	if err != nil {
		return nil, err
	}
	seen, wait, err := waitParams(c)
	if err != nil {
		return nil, err
	}
	world := c.world
	if seen > 0 {
		if world, err = s.await(c, seen, wait, q.index); err != nil {
			return nil, err
		}
	}
	indexed(c, indexOf(q.index, world))
	return q.answer(world)
}

// Paths whose answers Consul says the consistency of.
var consistent = []string{"/v1/catalog/", "/v1/health/", "/v1/connect/intentions/match"}

// indexed sets the headers of an answer that has an index.
func indexed(c *call, index uint64) {
	header := c.w.Header()
	header.Set("X-Consul-Index", strconv.FormatUint(index, 10))
	header.Set("X-Consul-Knownleader", "true")
	header.Set("X-Consul-Lastcontact", "0")
	header.Set("X-Consul-Query-Backend", "blocking-query")
	if slices.ContainsFunc(consistent, func(begin string) bool { return strings.HasPrefix(c.URL.Path, begin) }) {
		header.Set("X-Consul-Effective-Consistency", "leader")
	}
}

// indexOf is never 0: a client would not block on that, and ask again and again.
func indexOf(index func(*snapshot.World) uint64, world *snapshot.World) uint64 {
	return max(1, index(world))
}

// await returns the first World whose index is past seen, or the newest one when wait is over. A client that has seen
// more than there is asks a server that was restored to an earlier state: it is answered at once.
func (s *server) await(c *call, seen uint64, wait time.Duration, index func(*snapshot.World) uint64) (*snapshot.World, error) {
	arrived := func(world *snapshot.World) bool {
		return indexOf(index, world) > seen || seen > max(1, world.Index)
	}
	if arrived(c.world) {
		return c.world, nil
	}
	select {
	case s.waiting <- struct{}{}:
		defer func() { <-s.waiting }()
	default:
		return nil, refuse(http.StatusTooManyRequests, "waiting", "too many blocking queries wait already: at most %d", maxWaiting)
	}
	sub := s.Publisher.Subscribe()
	defer sub.Close()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-c.Context().Done():
			return nil, c.Context().Err()
		case <-timer.C:
			return s.Publisher.World(), nil
		case <-sub.Ready():
			if world := sub.Take().World; arrived(world) {
				return world, nil
			}
		}
	}
}

// waitParams reads ?index= and ?wait=, which takes a duration with or without its unit of seconds.
func waitParams(c *call) (seen uint64, wait time.Duration, err error) {
	values := c.URL.Query()
	if text := values.Get("index"); text != "" {
		if seen, err = strconv.ParseUint(text, 10, 64); err != nil {
			return 0, 0, refuse(http.StatusBadRequest, "parameter", "Invalid index: %q", text)
		}
	}
	wait = defaultWait
	if text := values.Get("wait"); text != "" {
		if _, err := strconv.Atoi(text); err == nil {
			text += "s"
		}
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 {
			return 0, 0, refuse(http.StatusBadRequest, "parameter", "Invalid wait time: %q", values.Get("wait"))
		}
	}
	if wait == 0 {
		wait = defaultWait
	}
	wait = min(wait, maxWait)
	return seen, wait + rand.N(wait/jitterShare+1), nil
}

// newest returns the highest index.
func newest(indexes ...uint64) uint64 {
	var highest uint64
	for _, index := range indexes {
		highest = max(highest, index)
	}
	return highest
}

// modified is the index of a question that is one path of a table.
func modified(table snapshot.Table, parts ...string) func(*snapshot.World) uint64 {
	return func(w *snapshot.World) uint64 { return w.Modified(table, parts...) }
}
