package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// updates counts what an Envoy took from its control plane, by type, and what it did with listeners. It leaves out
// cluster_manager.cluster_updated: that counts each change of a host's health too, and with update_merge_window 0 does so alone.
const updates = `(lds|cds)\.update_(success|rejected)$|^sds\..*update_(success|rejected)$|^cluster\..*\.update_success$` +
	`|extension_config_discovery.*update_success|extension_config_discovery.*config_reload$` +
	`|listener_manager\.listener_(added|modified|removed|in_place_updated)$|cluster_manager\.cluster_(added|modified|removed)$`

// took returns the non-zero counters of an Envoy that updates matches.
func took(t *testing.T, e *lab.Envoy) string {
	t.Helper()
	text, err := e.Admin("/stats?format=json&usedonly&filter=" + strings.ReplaceAll(strings.ReplaceAll(updates, "|", "%7C"), "+", "%2B"))
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Stats []struct {
			Name  string
			Value any
		}
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatal(err)
	}
	lines := []string{}
	for _, s := range answer.Stats {
		if s.Name != "" {
			lines = append(lines, fmt.Sprintf("%s = %v", s.Name, s.Value))
		}
	}
	if len(lines) < 4 {
		t.Fatalf("envoy %s: only %d counters: %v", e.Name, len(lines), lines)
	}
	return strings.Join(lines, "\n")
}

// reconnected waits until an Envoy has a stream to its control plane again.
func (p *pair) reconnected(envoys ...*lab.Envoy) {
	p.T.Helper()
	for _, e := range envoys {
		p.Eventually("envoy "+e.Name+" is connected", func() error {
			if e.Stat(`^control_plane\.connected_state$`) != 1 {
				return fmt.Errorf("it is not")
			}
			return nil
		})
	}
}

// TestPromiseHRestart: after kill -9 of a control plane Envoys keep serving, new connections included. After its restart
// no listener is removed, nothing is sent again that did not change, no connection is cut, also with the peer away; an
// endpoint change then arrives within 1 s.
func TestPromiseHRestart(t *testing.T) {
	p := newPair(lab.New(t), "local", false)
	envoys := []*lab.Envoy{p.gatewayA, p.gatewayB, p.webEnvoy, p.dbEnvoy}
	active, silent := p.Hold(p.alpha.Host, up(p.alpha, 0), true), p.Hold(p.alpha.Host, up(p.alpha, 0), false)
	before := map[*lab.Envoy]string{}
	for _, e := range envoys {
		before[e] = took(t, e)
	}
	p.alpha.Server.Kill()
	p.beta.Server.Kill()
	if err := p.answers(); err != nil {
		t.Errorf("without control planes: %v", err)
	}

	p.beta.Start() // alpha, its peer, stays away
	p.reconnected(p.gatewayB, p.dbEnvoy)
	stayOpen(t, 3*time.Second, active, silent)
	if err := p.answers(); err != nil {
		t.Errorf("with beta back and alpha away: %v", err)
	}
	p.beta.Server.Kill()
	p.alpha.Start() // with its imports, before beta is back
	p.reconnected(p.gatewayA, p.webEnvoy)
	p.beta.Start()
	p.reconnected(p.gatewayB, p.dbEnvoy)
	stayOpen(t, drain, active, silent)
	for _, e := range envoys {
		if after := took(t, e); after != before[e] {
			t.Errorf("envoy %s was sent something:\n%s\nbefore the restart:\n%s", e.Name, after, before[e])
		}
	}
	if err := p.answers(); err != nil {
		t.Errorf("after the restart: %v", err)
	}

	p.beta.CLI("services", "deregister", "--id", "db-sidecar-proxy")
	p.Promise("an endpoint change after the restart arrives", time.Second, p.unanswered)
}

// TestPromiseHRevokedMeanwhile: an intention that was revoked while no server that Envoy can reach runs takes effect when it
// reconnects.
func TestPromiseHRevokedMeanwhile(t *testing.T) {
	p := newPair(lab.New(t), "", false)
	held := p.Hold(p.alpha.Host, up(p.alpha, 0), true)
	p.beta.Server.Kill()
	elsewhere := p.beta.With("--xds-addr", p.beta.Host.XDS+":18502")
	intend(elsewhere, "db", source{"other", "alpha", "allow"})
	if err := p.answers(); err != nil {
		t.Errorf("no server has told Envoy yet: %v", err)
	}
	elsewhere.Server.Kill()
	p.beta.Start()
	p.Promise("revoked meanwhile: refused", 5*time.Second, p.unanswered)
	p.Promise("revoked meanwhile: the open connection ends", 10*time.Second, held.Ended)
}
