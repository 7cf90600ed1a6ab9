package peering

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// messageStream is either end of StreamResources. Send and Recv are each for one goroutine, and return for good when the
// stream is over.
type messageStream interface {
	Send(*wire.ReplicationMessage) error
	Recv() (*wire.ReplicationMessage, error)
}

// A reader receives from a stream on a goroutine of its own, so that whoever reads can also wait for other things. The
// goroutine ends when the stream is over, or after stop with the next message.
type reader struct {
	messages chan *wire.ReplicationMessage
	stopped  chan struct{}
	stopOnce sync.Once
	over     chan struct{} // closed when err is set
	err      error
}

func (s *Service) newReader(stream messageStream) *reader {
	r := &reader{messages: make(chan *wire.ReplicationMessage), stopped: make(chan struct{}), over: make(chan struct{})}
	s.tasks.Go(func() {
		defer close(r.over)
		for {
			message, err := stream.Recv()
			if err != nil {
				r.err = err
				return
			}
			select {
			case r.messages <- message:
			case <-r.stopped:
				r.err = context.Canceled
				return
			}
		}
	})
	return r
}

func (r *reader) stop() { r.stopOnce.Do(func() { close(r.stopped) }) }

// read returns the next message; at the end of the stream its error, io.EOF for an orderly one.
func (r *reader) read(ctx context.Context) (*wire.ReplicationMessage, error) {
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case message := <-r.messages:
		return message, nil
	case <-r.over:
		return nil, r.err
	}
}

// reason returns why a stream is over whose context is, as far as it knows more than otherwise.
func (r *reader) reason(otherwise error) error {
	for {
		select {
		case <-r.messages:
		case <-r.over:
			if from, ok := status.FromError(r.err); ok && from.Code() != codes.Canceled && from.Code() != codes.OK {
				return ended(r.err)
			}
			return otherwise
		}
	}
}

// drain reads and forgets up to count messages. A dialer that is refused before it has sent its first subscriptions does
// not see why, and waits for a minute instead of acting on it.
func (r *reader) drain(ctx context.Context, count int, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for range count {
		if _, err := r.read(ctx); err != nil {
			return
		}
	}
}

// maxEarly bounds what is read before the dialect is known. A peer subscribes before it sends anything else.
const maxEarly = 1000

// detect reads until the peer's subscriptions tell its dialect, and returns what it read, which is to be handled as if
// it came now. A peer subscribes to services first; what follows is the list of services in one dialect only. When time
// is up guess stands.
func detect(ctx context.Context, r *reader, guess dialect, limit time.Duration) (dialect, []*wire.ReplicationMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var early []*wire.ReplicationMessage
	for size := 0; len(early) < maxEarly && size < maxInboxBytes; {
		message, err := r.read(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return guess, early, nil
		}
		if err != nil {
			return guess, early, err
		}
		early = append(early, message)
		size += proto.Size(message)
		switch url := message.GetRequest().GetResourceURL(); url {
		case "", wire.TypeService:
		case wire.TypeServiceList:
			return dialect114, early, nil
		default:
			return dialect113, early, nil
		}
		if message.GetTerminated() != nil {
			return guess, early, nil
		}
	}
	return guess, early, fmt.Errorf("%d messages and no subscription", len(early))
}

// request handles a subscription, or the answer to a Response of ours.
func (s *session) request(ctx context.Context, r *wire.Request) error {
	if s.role == snapshot.Dialer && r.PeerID != "" && r.PeerID != s.remoteID {
		return status.Errorf(codes.InvalidArgument, "expected PeerID to be empty; the wrong end of peering is being dialed")
	}
	if s.role == snapshot.Acceptor && r.PeerID != "" && r.PeerID != s.link.id {
		s.ignored(1)
	}
	if sent, ok := s.pulse.answered(r.ResponseNonce); ok {
		s.answered(sent, r)
		s.out.wake()
		return nil
	}
	if s.out.subscribed(r.ResourceURL) {
		return s.stray(ctx) // a repeated subscription, or an answer to what we do not wait for
	}
	switch {
	case !s.dialect.known(r.ResourceURL):
		return status.Errorf(codes.InvalidArgument, "subscription request to unknown resource URL: %s", printable(r.ResourceURL, 200))
	case r.ResponseNonce != "":
		return status.Error(codes.InvalidArgument, "initial subscription requests for a resource type must not contain a nonce")
	case r.Error != nil:
		return status.Error(codes.InvalidArgument, "initial subscription request for a resource type must not contain an error")
	}
	s.out.subscribe(r.ResourceURL)
	return nil
}

// ended says in our words how the peer's side of a stream ended.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the peer closed the stream")
	}
	if from, ok := status.FromError(err); ok {
		return &streamError{from}
	}
	return err
}

// streamError is the status with which a peer, or the transport, ended a stream.
type streamError struct{ status *status.Status }

func (e *streamError) Error() string {
	text := printable(e.status.Message(), longestReason)
	if e.status.Code() == codes.Unavailable {
		return text
	}
	return e.status.Code().String() + ": " + text
}
