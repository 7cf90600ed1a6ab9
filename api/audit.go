package api

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// Audit is the trail of who did what.
type Audit interface {
	// Audit returns once a record of it is on the disk.
	Audit(ctx context.Context, action, object, detail string) error
	// Records returns at most limit records, the newest first: all, or those that are older than number before.
	Records(limit int, before uint64) ([]AuditRecord, error)
	// Verify looks at the whole trail.
	Verify() AuditExtent
}

// AuditRecord is one record of the trail.
type AuditRecord struct {
	Number uint64    `json:"number"`
	Time   time.Time `json:"time"`
	Actor  string    `json:"actor,omitempty"` // the accessor of a token, "anonymous" and an address, or nobody: the server itself
	Action string    `json:"action"`
	Object string    `json:"object"`
	Detail string    `json:"detail,omitempty"`
	Before string    `json:"before,omitempty"` // hex SHA-256 of the record before
}

// AuditExtent is what the trail holds, and whether it is what was written.
type AuditExtent struct {
	First   uint64 `json:"first"`
	Newest  uint64 `json:"newest"`
	Hash    string `json:"hash"` // hex SHA-256 of the newest record
	Problem string `json:"problem,omitempty"`
}

// How many records one answer holds.
const (
	someRecords = 100
	mostRecords = 10_000
)

func (s *server) auditRoutes() []route {
	return []route{
		{method: "GET", pattern: "/isthmus/v1/audit", access: operate, do: s.listAudit},
		{method: "GET", pattern: "/isthmus/v1/audit/verify", access: operate, do: s.verifyAudit},
	}
}

func (s *server) listAudit(c *call) (any, error) {
	if s.Audit == nil {
		return nil, errReadOnly
	}
	limit, before := uint64(someRecords), uint64(0)
	for name, value := range map[string]*uint64{"limit": &limit, "before": &before} {
		text := c.URL.Query().Get(name)
		if text == "" {
			continue
		}
		number, err := strconv.ParseUint(text, 10, 63)
		if err != nil || number == 0 || name == "limit" && number > mostRecords {
			return nil, refuse(http.StatusBadRequest, "invalid", "%s %.20q: want a number from 1, limit at most %d", name, text, mostRecords)
		}
		*value = number
	}
	records, err := s.Audit.Records(int(limit), before)
	if records == nil {
		records = []AuditRecord{}
	}
	return records, err
}

func (s *server) verifyAudit(*call) (any, error) {
	if s.Audit == nil {
		return nil, errReadOnly
	}
	return s.Audit.Verify(), nil
}

// record leaves a record of a read that shows keys. It is on the disk before anything is answered.
func (s *server) record(c *call, action, object string) error {
	if s.Audit == nil {
		return nil
	}
	return s.Audit.Audit(c.Context(), action, object, "")
}
