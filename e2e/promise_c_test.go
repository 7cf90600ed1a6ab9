package e2e

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// TestPromiseCIntentions: the default is deny; a granted intention works within 1 s; a revoked one refuses new
// connections within 1 s and ends its open ones within 10 s, active or silent, while those of other peers and services
// stay. Permitted sources of the same chain connect again at once; granting, and writing the same again, closes nothing.
func TestPromiseCIntentions(t *testing.T) { intentions(t, lab.New(t)) }

// TestPromiseCIntentionsInContainers is the same, with Envoys in containers.
func TestPromiseCIntentionsInContainers(t *testing.T) { intentions(t, lab.NewDocker(t)) }

func intentions(t *testing.T, l *lab.Lab) {
	p := bare(l, false)
	gamma := p.Cluster("gamma")
	p.beta.Peer("gamma", gamma, "beta")
	gamma.Gateway()
	service(p.beta, "cache", 1, false, "")
	export(p.beta, map[string][]string{"db": {"alpha", "gamma"}, "cache": {"alpha"}})
	web, report := p.alpha, p.alpha
	_, p.webEnvoy = service(web, "web", 0, false, upstream(web, "db", "beta", "", 0)+", "+upstream(web, "cache", "beta", "", 1))
	service(report, "report", 2, false, upstream(report, "db", "beta", "", 2))
	service(gamma, "web", 0, false, upstream(gamma, "db", "beta", "", 0))

	intend(p.beta, "cache", source{"web", "alpha", "allow"})
	p.Eventually("web@alpha reaches cache", func() error { return web.Host.Answer(p.Context(), up(web, 1), "cache@beta") })
	if err := p.unanswered(); err != nil {
		t.Errorf("without an intention: %v", err)
	}

	intend(p.beta, "db", source{"web", "alpha", "allow"}, source{"web", "gamma", "allow"})
	p.Promise("a granted intention works", time.Second, p.answers)
	p.Eventually("web@gamma reaches db", func() error { return gamma.Host.Answer(p.Context(), up(gamma, 0), "db@beta") })

	held := []*lab.Held{
		p.Hold(web.Host, up(web, 0), true), p.Hold(web.Host, up(web, 0), false),
		p.Hold(web.Host, up(web, 1), true), p.Hold(gamma.Host, up(gamma, 0), true),
	}
	// Granting closes nothing, nor does writing the same again, in another order.
	intend(p.beta, "db", source{"web", "gamma", "allow"}, source{"web", "alpha", "allow"}, source{"report", "alpha", "allow"})
	p.Eventually("report@alpha reaches db", func() error { return report.Host.Answer(p.Context(), up(report, 2), "db@beta") })
	intend(p.beta, "db", source{"report", "alpha", "allow"}, source{"web", "alpha", "allow"}, source{"web", "gamma", "allow"})
	stayOpen(t, drain, held...)

	reporting := p.Hold(report.Host, up(report, 2), true)
	intend(p.beta, "db", source{"report", "alpha", "allow"}, source{"web", "gamma", "allow"})
	p.Promise("a revoked source is refused", time.Second, p.unanswered)
	p.Promise("its active connection ends", 10*time.Second, held[0].Ended)
	p.Promise("its silent connection ends", 10*time.Second, held[1].Ended)
	p.Promise("a permitted source of the same chain is cut once", 10*time.Second, reporting.Ended)
	p.Promise("and connects again at once", time.Second, func() error { return report.Host.Answer(p.Context(), up(report, 2), "db@beta") })
	stayOpen(t, drain, held[2], held[3])
}
