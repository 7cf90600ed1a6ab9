package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// TestPromiseFSameNames: a service of the same name in the own cluster and at two peers, all of whose datacenters are
// called dc1: nothing mixes, neither in what is reached nor in who is let in.
func TestPromiseFSameNames(t *testing.T) {
	l := lab.New(t)
	alpha, beta, gamma := l.Cluster("alpha"), l.Cluster("beta"), l.Cluster("gamma")
	beta.Peer("alpha", alpha, "beta")
	gamma.Peer("alpha", alpha, "gamma")
	for _, c := range []*lab.Cluster{alpha, beta, gamma} {
		c.Gateway()
		service(c, "db", 0, false, "")
	}
	for _, c := range []*lab.Cluster{beta, gamma} {
		export(c, map[string][]string{"db": {"alpha"}})
	}
	service(alpha, "web", 1, false, upstream(alpha, "db", "", "", 0)+", "+upstream(alpha, "db", "beta", "", 1)+", "+upstream(alpha, "db", "gamma", "local", 2))

	answers := func(offset int, want string) func() error {
		return func() error { return alpha.Host.Answer(l.Context(), up(alpha, offset), want) }
	}
	intend(alpha, "db", source{"web", "", "allow"})
	l.Eventually("web reaches db in its own cluster", answers(0, "db@alpha"))
	for offset := 1; offset <= 2; offset++ {
		if err := answers(offset, "")(); err == nil {
			t.Errorf("upstream %d is answered without an intention there", offset)
		}
	}
	// The name web is allowed at beta as a local service only: web of a peer is another one.
	intend(beta, "db", source{"web", "", "allow"})
	intend(gamma, "db", source{"web", "alpha", "allow"})
	l.Eventually("web reaches db at gamma", answers(2, "db@gamma"))
	if err := answers(1, "db@beta")(); err == nil {
		t.Error("a local intention at beta lets alpha's web in")
	}
	intend(beta, "db", source{"web", "alpha", "allow"})
	l.Eventually("web reaches db at beta", answers(1, "db@beta"))
	for offset, want := range []string{"db@alpha", "db@beta", "db@gamma"} {
		if err := answers(offset, want)(); err != nil {
			t.Errorf("upstream %d: %v", offset, err)
		}
	}
}

// TestPromiseGNewServiceAtKnownGateways: a service that is new on endpoints which Envoy knows already is usable within 1 s.
func TestPromiseGNewServiceAtKnownGateways(t *testing.T) {
	p := newPair(lab.New(t), "", false)
	service(p.beta, "cache", 1, false, "")
	intend(p.beta, "cache", source{"web", "alpha", "allow"})
	export(p.beta, map[string][]string{"db": {"alpha"}, "cache": {"alpha"}})
	p.Eventually("alpha imports cache", func() error {
		var rows []struct{ Service struct{ Service string } }
		if err := p.alpha.JSON("/v1/health/connect/cache?peer=beta", &rows); err != nil {
			return err
		}
		if len(rows) == 0 {
			return fmt.Errorf("no instance of cache")
		}
		return nil
	})
	for i := range 3 {
		upstreams := upstream(p.alpha, "db", "beta", "", 0)
		for j := range i + 1 {
			upstreams += ", " + upstream(p.alpha, "cache", "beta", "", 10+j)
		}
		register(p.alpha, "web", 0, upstreams)
		p.Promise("a new upstream at known gateways", time.Second, func() error {
			return p.alpha.Host.Answer(p.Context(), up(p.alpha, 10+i), "cache@beta")
		})
	}
}

// TestPromiseGFirstServiceInModeLocal: the first service of a peer, through the own gateway that knew no endpoint of that
// peer, is usable within 1 s; so it is each time that it is exported again.
func TestPromiseGFirstServiceInModeLocal(t *testing.T) {
	p := newPair(lab.New(t), "local", false)
	for range 3 {
		export(p.beta, nil)
		p.Eventually("db is not exported: refused", p.unanswered)
		p.Eventually("the own gateway has no way to the peer", func() error {
			if n := p.gatewayA.Stat(`^cluster\.imp~beta\.membership_total$`); n != 0 {
				return fmt.Errorf("%d endpoints", n)
			}
			return nil
		})
		export(p.beta, map[string][]string{"db": {"alpha"}})
		p.Promise("the first service of a peer in mode local", time.Second, p.answers)
	}
}
