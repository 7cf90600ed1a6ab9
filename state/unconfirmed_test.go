package state

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// No file system here can be made to lose one flush, so the store is told that the disk did.
func TestUnconfirmedWriteStopsTheStore(t *testing.T) {
	s, err := Open(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.afterFailure(1<<30, errors.New("input/output error"))
	if err := s.Audit(t.Context(), "test", "", ""); err != nil {
		t.Errorf("a write that is not in the file stopped the store: %v", err)
	}
	s.afterFailure(1, errors.New("input/output error"))
	err = s.Audit(context.WithoutCancel(t.Context()), "test", "", "")
	if err == nil || !strings.Contains(err.Error(), "restart to see what it kept") || !strings.Contains(err.Error(), s.cfg.Dir) {
		t.Errorf("err = %v", err)
	}
}
