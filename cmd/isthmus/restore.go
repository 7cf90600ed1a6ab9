package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// errRestored ends a plane whose state was replaced by a backup's. The next one opens that state as after any restart, so
// that no part goes on with keys, names and pins that are not those of the store.
var errRestored = errors.New("the state was restored")

// untilRestored returns errRestored after a restore.
func (p *plane) untilRestored(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.restored:
		return errRestored
	}
}

// startAnew ends the plane, and returns once whoever connects will find the next one.
func (p *plane) startAnew() {
	close(p.restored)
	<-p.deaf
}

func (p *plane) untilSynced(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.synced:
		return nil
	}
}

// restorable refuses the backup of a cluster that this process could not start as afterwards.
func (p *plane) restorable(backup snapshot.Cluster) error {
	switch {
	case backup.Datacenter != p.cfg.Datacenter:
		return fmt.Errorf("is of datacenter %s: its identities carry that name, want a server with --datacenter %s", backup.Datacenter, backup.Datacenter)
	case backup.NodeName != p.cfg.NodeName:
		return fmt.Errorf("is of node %s: its services are registered there, want a server with --node-name %s", backup.NodeName, backup.NodeName)
	}
	return nil
}

// sockets are listening sockets by what they are for and their address. They stay open from one plane to the next: who connects in between waits, and
// is not refused.
type sockets map[string]*socket

type socket struct {
	file *os.File
	used int // planes that listened on it
}

// listen listens on an address, by the socket that is there already if there is one.
func (s sockets) listen(ctx context.Context, what, address string) (net.Listener, error) {
	key := what + " " + address
	if known := s[key]; known != nil {
		known.used++
		return net.FileListener(known.file)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil || s == nil {
		return listener, err
	}
	if file, err := listener.(*net.TCPListener).File(); err == nil { // where that cannot be, it is opened again
		s[key] = &socket{file, 1}
	}
	return listener, nil
}

// inherited tells whether there was a plane before this one.
func (s sockets) inherited() bool {
	for _, known := range s {
		if known.used > 1 {
			return true
		}
	}
	return false
}

func (s sockets) close() {
	for _, known := range s {
		_ = known.file.Close() // nobody listens on it any more
	}
}
