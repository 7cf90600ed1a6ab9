package e2e

import (
	"errors"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// unanswered returns nil when a call does not reach the application.
func (p *pair) unanswered() error {
	if p.answers() == nil {
		return errors.New("it is answered")
	}
	return nil
}

// TestPromiseBUnexported: what is not exported, or not any more, has no route within 1 s, and its open connections end
// within 10 s. Exporting another service, or to another peer, cuts nobody.
func TestPromiseBUnexported(t *testing.T) {
	p := newPair(lab.New(t), "local", false)
	gamma := p.Cluster("gamma")
	p.beta.Peer("gamma", gamma, "beta")
	service(p.beta, "cache", 1, false, "")

	active, silent := p.Hold(p.alpha.Host, up(p.alpha, 0), true), p.Hold(p.alpha.Host, up(p.alpha, 0), false)
	modified := p.gatewayB.Stat("listener_manager.listener_in_place_updated")
	export(p.beta, map[string][]string{"db": {"alpha"}, "cache": {"alpha"}})
	export(p.beta, map[string][]string{"db": {"alpha", "gamma"}, "cache": {"alpha"}})
	p.Eventually("beta's gateway has the new chains", func() error {
		if p.gatewayB.Stat("listener_manager.listener_in_place_updated") < modified+2 {
			return errors.New("it was not told")
		}
		return nil
	})
	stayOpen(t, drain, active, silent)

	export(p.beta, map[string][]string{"cache": {"alpha"}})
	p.Promise("no route after un-export", time.Second, p.unanswered)
	p.Promise("active connection ends after un-export", 10*time.Second, active.Ended)
	p.Promise("silent connection ends after un-export", 10*time.Second, silent.Ended)

	export(p.beta, map[string][]string{"db": {"alpha"}})
	p.Eventually("exported again", p.answers)
}

// drain is how long Envoy's drain takes, and a little more: what is not cut by then is not cut.
const drain = 9 * time.Second

// stayOpen fails the test when one of the connections ends within a time: that nothing happens can only be waited out.
func stayOpen(t *testing.T, limit time.Duration, held ...*lab.Held) {
	t.Helper()
	deadline := time.After(limit)
	for {
		select {
		case <-deadline:
			return
		case <-time.After(100 * time.Millisecond):
			for i, h := range held {
				if err := h.Open(); err != nil {
					t.Fatalf("connection %d of %d: %v", i+1, len(held), err)
				}
			}
		}
	}
}
