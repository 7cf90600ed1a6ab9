package xds

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// bad refuses every resource whose body holds the text.
func bad(text string) func(kind, string, []byte) string {
	return func(_ kind, _ string, body []byte) string {
		if strings.Contains(string(body), text) {
			return "contains " + text
		}
		return ""
	}
}

// quarantined returns what a proxy is never sent again, as "CDS name chain (origin)".
func quarantined(s *Server, proxy string) string {
	var list []string
	for _, status := range s.Proxies() {
		if status.ID != proxy {
			continue
		}
		for _, r := range status.Rejected {
			list = append(list, fmt.Sprintf("%s %s (%s %s): %s", short[r.TypeURL],
				strings.TrimSpace(r.Name+" "+r.Chain), r.Origin.Kind, r.Origin.Name, r.Text))
		}
	}
	return strings.Join(list, "\n")
}

func many(n int, broken ...int) *envoy.Set {
	set := &envoy.Set{Proxy: "gw"}
	for i := range n {
		content := "fine"
		for _, b := range broken {
			if b == i {
				content = "broken"
			}
		}
		set.Clusters = append(set.Clusters, cluster(fmt.Sprintf("c%02d", i), content, ""))
	}
	return set
}

// One bad cluster among many: the others are served, it alone is found, and never sent again.
func TestBadCluster(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		s.SetProxy(many(16, 11))
		c := newClient(t, s)
		c.reject = bad("broken")
		c.connect("gw")
		c.settle()
		responses := 0
		for range 20 {
			wait(trialPause)
			c.settle()
		}
		for _, line := range c.log {
			if strings.Contains(line, "+c11") {
				responses++
			}
		}
		if got := len(c.have[clusters]); got != 15 {
			t.Errorf("%d clusters, want the 15 good ones", got)
		}
		if responses != 6 { // all, all again, 8, 4, 2, 1: found by halves
			t.Errorf("sent %d times, want 6: %q", responses, c.log)
		}
		if got, want := quarantined(s, "gw"), "CDS c11 (test c11): c11: contains broken"; got != want {
			t.Errorf("quarantined: %s, want %s", got, want)
		}
		c.log = nil
		wait(firstRetry / 2)
		c.expect("")
		c.disconnect()
		c.connect("gw")
		c.expect("LDS") // it has none, and asks whether there are
		s.SetProxy(many(16))
		c.settle()
		if got := len(c.have[clusters]); got != 16 || quarantined(s, "gw") != "" {
			t.Errorf("%d clusters, quarantined %q: want all 16 after the fix", got, quarantined(s, "gw"))
		}
		c.disconnect()
	})
}

// What one proxy rejects is not kept from another.
func TestRejectionStaysWithItsProxy(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, sidecar("web"))
		c.reject = bad("2")
		api := connected(t, s, sidecar("api"))
		s.SetEndpoints(cla("svc~db", "2"))
		c.settle()
		api.expect("EDS +svc~db")
		wait(trialPause)
		c.settle()
		if quarantined(s, "web") == "" || quarantined(s, "api") != "" {
			t.Errorf("quarantined: web %q, api %q", quarantined(s, "web"), quarantined(s, "api"))
		}
		if got := string(c.body["EDS svc~db"]); got != "svc~db 1" {
			t.Errorf("endpoints: %q, want the last good ones", got)
		}
		c.log = nil
		s.SetEndpoints(cla("svc~db", "3"))
		c.expect("EDS +svc~db")
		if got := quarantined(s, "web"); got != "" {
			t.Errorf("quarantined: %q after the endpoints were replaced", got)
		}
	})
}

func chains(set *envoy.Set, chains ...*envoy.Chain) *envoy.Set {
	set.Listeners[0] = listener("in", "1", chains...)
	return set
}

