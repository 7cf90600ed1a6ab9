package snapshot

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
)

func TestPolicyIsFieldByField(t *testing.T) {
	strict := []config.AddressRule{{Prefix: netip.MustParsePrefix("10.0.0.0/31")}}
	open := []config.AddressRule{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}
	all := config.PeerPolicy{
		Name: config.Wildcard, Accept: []string{"billing"}, AllowAddresses: strict, MaxStale: time.Hour,
		Quotas: config.Quotas{Services: 1, Instances: 2, UpdatesPerSecond: 3}, Meta: map[string]string{"by": "us"},
	}
	for _, test := range []struct {
		name string
		own  *config.PeerPolicy
		want config.PeerPolicy
	}{
		{"nothing of its own", nil, config.PeerPolicy{
			Name: config.Wildcard, Accept: all.Accept, AllowAddresses: strict, MaxStale: time.Hour, Quotas: all.Quotas,
		}},
		{"one unrelated line", &config.PeerPolicy{Name: "east", MaxStale: time.Minute, Quotas: config.Quotas{Instances: 9}}, config.PeerPolicy{
			Name: config.Wildcard, Accept: all.Accept, AllowAddresses: strict, MaxStale: time.Minute,
			Quotas: config.Quotas{Services: 1, Instances: 9, UpdatesPerSecond: 3},
		}},
		{"services and addresses", &config.PeerPolicy{Name: "east", Accept: []string{"mail"}, AllowAddresses: open}, config.PeerPolicy{
			Name: "east", Accept: []string{"mail"}, AllowAddresses: open, MaxStale: time.Hour, Quotas: all.Quotas,
		}},
	} {
		changes := []Event{entry(&all)}
		if test.own != nil {
			changes = append(changes, entry(test.own))
		}
		if got := Policy(worldOf(changes...), "east"); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
	if got := Policy(worldOf(entry(&config.PeerPolicy{Name: "west", MaxStale: time.Hour})), "east"); !reflect.DeepEqual(got, config.PeerPolicy{}) {
		t.Errorf("the policy of another peer: %+v", got)
	}
}

// A line for one peer takes nothing back of what holds for all, in what is dialled either.
func TestPolicyOfAllStays(t *testing.T) {
	f := mesh()
	f.apply(false, entry(&config.PeerPolicy{Name: config.Wildcard, Accept: []string{"mail"}}),
		entry(&config.PeerPolicy{Name: "east", MaxStale: time.Hour}))
	if view := f.sidecar("web-1"); len(view.Upstreams) != 0 {
		t.Errorf("served: %v", view.Upstreams)
	}
	f.apply(false, entry(&config.PeerPolicy{Name: config.Wildcard, Accept: []string{"billing"}}))
	if view := f.sidecar("web-1"); len(view.Upstreams) != 1 {
		t.Errorf("left out: %v", view.Skipped)
	}
}
