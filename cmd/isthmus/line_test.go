package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	bootstrap "github.com/isthmus-mesh/isthmus/envoy-bootstrap"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// onLine runs a line whose steps change makes, and returns it with a function that publishes the next World.
func onLine(t *testing.T, change func(*line)) (*line, func()) {
	publisher := snapshot.NewPublisher(snapshot.NewWorld())
	l := newLine(publisher, xds.New(xds.Config{Log: quiet()}), quiet(), prometheus.NewRegistry())
	l.shapes = []shape{{1, func(view snapshot.View) (*envoy.Set, error) { return &envoy.Set{Proxy: string(view.ProxyID())}, nil }}}
	change(l)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	synctest.Wait()
	return l, func() {
		publisher.Publish(snapshot.NewWorld(), nil)
		synctest.Wait()
	}
}

// delta has a view of each id, and a set of each name.
func delta(ids, sets string) snapshot.Delta {
	d := snapshot.Delta{Views: map[snapshot.ProxyID]snapshot.View{}, Endpoints: map[string]*snapshot.EndpointSet{}}
	for id := range strings.FieldsSeq(ids) {
		d.Views[snapshot.ProxyID(id)] = &snapshot.Sidecar{ID: snapshot.ProxyID(id)}
	}
	for name := range strings.FieldsSeq(sets) {
		d.Endpoints[name] = &snapshot.EndpointSet{Name: name}
	}
	return d
}

// served lists the proxies that xds has a view of.
func served(l *line) string {
	var ids []string
	for _, p := range l.server.Proxies() {
		ids = append(ids, p.ID)
	}
	return strings.Join(ids, " ")
}

// One proxy or set that makes its translator panic or fail stays as it was; the others are served, and the problem is shown
// until it is over.
func TestLineLeavesOutTheOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := true
		l, next := onLine(t, func(l *line) {
			l.derive = func(*snapshot.Views, snapshot.Update) snapshot.Delta { return delta("a b c", "x y") }
			l.shapes[0].resources = func(view snapshot.View) (*envoy.Set, error) {
				switch id := string(view.ProxyID()); {
				case broken && id == "b":
					panic("no such index")
				case broken && id == "c":
					return nil, errors.New("not valid")
				default:
					return &envoy.Set{Proxy: id}, nil
				}
			}
			l.resource = func(set *snapshot.EndpointSet) *envoy.Resource {
				if broken && set.Name == "x" {
					panic("no name")
				}
				return &envoy.Resource{Name: set.Name, Version: "1"}
			}
		})
		if got := served(l); got != "a" {
			t.Errorf("served: %q, want a", got)
		}
		got := l.Problems()
		want := []string{"endpoints x: stays as it was: panic: no name", "proxy b: stays as it was: panic: no such index", "proxy c: stays as it was: not valid"}
		if len(got) != len(want) {
			t.Fatalf("problems: %q, want %q", got, want)
		}
		for i := range want {
			if !strings.HasPrefix(got[i], want[i]) {
				t.Errorf("problem %q, want %q…", got[i], want[i])
			}
		}
		broken = false
		next()
		if got := served(l); got != "a b c" || len(l.Problems()) > 0 {
			t.Errorf("served: %q, problems %q: want a b c and none", got, l.Problems())
		}
	})
}

// A second shape is made beside the first, by the same view; each set says which it is.
func TestTwoShapes(t *testing.T) {
	made := func(name string) func(snapshot.View) (*envoy.Set, error) {
		return func(view snapshot.View) (*envoy.Set, error) {
			return &envoy.Set{Proxy: string(view.ProxyID()), Listeners: []*envoy.Listener{{Name: name}}}, nil
		}
	}
	sets, err := translate(&snapshot.Sidecar{ID: "web"}, []shape{{1, made("in")}, {2, made("in-of-two")}})
	if err != nil || len(sets) != 2 || sets[0].Schema != 1 || sets[1].Schema != 2 || sets[1].Listeners[0].Name != "in-of-two" {
		t.Errorf("sets %+v, %v", sets, err)
	}
	for _, c := range []struct {
		noted, want string
		served      int
	}{{"1", "", 1}, {"", "", 1}, {"2", "asks for config_schema 2, and this server knows 1 at most", 1}, {"1", "not served any more: it is served 2", 2}} {
		status := xds.ProxyStatus{Connected: time.Now(), View: true, DrainSeconds: 8, Envoy: "1.40.0", ConfigSchema: c.noted, ServedSchema: c.served}
		if got := strings.Join(apiProxy(status).Warnings, "\n"); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("schema %q, served %d: warnings %q, want %q", c.noted, c.served, got, c.want)
		}
	}
}

