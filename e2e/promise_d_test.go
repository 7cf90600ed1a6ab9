package e2e

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// TestPromiseDNothingBeforeYes: a denied client gets no byte from a server-first application, and the application sees
// no connection: with the default deny, an exact deny under a wildcard allow, and the default allow with an exact deny.
func TestPromiseDNothingBeforeYes(t *testing.T) {
	t.Run("default deny", func(t *testing.T) {
		p := newPair(lab.New(t), "", true)
		intend(p.beta, "db", source{"other", "alpha", "allow"})
		p.denied(t)
	})
	t.Run("exact deny under a wildcard allow", func(t *testing.T) {
		p := newPair(lab.New(t), "", true)
		intend(p.beta, "db", source{"*", "alpha", "allow"}, source{"web", "alpha", "deny"})
		p.denied(t)
	})
	t.Run("default allow with an exact deny", func(t *testing.T) {
		p := newPair(lab.New(t), "", true, "--default-intention-policy", "allow")
		intend(p.beta, "db", source{"web", "alpha", "deny"})
		p.denied(t)
	})
}

// denied waits until web is refused, and then calls on: none of its calls may see a byte, nor be seen.
func (p *pair) denied(t *testing.T) {
	t.Helper()
	refused := func() error {
		bytes, err := p.received()
		if err == nil && bytes > 0 {
			err = errors.New("it received a banner")
		}
		return err
	}
	p.Promise("refused", time.Second, refused)
	before := p.db.Connections.Load()
	for range 20 {
		if err := refused(); err != nil {
			t.Fatal(err)
		}
	}
	if after := p.db.Connections.Load(); after != before {
		t.Errorf("the application saw %d connections of a denied client", after-before)
	}
}

// received opens a connection, says nothing, and returns how many bytes come until the other end closes.
func (p *pair) received() (int64, error) {
	call, err := p.alpha.Host.Open(p.Context(), up(p.alpha, 0))
	if err != nil {
		return 0, err
	}
	defer func() { _ = call.Close() }()
	_ = call.SetReadDeadline(time.Now().Add(time.Second))
	n, err := io.CopyN(io.Discard, call, 1)
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return n, errors.New("neither a byte nor the end within a second")
	}
	return n, nil
}
