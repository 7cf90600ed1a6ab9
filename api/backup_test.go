package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
)

// A backup that breaks off must not look complete.
func TestBrokenBackup(t *testing.T) {
	l := newLab(t)
	l.store.broken = true
	request, err := http.NewRequest("GET", l.server.URL+"/v1/snapshot", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Consul-Token", operatorToken)
	response, err := l.server.Client().Do(request)
	if err != nil {
		return // broken off before the headers left
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("read %q to its end: want an error", text)
	}
}

// lost is a backup that fails at once.
type lost struct{}

func (lost) Snapshot(io.Writer) error { return errors.New("disk gone") }
func (lost) Restore(_ context.Context, r io.Reader) error {
	_, err := io.ReadAll(r)
	return errors.Join(err, errors.New("not an archive"))
}

func TestFailedBackup(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Backup = lost{} })
	check(t, l.ask("GET", "/v1/snapshot", ""), "save", http.StatusInternalServerError, []string{"disk gone"})
	check(t, l.ask("PUT", "/v1/snapshot", "x"), "restore", http.StatusInternalServerError, []string{"not an archive"})
}