// A bad chain of a known listener: the others go on as they are, it is served as it was.
func TestBadChainKeepsLastGood(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		set := func(x, y, z string) *envoy.Set {
			return chains(sidecar("web"), chain("x", x, ""), chain("y", y, ""), chain("z", z, ""))
		}
		c := connected(t, s, set("1", "1", "1"))
		c.reject = bad("broken")
		s.SetProxy(set("2", "broken", "1"))
		c.expect("LDS +in")
		wait(trialPause)
		c.expect("LDS +in") // x and y again
		wait(trialPause)
		c.expect("LDS +in", "LDS +in") // x passes, y fails alone
		c.expectChains("in", "x y z")
		body := string(c.body["LDS in"])
		if !strings.Contains(body, "2") || strings.Contains(body, "broken") {
			t.Errorf("listener %q: want the new x and the old y", body)
		}
		if got, want := quarantined(s, "web"), "LDS in y (chain y): in: contains broken"; got != want {
			t.Errorf("quarantined: %s, want %s", got, want)
		}
		s.SetProxy(set("3", "broken", "1"))
		c.expect("LDS +in")
		if body := string(c.body["LDS in"]); !strings.Contains(body, "3") {
			t.Errorf("listener %q: want the next x", body)
		}
		wait(firstRetry / 2)
		c.expect("")
	})
}

// A listener that is new comes up without its bad chain.
func TestBadChainOfNewListener(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		s.SetEndpoints(cla("svc~db", "1"))
		s.SetProxy(chains(sidecar("web"), chain("x", "1", ""), chain("y", "broken", ""), chain("z", "1", "")))
		c := newClient(t, s)
		c.reject = bad("broken")
		c.connect("web")
		for range 10 {
			c.settle()
			wait(trialPause)
		}
		c.settle()
		c.expectChains("in", "x z")
		c.expectChains("out~db", "")
		if got, want := quarantined(s, "web"), "LDS in y (chain y): in: contains broken"; got != want {
			t.Errorf("quarantined: %s, want %s", got, want)
		}
		c.disconnect()
		c.log = nil
		c.connect("web")
		c.expect("")
		c.disconnect()
	})
}

// A listener that is bad in itself stays as it was, or is not there.
func TestBadListener(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, sidecar("web"))
		c.reject = bad("broken")
		s.SetProxy(sidecar("web", func(set *envoy.Set) {
			set.Listeners[1] = listener("out~db", "broken")
			set.Listeners = append(set.Listeners, listener("out~x", "broken"), listener("out~y", "1"))
		}))
		c.expect("LDS +out~db", "LDS +out~x", "LDS +out~y")
		for range 5 {
			wait(trialPause)
			c.settle()
		}
		c.expect("LDS +out~db", "LDS +out~x")
		if got := strings.Count(quarantined(s, "web"), "\n"); got != 1 {
			t.Errorf("quarantined: %q, want both", quarantined(s, "web"))
		}
		wait(firstRetry / 2)
		c.expect("")
		status := s.Proxies()[0].Types[listeners]
		if status.State != Stale || status.Rejection == nil || status.Rejection.Origin.Kind != "listener" {
			t.Errorf("status %+v: want stale, with the rejection on its origin", status)
		}
	})
}

// A proxy may have applied what it rejected, and does not report it. Such a listener is removed explicitly.
func TestOrphansAreRemoved(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, sidecar("web"))
		c.reject = func(_ kind, name string, _ []byte) string { return map[string]string{"out~x": "no"}[name] }
		s.SetProxy(sidecar("web", func(set *envoy.Set) { set.Listeners = append(set.Listeners, listener("out~x", "1")) }))
		c.expect("LDS +out~x")
		c.disconnect()
		c.connect("web")
		c.expect("LDS +out~x")
		c.disconnect()
		s.SetProxy(sidecar("web"))
		c.connect("web")
		c.expect("LDS -out~x")
		c.disconnect()
		c.connect("web")
		c.expect("")
	})
}

// Listeners that only lose chains are not sent in a loop when the proxy rejects that.
func TestRejectedRemovalOfChain(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, chains(sidecar("web"), chain("x", "1", ""), chain("y", "1", "")))
		c.reject = func(k kind, name string, _ []byte) string { return map[string]string{"in": "no"}[name] }
		s.SetProxy(chains(sidecar("web"), chain("x", "1", "")))
		c.expect("LDS +in")
		wait(2 * trialPause)
		c.expect("LDS +in")
		wait(firstRetry / 2)
		c.expect("")
	})
}

// A rejected update holds up nothing that comes after it.
func TestOthersPassWhileSuspectsWait(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := connected(t, s, many(4))
		c.reject = bad("broken")
		s.SetProxy(many(4, 2))
		c.expect("CDS +c02")
		set := many(5, 2)
		s.SetProxy(set)
		c.expect("CDS +c04")
		synctest.Wait()
		wait(trialPause)
		c.expect("CDS +c02")
	})
}
