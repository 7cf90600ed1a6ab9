package health

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

func TestProbeMovesTheCheckOnlyWhenItsStateChanges(t *testing.T) {
	tcp := checkOf("web", "c", config.CheckDefinition{TCP: "127.0.0.1:80", Interval: 10 * time.Second})
	inLab(t, func(l *lab) {
		l.answer("c", config.HealthPassing, "TCP connect: Success\nbody 1")
		l.commit(typical("web"), tcp)
	}, func(l *lab, h *Health) {
		l.wantStatus("web", "c", config.HealthCritical)
		l.pass(time.Second)
		l.wantStatus("web", "c", config.HealthPassing)
		index := l.store.World().Index
		l.answer("c", config.HealthPassing, "TCP connect: Success\nbody 2")
		l.pass(100 * time.Second)
		if n := l.probed("c"); n < 9 || n > 12 {
			t.Errorf("%d probes in 100 s: want about one in 10 s", n)
		}
		if got := l.store.World().Index; got != index {
			t.Errorf("the same answers moved the World from %d to %d", index, got)
		}
		l.answer("c", config.HealthCritical, "TCP connect: refused")
		l.pass(11 * time.Second)
		l.wantStatus("web", "c", config.HealthCritical)
		l.answer("c", config.HealthCritical, "TCP connect: timed out")
		l.pass(11 * time.Second)
		if got := l.check("web", "c").Output; got != "TCP connect: timed out" {
			t.Errorf("output %q: another failure must be seen", got)
		}
		l.commit(gone(tcp))
		before := l.probed("c")
		l.pass(time.Minute)
		l.wantStatus("web", "c", "gone")
		if l.probed("c") != before {
			t.Error("probed after it was deregistered")
		}
	})
}

func TestThresholds(t *testing.T) {
	inLab(t, func(l *lab) {
		l.answer("c", config.HealthPassing, "ok")
		l.commit(typical("web"), checkOf("web", "c", config.CheckDefinition{
			TCP: "x", Interval: time.Second, SuccessBeforePassing: 3, FailuresBeforeCritical: 2,
		}))
	}, func(l *lab, h *Health) {
		turned := func(want string, after int) {
			t.Helper()
			start := l.probed("c")
			for l.check("web", "c").Status != want {
				l.pass(100 * time.Millisecond)
			}
			if n := l.probed("c") - start; n != after {
				t.Errorf("%s after %d probes: want %d", want, n, after)
			}
		}
		turned(config.HealthPassing, 3)
		l.answer("c", config.HealthCritical, "no")
		turned(config.HealthCritical, 2)
	})
}

// A registration that comes in between must not be undone by the answer of an old probe.
func TestLateAnswerIsDropped(t *testing.T) {
	slow := checkOf("web", "c", config.CheckDefinition{TCP: "x", Interval: time.Hour})
	inLab(t, func(l *lab) {
		l.slowly = 5 * time.Second
		l.answer("c", config.HealthPassing, "ok")
		l.commit(typical("web"), slow)
	}, func(l *lab, h *Health) {
		l.pass(2 * time.Second)
		l.commit(gone(slow), gone(typical("web")))
		l.pass(10 * time.Second)
		l.wantStatus("web", "c", "gone")
		l.commit(typical("web"), slow)
		l.pass(2 * time.Second)
		l.commit(checkOf("web", "c", config.CheckDefinition{TCP: "y", Interval: time.Hour}))
		l.pass(3500 * time.Millisecond)
		l.wantStatus("web", "c", config.HealthCritical)
		l.pass(5 * time.Second)
		l.wantStatus("web", "c", config.HealthPassing)
	})
}

func TestProbesAreBounded(t *testing.T) {
	inLab(t, func(l *lab) {
		l.slowly = 3 * time.Second
		l.commit(typical("web"))
		for i := range 20 {
			id := fmt.Sprint("c", i)
			l.answer(id, config.HealthPassing, "ok")
			l.commit(checkOf("web", id, config.CheckDefinition{HTTP: "x", Interval: time.Second}))
		}
	}, func(l *lab, h *Health) {
		l.pass(20 * time.Second)
		if l.most != 4 {
			t.Errorf("%d probes at once: want 4", l.most)
		}
		for i := range 20 {
			l.wantStatus("web", fmt.Sprint("c", i), config.HealthPassing)
		}
	})
}

