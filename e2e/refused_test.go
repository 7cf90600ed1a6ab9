package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// TestRefusedListenerAfterARestart: a listener that an Envoy refused, since something else had its port, is served to the
// Envoy that is started once the port is free; until then `proxies` shows when it is tried again.
func TestRefusedListenerAfterARestart(t *testing.T) {
	l := lab.New(t)
	alpha := l.Cluster("alpha")
	address := alpha.Host.Sidecar + ":" + sidecarPort
	occupant := l.App(alpha.Host, "occupant", address, false)
	register(alpha, "db", 0, "")
	envoy := alpha.Sidecar("db")
	refused := func() ([]string, error) {
		var proxies []struct {
			Rejected []struct {
				Name, Error string
				NextTry     time.Time `json:"next_try"`
			}
		}
		err := alpha.JSON("/isthmus/v1/proxies", &proxies)
		var list []string
		for _, p := range proxies {
			for _, r := range p.Rejected {
				list = append(list, fmt.Sprintf("%s: %s, next try in %v", r.Name, r.Error, time.Until(r.NextTry).Round(time.Second)))
			}
		}
		return list, err
	}
	l.Eventually("the listener is refused", func() error {
		list, err := refused()
		if err == nil && len(list) != 1 {
			err = fmt.Errorf("%q, want one", list)
		}
		return err
	})
	list, _ := refused()
	t.Logf("refused: %s", strings.Join(list, "; "))
	if text := alpha.CLI("proxies"); !strings.Contains(text, "again at ") {
		t.Errorf("proxies:\n%s\nwant when it is tried again", text)
	}
	occupant.Close()
	envoy.Kill()
	alpha.Envoy("sidecar-db-again", "--sidecar-for", "db")
	l.Promise("the listener is served after a restart", 5*time.Second, func() error {
		conn, err := alpha.Host.Dial(l.Context(), address)
		if err != nil {
			return err
		}
		_ = conn.Close()
		if list, err := refused(); err != nil || len(list) > 0 {
			return fmt.Errorf("refused %q: %v", list, err)
		}
		return nil
	})
}
