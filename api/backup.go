package api

import (
	"net/http"
	"time"
)

// backupTimeout bounds how long a backup may take on the wire, in either direction.
const backupTimeout = 15 * time.Minute

func (s *server) backupRoutes() []route {
	return []route{
		{method: "GET", pattern: "/v1/snapshot", access: operate, do: s.saveBackup},
		{method: "PUT", pattern: "/v1/snapshot", access: operate, do: s.restoreBackup},
	}
}

// saveBackup streams the whole state. An error after the first byte can only be told by breaking off.
func (s *server) saveBackup(c *call) (any, error) {
	if s.Backup == nil {
		return nil, errReadOnly
	}
	if err := s.record(c, "snapshot.save", "snapshot"); err != nil {
		return nil, err
	}
	deadline(c.w, backupTimeout)
	indexed(c, max(1, c.world.Index))
	c.w.Header().Set("Content-Type", "application/x-gzip")
	if err := s.Backup.Snapshot(c.w); err != nil {
		if begun, ok := c.w.(*recorder); ok && begun.status == 0 {
			return nil, err
		}
		s.Log.WithError(err).Error("backup interrupted")
		panic(http.ErrAbortHandler)
	}
	return streamed{}, nil
}

func (s *server) restoreBackup(c *call) (any, error) {
	if s.Backup == nil {
		return nil, errReadOnly
	}
	controller := http.NewResponseController(c.w)
	_ = controller.SetReadDeadline(time.Now().Add(backupTimeout)) // only a test's recorder has none
	err := s.Backup.Restore(c.Context(), http.MaxBytesReader(c.w, c.Body, maxBackup))
	_ = controller.SetReadDeadline(time.Time{})
	return nil, err
}
