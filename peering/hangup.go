package peering

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
)

// A stuckError ends a session whose peer does not read. The status of the stream would wait behind what the peer does
// not read, so that only the end of the connection tells it.
type stuckError struct{ text string }

func (e *stuckError) Error() string { return e.text }

func stuck(format string, args ...any) error { return &stuckError{fmt.Sprintf(format, args...)} }

// closable are server credentials that leave the connection in reach of the call.
type closable struct {
	credentials.TransportCredentials
}

// closableInfo is what closable adds to a call.
type closableInfo struct {
	credentials.AuthInfo
	conn net.Conn
}

func (c closable) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	return conn, closableInfo{info, conn}, nil
}

func (c closable) Clone() credentials.TransportCredentials {
	return closable{c.TransportCredentials.Clone()}
}

// closeConnection closes the connection that a call came on.
func closeConnection(ctx context.Context) {
	if from, ok := grpcpeer.FromContext(ctx); ok {
		if info, ok := from.AuthInfo.(closableInfo); ok {
			_ = info.conn.Close()
		}
	}
}