// TestNewestShapeIsBootstrapped: what new bootstraps note is served, and nothing newer is made.
func TestNewestShapeIsBootstrapped(t *testing.T) {
	if newest := shapes[len(shapes)-1].schema; newest != bootstrap.ConfigSchema {
		t.Errorf("newest shape %d, bootstraps note %d", newest, bootstrap.ConfigSchema)
	}
}

// Views that panic are replaced by new ones of the same World; what is gone meanwhile goes.
func TestLineDerivesAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls []string
		panics := 0
		after := delta("a b", "x y")
		l, next := onLine(t, func(l *line) {
			l.derive = func(_ *snapshot.Views, update snapshot.Update) snapshot.Delta {
				calls = append(calls, map[bool]string{true: "all", false: "changed"}[update.All])
				if panics > 0 {
					panics--
					panic("a peer's words")
				}
				return after
			}
		})
		after, panics = delta("a", "x"), 1
		next()
		if got, want := strings.Join(calls, " "), "all changed all"; got != want {
			t.Errorf("derived: %s, want %s", got, want)
		}
		if _, kept := l.endpoints["y"]; served(l) != "a" || !kept || len(l.Problems()) > 0 {
			t.Errorf("served %q, problems %q: want a and none", served(l), l.Problems())
		}
		calls, panics = nil, 3
		next()
		if got := l.Problems(); len(got) != 1 || !strings.Contains(got[0], "a peer's words") || served(l) != "a" {
			t.Errorf("served %q, problems %q: want a, as it was, and one", served(l), got)
		}
		next()
		next()
		if got, want := strings.Join(calls, " "), "changed all all all"; got != want {
			t.Errorf("derived: %s, want %s: once for each World, from nothing", got, want)
		}
		if got := l.Problems(); len(got) > 0 {
			t.Errorf("problems %q after it went well", got)
		}
	})
}

// The gateway addresses of a peer that are not dialled are counted, and what else a set leaves out is a problem.
func TestLineShowsWhatSetsLeaveOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peers := delta("", "gw~east svc~db~default")
		refused := snapshot.Skipped{Origin: snapshot.Origin{Kind: "peering", Name: "east", Peer: "east"}, Reason: "gateway address 127.0.0.1:1: is loopback"}
		peers.Endpoints["gw~east"].Skipped = []snapshot.Skipped{refused, refused}
		peers.Endpoints["svc~db~default"].Skipped = []snapshot.Skipped{{
			Origin: snapshot.Origin{Kind: "service", Name: "db"}, Reason: `db-1: address "nowhere": is no IP address and did not resolve`,
		}}
		l, next := onLine(t, func(l *line) {
			l.derive = func(*snapshot.Views, snapshot.Update) snapshot.Delta { return peers }
		})
		if got, want := strings.Join(l.Problems(), "\n"), `service db: nobody is sent to db-1: address "nowhere": is no IP address and did not resolve`; got != want {
			t.Errorf("problems: %s, want %s", got, want)
		}
		if got := gauge(l.remarks.refused); got != "east=2" {
			t.Errorf("metric: %q, want east=2", got)
		}
		peers = delta("", "gw~east svc~db~default")
		next()
		if got := gauge(l.remarks.refused); got != "" || len(l.Problems()) > 0 {
			t.Errorf("metric: %q, problems %q: want none", got, l.Problems())
		}
	})
}

// gauge returns a vector's values by their only label.
func gauge(vector *prometheus.GaugeVec) string {
	metrics := make(chan prometheus.Metric, 10)
	vector.Collect(metrics)
	close(metrics)
	var list []string
	for metric := range metrics {
		var m dto.Metric
		if err := metric.Write(&m); err != nil {
			panic(err)
		}
		list = append(list, m.GetLabel()[0].GetValue()+"="+strings.TrimSuffix(m.GetGauge().String(), " ")[len("value:"):])
	}
	return strings.Join(list, " ")
}
