package main

import (
	"context"
	"sync/atomic"

	"github.com/sirupsen/logrus"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/state"
)

// trail is the store's audit trail, as the API knows it, and what was last found out about it.
type trail struct {
	*state.Store
	log   logrus.FieldLogger
	found atomic.Pointer[api.AuditExtent]
}

// Records implements api.Audit.
func (t *trail) Records(limit int, before uint64) ([]api.AuditRecord, error) {
	records, err := t.AuditRecords(limit, before)
	shown := make([]api.AuditRecord, 0, len(records))
	for _, r := range records {
		shown = append(shown, api.AuditRecord(r))
	}
	return shown, err
}

// Verify implements api.Audit.
func (t *trail) Verify() api.AuditExtent {
	extent, err := t.VerifyAudit()
	found := api.AuditExtent{First: extent.First, Newest: extent.Newest, Hash: extent.Hash}
	if err != nil {
		found.Problem = err.Error()
		t.log.WithError(err).Error("audit trail is not what was written")
	}
	t.found.Store(&found)
	return found
}

// verify looks at the trail at the start. One that is broken stops nobody: it is shown, and stays as evidence.
func (t *trail) verify(context.Context) error {
	t.Verify()
	return nil
}

// check says what was found.
func (t *trail) check() api.SelfCheck {
	check := api.SelfCheck{Check: "audit trail is whole", Fix: "isthmus audit verify"}
	if found := t.found.Load(); found != nil {
		check.Problem = found.Problem
	}
	return check
}
