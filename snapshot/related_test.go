package snapshot

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/config"
)

// Blocking queries ask when something last changed, deletions included: each question has its own index.
func TestModifiedFollowsWhatWasAsked(t *testing.T) {
	web := &Instance{Node: "n1", Service: &config.Service{ID: "web", Name: "web"}}
	proxy := &Instance{Node: "n1", Service: &config.Service{
		ID: "web-proxy", Name: "web-proxy", Kind: config.KindSidecar, Proxy: &config.Proxy{DestinationServiceName: "web"},
	}}
	check := &Check{Node: "n1", ServiceID: "web", CheckID: "c"}
	proxyKey := NewKey(TableInstances, "web-proxy", "n1", "web-proxy")
	w := NewWorld().
		With(10, []Event{{Key: NewKey(TableInstances, "web", "n1", "web"), Object: web}}).
		With(20, []Event{{Key: proxyKey, Object: proxy}}).
		With(30, []Event{{Key: NewKey(TableChecks, "n1", "web", "c"), Object: check}})

	for _, test := range []struct {
		what      string
		got, want uint64
	}{
		{"instances of web", w.Modified(TableInstances, "web"), 10},
		{"proxies of web", w.ProxiesModified("web"), 20},
		{"instances on n1", w.NodeModified("n1"), 20},
		{"checks of web", w.Modified(TableChecks, "n1", "web"), 30},
		{"checks of the proxy", w.Modified(TableChecks, "n1", "web-proxy"), 0},
		{"proxies of db", w.ProxiesModified("db"), 0},
		{"proxies of web, the last one gone", w.With(40, []Event{{Key: proxyKey}}).ProxiesModified("web"), 40},
	} {
		if test.got != test.want {
			t.Errorf("%s: index %d: want %d", test.what, test.got, test.want)
		}
	}
	if n := len(w.OnNode("n1")); n != 2 {
		t.Errorf("%d instances on n1: want 2", n)
	}
	if n := len(w.ChecksOn("n1")); n != 1 {
		t.Errorf("%d checks on n1: want 1", n)
	}
}