func TestTTL(t *testing.T) {
	ttl := checkOf("web", "c", config.CheckDefinition{TTL: 30 * time.Second})
	inLab(t, func(l *lab) {
		l.commit(typical("web"), withStatus(ttl, config.HealthPassing, "fine"))
	}, func(l *lab, h *Health) {
		l.pass(29 * time.Second)
		h.Heartbeat("own", "web", "c") // a report that changes nothing
		l.pass(29 * time.Second)
		l.wantStatus("web", "c", config.HealthPassing)
		l.commit(withStatus(ttl, config.HealthWarning, "so so"))
		l.pass(29 * time.Second)
		l.wantStatus("web", "c", config.HealthWarning)
		l.pass(2 * time.Second)
		l.wantStatus("web", "c", config.HealthCritical)
		if got := l.check("web", "c").Output; !strings.HasPrefix(got, "TTL expired") || !strings.HasSuffix(got, "so so") {
			t.Errorf("output %q: want why, and the last word", got)
		}
		index := l.store.World().Index
		l.pass(5 * time.Minute)
		if got := l.store.World().Index; got != index {
			t.Errorf("an expired check moved the World from %d to %d", index, got)
		}
		l.commit(withStatus(ttl, config.HealthPassing, "back"))
		l.pass(29 * time.Second)
		l.wantStatus("web", "c", config.HealthPassing)
		l.pass(2 * time.Second)
		l.wantStatus("web", "c", config.HealthCritical)
	})
}

func TestCriticalServiceIsDeregistered(t *testing.T) {
	sidecar := instance(&config.Service{
		ID: "web-sidecar-proxy", Name: "web-sidecar-proxy", Kind: config.KindSidecar, Port: 21000,
		Proxy: &config.Proxy{DestinationServiceName: "web", DestinationServiceID: "web"},
	})
	definition := config.CheckDefinition{TCP: "x", Interval: 10 * time.Second, DeregisterCriticalServiceAfter: 5 * time.Minute}
	inLab(t, func(l *lab) {
		l.answer("c", config.HealthCritical, "refused")
		l.commit(typical("web"), sidecar, checkOf("web", "c", definition), typical("other"), checkOf("other", "o", config.CheckDefinition{}),
			checkOf("web-sidecar-proxy", "alias", config.CheckDefinition{AliasService: "web"}))
	}, func(l *lab, h *Health) {
		l.pass(4 * time.Minute)
		l.answer("c", config.HealthPassing, "ok")
		l.pass(20 * time.Second)
		l.answer("c", config.HealthCritical, "refused")
		l.pass(4*time.Minute + 50*time.Second)
		if l.store.World().InstanceByID("own", "web") == nil {
			t.Fatal("deregistered too early: it was well in between")
		}
		l.pass(30 * time.Second)
		w := l.store.World()
		if left := w.OnNode("own"); len(left) != 1 || left[0].Service.ID != "other" || len(w.ChecksOn("own")) != 1 {
			t.Errorf("left: %d instances, %d checks: want those of the other service", len(left), len(w.ChecksOn("own")))
		}
		if last := l.log.LastEntry(); last == nil || !strings.HasPrefix(last.Message, "service deregistered") {
			t.Errorf("log %v: want it said", last)
		}
	})
}

func TestAlias(t *testing.T) {
	a, b := checkOf("web", "a", config.CheckDefinition{}), checkOf("web", "b", config.CheckDefinition{})
	alias := checkOf("proxy", "alias", config.CheckDefinition{AliasService: "web"})
	inLab(t, func(l *lab) { l.commit(typical("proxy"), alias) }, func(l *lab, h *Health) {
		want := func(status, output string) {
			t.Helper()
			l.pass(0)
			l.wantStatus("proxy", "alias", status)
			if got := l.check("proxy", "alias").Output; !strings.Contains(got, output) {
				t.Errorf("output %q: want %q", got, output)
			}
		}
		want(config.HealthCritical, "could not be found")
		l.commit(typical("web"))
		want(config.HealthPassing, "No checks found.")
		l.commit(withStatus(a, config.HealthPassing, ""), withStatus(b, config.HealthPassing, ""))
		want(config.HealthPassing, "All checks passing.")
		l.commit(withStatus(a, config.HealthWarning, ""))
		want(config.HealthWarning, `"a" is warning`)
		l.commit(withStatus(b, config.HealthCritical, ""))
		want(config.HealthCritical, `"b" is critical`)
		l.commit(gone(a), gone(b))
		want(config.HealthPassing, "No checks found.")
		l.commit(gone(typical("web")))
		want(config.HealthCritical, "could not be found")
	})
}

func TestChecksOfOthersAreLeftAlone(t *testing.T) {
	inLab(t, func(l *lab) {
		l.answer("far", config.HealthPassing, "ok")
		l.answer("set", config.HealthPassing, "ok")
		far := checkOf("web", "far", config.CheckDefinition{TCP: "x", TTL: time.Second})
		c := *far.Object.(*snapshot.Check)
		c.Node = "other"
		l.commit(snapshot.Event{Key: snapshot.NewKey(snapshot.TableChecks, "other", "web", "far"), Object: &c}, checkOf("", "set", config.CheckDefinition{}))
	}, func(l *lab, h *Health) {
		index := l.store.World().Index
		h.Heartbeat("own", "", "set")
		h.Heartbeat("own", "nobody", "nothing")
		l.pass(time.Hour)
		if len(l.probes) != 0 || l.store.World().Index != index {
			t.Errorf("probed %v: want neither another node's check nor one without a definition", l.probes)
		}
	})
}

func TestNewWantsAllThatItNeeds(t *testing.T) {
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "want Publisher") {
		t.Errorf("err = %v", err)
	}
}
