package lab

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Held is a connection that a test keeps open to see what ends it. An active one says something all the time; a silent
// one says nothing after its first line.
type Held struct {
	call  *Call
	ended chan struct{}
	at    time.Time // when it ended; read after ended is closed
	stop  chan struct{}
}

const activePause = 50 * time.Millisecond

// Hold opens a connection from a host, and fails the test unless the application answers.
func (l *Lab) Hold(h *Host, address string, active bool) *Held {
	l.T.Helper()
	call, err := h.Open(context.Background(), address)
	if err == nil {
		_, err = call.Say("hello")
	}
	if err != nil {
		l.T.Fatalf("hold a connection to %s: %v", address, err)
	}
	held := &Held{call: call, ended: make(chan struct{}), stop: make(chan struct{})}
	go held.watch(active)
	l.T.Cleanup(func() {
		close(held.stop)
		_ = call.Close()
		<-held.ended
	})
	return held
}

func (held *Held) watch(active bool) {
	defer func() {
		held.at = time.Now()
		close(held.ended)
	}()
	_ = held.call.SetDeadline(time.Time{})
	if !active {
		_, _ = held.call.lines.ReadByte() // nothing is ever sent: it returns when the connection ends
		return
	}
	tick := time.NewTicker(activePause)
	defer tick.Stop()
	for {
		select {
		case <-held.stop:
			return
		case <-tick.C:
			if _, err := held.call.Say("still here"); err != nil {
				return
			}
		}
	}
}

// Ended returns nil once the connection has ended.
func (held *Held) Ended() error {
	select {
	case <-held.ended:
		return nil
	default:
		return errors.New("it is still open")
	}
}

// Open returns nil while the connection has not ended.
func (held *Held) Open() error {
	if held.Ended() == nil {
		return fmt.Errorf("it ended at %v", held.at.Format("15:04:05.000"))
	}
	return nil
}
