package xds

import (
	"fmt"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// inUse refuses a listener as an Envoy does whose port something else has.
func inUse(used *bool) func(kind, string, []byte) string {
	return func(k kind, name string, _ []byte) string {
		if k == listeners && name == "in" && *used {
			return "cannot bind '0.0.0.0:21000': Address already in use"
		}
		return ""
	}
}

// refused is a proxy whose new listener is in quarantine, since its port is used.
func refused(t *testing.T, s *Server, used *bool) *client {
	s.SetEndpoints(cla("svc~db", "1"))
	s.SetProxy(sidecar("web"))
	c := newClient(t, s)
	c.reject = inUse(used)
	c.connect("web")
	for range 5 {
		c.settle()
		wait(trialPause)
	}
	c.settle()
	if got, want := quarantined(s, "web"), "LDS in (listener in): in: cannot bind '0.0.0.0:21000': Address already in use"; got != want {
		t.Fatalf("quarantined: %q, want %q", got, want)
	}
	c.log = nil
	return c
}

// What was refused is tried again, alone, at pauses that grow to an hour; when its cause has passed it is served.
func TestRefusedIsTriedAgain(t *testing.T) {
	inBubble(t, Config{MaxAge: 100 * time.Hour}, func(t *testing.T, s *Server) {
		used := true
		c := refused(t, s, &used)
		pause := firstRetry
		for try := 1; try <= 9; try++ {
			r := s.Proxies()[0].Rejected[0]
			if left := r.NextTry.Sub(r.At); r.Tries != try || left < pause || left > pause+pause/8 {
				t.Errorf("try %d is noted as %d, the next after %v: want after %v and at most an eighth more", try, r.Tries, left, pause)
			}
			wait(time.Until(r.NextTry) - time.Second)
			c.expect("")
			wait(time.Second)
			c.expect("LDS +in")
			c.expectChains("in", "no listener")
			pause = min(2*pause, time.Hour)
		}
		used = false
		wait(time.Until(s.Proxies()[0].Rejected[0].NextTry))
		c.expect("LDS +in", "LDS +in", "SDS +authz~east") // its shell, then all of it
		c.expectChains("in", "peer~east=0")
		status := s.Proxies()[0]
		if len(status.Rejected) != 0 || status.Types[listeners].Rejection != nil || status.Types[listeners].State != Synced {
			t.Errorf("after it was taken: %+v", status)
		}
	})
}

// Another Envoy than the one that refused starts without its quarantine, and one that connects again does not.
func TestNewEnvoyStartsWithoutQuarantine(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		used := true
		c := refused(t, s, &used)
		c.disconnect()
		c.connect("web")
		c.expect("")
		c.disconnect()
		used = false
		again := newClient(t, s)
		again.connect("web")
		again.settle()
		wait(patience) // for secrets that it might report: nobody can tell that it has nothing
		again.settle()
		again.expectChains("in", "peer~east=0")
		if got := quarantined(s, "web"); got != "" {
			t.Errorf("quarantined: %s", got)
		}
		again.disconnect()
	})
}

// A try that the end of a stream interrupted takes place on the next.
func TestInterruptedTry(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		used := true
		c := refused(t, s, &used)
		c.mute = func(k kind, _ *discoveryv3.DeltaDiscoveryResponse) bool { return k == listeners }
		wait(firstRetry + firstRetry/8)
		c.expect("LDS +in")
		c.disconnect()
		if got := quarantined(s, "web"); !strings.Contains(got, "LDS in ") {
			t.Errorf("quarantined: %q, want the listener", got)
		}
		c.mute, used = nil, false
		c.connect("web")
		c.settle()
		wait(patience)
		c.settle()
		c.expectChains("in", "peer~east=0")
		if got := quarantined(s, "web"); got != "" {
			t.Errorf("quarantined: %s", got)
		}
		c.disconnect()
	})
}

// Many that were refused are tried one at a time.
func TestManyRefusedAreTriedOneByOne(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		s.SetProxy(many(8, 1, 3, 5))
		c := newClient(t, s)
		c.reject = bad("broken")
		c.connect("gw")
		for range 30 {
			wait(trialPause)
			c.settle()
		}
		if got := strings.Count(quarantined(s, "gw"), "CDS"); got != 3 {
			t.Fatalf("quarantined: %q, want three", quarantined(s, "gw"))
		}
		c.reject, c.log = nil, nil
		for range 60 {
			wait(trialPause)
			c.settle()
		}
		got := strings.Join(c.log, "\n")
		for _, i := range []int{1, 3, 5} {
			if want := fmt.Sprintf("CDS +c%02d", i); !strings.Contains(got+"\n", want+"\n") {
				t.Errorf("received:\n%s\nwant %s alone", got, want)
			}
		}
		if got := quarantined(s, "gw"); got != "" || len(c.have[clusters]) != 8 {
			t.Errorf("quarantined %q, %d clusters: want none and 8", got, len(c.have[clusters]))
		}
		c.disconnect()
	})
}
