package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// TestPromiseJEmpty: a sidecar without intentions, a gateway without exports, the last export removed and added again:
// the same listener, its port never closed, nothing rejected.
func TestPromiseJEmpty(t *testing.T) {
	p := bare(lab.New(t), false)
	gateway, sidecar := p.beta.Host.WAN+":8443", p.beta.Host.Sidecar+":"+sidecarPort
	p.listens(p.beta, gateway)
	p.listens(p.beta, sidecar)
	if n := p.gatewayB.Stat(`^listener_manager\.total_listeners_active$`); n != 2 {
		t.Errorf("the gateway has %d listeners: want ingress and egress", n)
	}
	service(p.alpha, "web", 0, false, upstream(p.alpha, "db", "beta", "", 0))
	port := watchPort(p.beta, gateway)
	for range 3 {
		export(p.beta, map[string][]string{"db": {"alpha"}})
		intend(p.beta, "db", source{"web", "alpha", "allow"})
		p.Eventually("exported", p.answers)
		p.beta.CLI("config", "delete", "--kind", "exported-services", "--name", "default")
		p.beta.CLI("config", "delete", "--kind", "service-intentions", "--name", "db")
		p.Eventually("not exported", p.unanswered)
	}
	if tries, err := port(); err != nil {
		t.Errorf("beta's gateway was closed: %v", err)
	} else {
		t.Logf("beta's gateway took each of %d connections", tries)
	}
	for _, e := range []*lab.Envoy{p.gatewayA, p.gatewayB, p.dbEnvoy} {
		if n := e.Stat(`update_rejected$`); n != 0 {
			t.Errorf("envoy %s rejected %d updates", e.Name, n)
		}
		if n := e.Stat(`^listener_manager\.listener_removed$`); n != 0 {
			t.Errorf("envoy %s removed %d listeners", e.Name, n)
		}
	}
}

func (p *pair) listens(c *lab.Cluster, address string) {
	p.T.Helper()
	p.Eventually(fmt.Sprintf("%s listens on %s", c.Name, address), func() error {
		conn, err := c.Host.DialOutside(p.Context(), address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// watchPort connects to a port all the time, until the function that it returns is called: it tells how often, and
// the first connection that was refused.
func watchPort(c *lab.Cluster, address string) func() (int, error) {
	type result struct {
		tries int
		err   error
	}
	stop, done := make(chan struct{}), make(chan result, 1)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for r := (result{}); ; r.tries++ {
			select {
			case <-stop:
				done <- r
				return
			case <-tick.C:
				conn, err := c.Host.DialOutside(c.Lab.T.Context(), address)
				if err == nil {
					err = conn.Close()
				}
				r.err = errors.Join(r.err, err)
			}
		}
	}()
	return func() (int, error) {
		close(stop)
		r := <-done
		return r.tries, r.err
	}
}
