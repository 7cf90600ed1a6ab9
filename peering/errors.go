package peering

import (
	"errors"
	"fmt"
	"net/http"
)

// An Error is a refusal that the client caused. Every other error is ours or the peer's.
type Error struct {
	status int
	text   string
}

// Error returns the text, in Consul's words where Consul has them.
func (e *Error) Error() string { return e.text }

// HTTPStatus returns the status that an HTTP API answers with: 400, 403, 404, 409 or 410.
func (e *Error) HTTPStatus() int { return e.status }

func badRequest(format string, args ...any) error {
	return &Error{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func forbidden(format string, args ...any) error {
	return &Error{http.StatusForbidden, fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &Error{http.StatusNotFound, fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &Error{http.StatusConflict, fmt.Sprintf(format, args...)}
}

// The ways in which a session ends that its owner acts on. All others are failures, and are tried again.
var (
	// errTerminated is returned when the peer deleted the peering.
	errTerminated = errors.New("the peer deleted the peering")
	// errDeleted is returned when we deleted the peering and the peer was told.
	errDeleted = errors.New("the peering was deleted here")
	// errReplaced is returned when the peer opened a newer stream.
	errReplaced = errors.New("the peer opened a newer stream")
	// errGone is returned when the row of a peering is not there any more, or is another peering's.
	errGone = errors.New("the peering does not exist any more")
	// errResync is returned when a full inventory is needed, which only a new stream brings.
	errResync = errors.New("ended here to be sent everything again")
	// errDoubted is returned when the peer may count the stream as gone.
	errDoubted = errors.New("ended here to be counted by the peer, which may have taken this stream for one that was gone")
)

func gone(format string, args ...any) error {
	return &Error{http.StatusGone, fmt.Sprintf(format, args...)}
}
