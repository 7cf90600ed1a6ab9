package health

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lab is a Health on a real store, in a bubble of its own time, with made-up answers to probes and look-ups.
type lab struct {
	*testing.T
	store *state.Store
	log   *logtest.Hook

	mu      sync.Mutex
	well    map[string]result // check ID → what a probe finds
	probes  map[string]int
	lookups map[string]int
	dns     map[string][]netip.Addr
	dnsErr  error
	slowly  time.Duration
	most    int
	running int
}

// inLab runs test with a Health at work.
func inLab(t *testing.T, before func(*lab), test func(*lab, *Health)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store, err := state.Open(state.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		logger, hook := logtest.NewNullLogger()
		logger.SetLevel(logrus.DebugLevel)
		l := &lab{
			T: t, store: store, log: hook, well: map[string]result{}, probes: map[string]int{}, lookups: map[string]int{},
			dns: map[string][]netip.Addr{},
		}
		h, err := New(Config{Publisher: store.Publisher(), Store: store, Log: logger, Resolve: l.resolve, Concurrency: 4})
		if err != nil {
			t.Fatal(err)
		}
		h.probe = l.probe
		l.commit(snapshot.Event{Key: snapshot.NewKey(snapshot.TableCluster), Object: &snapshot.Cluster{NodeName: "own"}})
		if before != nil {
			before(l)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- h.Run(ctx) }()
		synctest.Wait()
		test(l, h)
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("Run = %v", err)
		}
	})
}

func (l *lab) probe(ctx context.Context, check *snapshot.Check) result {
	l.mu.Lock()
	l.running++
	l.most = max(l.most, l.running)
	l.probes[check.CheckID]++
	found, slowly := l.well[check.CheckID], l.slowly
	l.mu.Unlock()
	if slowly > 0 {
		select {
		case <-time.After(slowly):
		case <-ctx.Done():
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
	return found
}

func (l *lab) resolve(_ context.Context, host string) ([]netip.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lookups[host]++
	return append([]netip.Addr(nil), l.dns[host]...), l.dnsErr
}

// answer sets what probes of a check find from now on.
func (l *lab) answer(checkID, status, output string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.well[checkID] = result{status, output}
}

func (l *lab) commit(events ...snapshot.Event) {
	l.Helper()
	if _, err := l.store.Commit(l.Context(), events...); err != nil {
		l.Fatal(err)
	}
}

// probed returns how often a check was probed, and lookedUp a name.
func (l *lab) probed(checkID string) int { l.mu.Lock(); defer l.mu.Unlock(); return l.probes[checkID] }
func (l *lab) lookedUp(host string) int  { l.mu.Lock(); defer l.mu.Unlock(); return l.lookups[host] }

// pass lets time go by, and all that it brings about come to rest.
func (l *lab) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (l *lab) check(serviceID, checkID string) *snapshot.Check {
	return find(l.store.World(), "own", serviceID, checkID)
}

func (l *lab) wantStatus(serviceID, checkID, want string) {
	l.Helper()
	got := "gone"
	if c := l.check(serviceID, checkID); c != nil {
		got = c.Status
	}
	if got != want {
		l.Errorf("check %s of %s is %s: want %s", checkID, serviceID, got, want)
	}
}

func instance(s *config.Service) snapshot.Event {
	i := &snapshot.Instance{Node: "own", NodeAddress: "10.0.0.1", Service: s}
	return snapshot.Event{Key: snapshot.NewKey(snapshot.TableInstances, s.Name, "own", s.ID), Object: i}
}

func typical(id string) snapshot.Event { return instance(&config.Service{ID: id, Name: id, Port: 80}) }

func checkOf(serviceID, checkID string, d config.CheckDefinition) snapshot.Event {
	c := &snapshot.Check{Node: "own", ServiceID: serviceID, ServiceName: serviceID, CheckID: checkID, Name: checkID, Status: config.HealthCritical, Definition: d}
	return snapshot.Event{Key: snapshot.NewKey(snapshot.TableChecks, "own", serviceID, checkID), Object: c}
}

func withStatus(e snapshot.Event, status, output string) snapshot.Event {
	c := *e.Object.(*snapshot.Check)
	c.Status, c.Output = status, output
	return snapshot.Event{Key: e.Key, Object: &c}
}

func gone(e snapshot.Event) snapshot.Event { return snapshot.Event{Key: e.Key} }
