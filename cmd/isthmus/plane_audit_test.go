package main

import (
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// TestBrokenAuditTrailIsShown: a trail that somebody cut does not stop the server, and is shown by status and check.
func TestBrokenAuditTrailIsShown(t *testing.T) {
	cfg := planeConfig(t)
	p := opened(t, cfg)
	for range 3 {
		if err := p.store.Audit(t.Context(), "test", "object", ""); err != nil {
			t.Fatal(err)
		}
	}
	if p.trail.Verify(); p.checks()[0].Problem != "" {
		t.Errorf("a whole trail: %+v", p.checks())
	}
	_ = p.close()
	db, err := bolt.Open(filepath.Join(cfg.DataDir, "isthmus.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		key, _ := tx.Bucket([]byte("audit")).Cursor().Last()
		return tx.Bucket([]byte("audit")).Delete(key)
	})
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	p = opened(t, cfg)
	if err := p.trail.verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	checks := p.checks()
	if !strings.Contains(checks[0].Problem, "cut off") {
		t.Errorf("%+v: want the problem", checks)
	}
	var found findings
	found.itself(checks)
	if len(found) != 1 || found[0].Fix != "isthmus audit verify" || found.failed() != 1 {
		t.Errorf("check: %+v", found)
	}
	running(t, p) // all the same
}
