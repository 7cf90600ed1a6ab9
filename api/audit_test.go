package api

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// records is an audit trail of a lab.
type records struct {
	mu  sync.Mutex
	all []AuditRecord
}

func (r *records) Audit(ctx context.Context, action, object, detail string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, AuditRecord{
		Number: uint64(len(r.all) + 1), Time: time.Unix(5000, 0).UTC(), Actor: Actor(ctx), Action: action, Object: object, Detail: detail, Before: "00",
	})
	return nil
}

func (r *records) Records(limit int, before uint64) ([]AuditRecord, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	shown := slices.Clone(r.all)
	if before > 0 {
		shown = shown[:min(before-1, uint64(len(shown)))]
	}
	slices.Reverse(shown)
	return shown[:min(limit, len(shown))], nil
}

func (r *records) Verify() AuditExtent {
	return AuditExtent{First: 1, Newest: uint64(len(r.all)), Hash: "00", Problem: "audit record 1 is missing"}
}

// What shows a key is recorded with who asked, and read back by operators only.
func TestAudit(t *testing.T) {
	l := newLab(t)
	l.must("GET", "/v1/agent/connect/ca/leaf/web", "")
	l.must("GET", "/v1/snapshot", "")
	var all, one, older []AuditRecord
	l.must("GET", "/isthmus/v1/audit", "").into(t, &all)
	l.must("GET", "/isthmus/v1/audit?limit=1", "").into(t, &one)
	l.must("GET", "/isthmus/v1/audit?before=2", "").into(t, &older)
	if len(all) != 2 || all[0].Action != "snapshot.save" || all[1].Action != "leaf.read" || all[1].Object != "spiffe://c1.consul/ns/default/dc/dc1/svc/web" || all[1].Actor != "op" {
		t.Errorf("records %+v", all)
	}
	if len(one) != 1 || one[0].Number != 2 || len(older) != 1 || older[0].Number != 1 {
		t.Errorf("limit=1: %+v, before=2: %+v", one, older)
	}
	check(t, l.ask("GET", "/isthmus/v1/audit/verify", ""), "verify", http.StatusOK, []string{`"problem":"audit record 1 is missing"`, `"newest":2`})
	for _, query := range []string{"limit=0", "limit=10001", "limit=x", "before=-1"} {
		check(t, l.ask("GET", "/isthmus/v1/audit?"+query, ""), query, http.StatusBadRequest, []string{"want a number from 1"})
	}
	l.token = readToken
	for _, path := range []string{"/isthmus/v1/audit", "/isthmus/v1/audit/verify"} {
		check(t, l.ask("GET", path, ""), path, http.StatusForbidden, []string{"operator"})
	}
}

// What the server found out about itself is in the status.
func TestSelfChecks(t *testing.T) {
	l := newLab(t, func(c *Config) {
		c.Runtime.Checks = func() []SelfCheck { return []SelfCheck{{Check: "disk is fast", Problem: "it is slow", Fix: "buy one"}} }
	})
	check(t, l.ask("GET", "/isthmus/v1/status", ""), "status", http.StatusOK, []string{`"check":"disk is fast"`, "not so: disk is fast: it is slow"})
}
