package health

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

func (l *lab) wantName(host string, want ...string) {
	l.Helper()
	var got []netip.Addr
	if resolved := l.store.World().Name(host); resolved != nil {
		got = resolved.Addresses
	}
	if !slices.Equal(got, addrs(want...)) {
		l.Errorf("%s is %v: want %v", host, got, want)
	}
}

// set changes what the resolver answers.
func (l *lab) set(err error, host string, texts ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dnsErr, l.dns[host] = err, addrs(texts...)
}

func gateway(address, wan string) snapshot.Event {
	return instance(&config.Service{
		ID: "gw", Name: "gw", Kind: config.KindMeshGateway, Address: address, Port: 8443,
		TaggedAddresses: map[string]config.Address{"wan": {Address: wan, Port: 443}, "lan": {Address: "10.1.1.1", Port: 1}},
	})
}

func imported(peer, service string, hosts ...string) snapshot.Event {
	i := &snapshot.Import{Peer: peer, Service: service}
	for _, host := range hosts {
		i.Gateways = append(i.Gateways, snapshot.ImportedInstance{Service: &config.Service{ID: host, Address: host, Port: 8443}})
	}
	return snapshot.Event{Key: snapshot.NewKey(snapshot.TableImports, peer, service), Object: i}
}

func peer(name string, state snapshot.PeerState) snapshot.Event {
	p := &snapshot.Peer{Name: name, State: state, TrustDomain: name + ".consul", Roots: []string{"root"}}
	return snapshot.Event{Key: snapshot.NewKey(snapshot.TablePeers, name), Object: p}
}

func TestNamesOfGatewaysAreResolved(t *testing.T) {
	inLab(t, func(l *lab) {
		l.set(nil, "gw.example", "2001:db8::1", "10.0.0.2", "::ffff:10.0.0.1")
		l.set(nil, "wan.example", "203.0.113.1")
		l.set(nil, "east.example", "198.51.100.1")
		l.commit(gateway("gw.example", "wan.example"), typical("plain"), peer("east", snapshot.Pending), imported("east", "db", "east.example", "198.51.100.2"))
	}, func(l *lab, h *Health) {
		l.wantName("gw.example", "10.0.0.1", "10.0.0.2", "2001:db8::1")
		l.wantName("wan.example", "203.0.113.1")
		l.wantName("east.example", "198.51.100.1")
		index := l.store.World().Index
		l.pass(100 * time.Second)
		if n := l.lookedUp("gw.example"); n < 9 || n > 12 {
			t.Errorf("%d look-ups in 100 s: want about one in 10 s", n)
		}
		if got := l.store.World().Index; got != index {
			t.Errorf("the same answers moved the World from %d to %d", index, got)
		}
		l.set(nil, "gw.example", "10.0.0.9")
		l.pass(11 * time.Second)
		l.wantName("gw.example", "10.0.0.9")
		if len(l.lookups) != 3 {
			t.Errorf("looked up %v: want names only, of gateways only", l.lookups)
		}
	})
}

func TestLastGoodAnswerStays(t *testing.T) {
	inLab(t, func(l *lab) {
		l.set(nil, "gw.example", "10.0.0.1")
		l.commit(gateway("gw.example", "203.0.113.1"))
	}, func(l *lab, h *Health) {
		l.set(errors.New("server misbehaving"), "gw.example")
		l.pass(time.Minute)
		l.wantName("gw.example", "10.0.0.1")
		if n := len(l.log.AllEntries()); n != 1 {
			t.Errorf("%d log lines for one outage: want 1", n)
		}
		l.set(nil, "gw.example") // an answer without addresses is no answer
		l.pass(time.Minute)
		l.wantName("gw.example", "10.0.0.1")
		l.set(nil, "gw.example", "10.0.0.2")
		l.pass(11 * time.Second)
		l.wantName("gw.example", "10.0.0.2")
		if last := l.log.LastEntry(); last.Message != "name resolves again" {
			t.Errorf("log %q", last.Message)
		}
	})
}

func TestNamesThatAreNoLongerNeededGo(t *testing.T) {
	inLab(t, func(l *lab) {
		l.set(nil, "gw.example", "10.0.0.1")
		l.set(nil, "east.example", "198.51.100.1")
		l.commit(gateway("gw.example", ""), peer("east", snapshot.Pending), imported("east", "db", "east.example"), imported("east", "web", "east.example"))
	}, func(l *lab, h *Health) {
		l.commit(gone(imported("east", "db")))
		l.pass(0)
		l.wantName("east.example", "198.51.100.1")
		l.commit(peer("east", snapshot.Terminated))
		l.pass(0)
		l.wantName("east.example")
		l.commit(peer("east", snapshot.Pending))
		l.pass(0)
		l.wantName("east.example", "198.51.100.1")
		l.commit(gone(peer("east", "")), gateway("10.0.0.7", ""))
		l.pass(0)
		l.wantName("east.example")
		l.wantName("gw.example")
		before := l.lookedUp("gw.example") + l.lookedUp("east.example")
		l.pass(time.Minute)
		if l.lookedUp("gw.example")+l.lookedUp("east.example") != before {
			t.Error("looked up what nobody needs")
		}
	})
}

func TestPeerCannotHaveUsLookUpEverything(t *testing.T) {
	inLab(t, func(l *lab) {
		l.commit(peer("east", snapshot.Pending))
		for i := range 200 {
			l.commit(imported("east", fmt.Sprint("s", i), fmt.Sprintf("n%03d.example", i), "bad name", "a/b", "[::1]"))
		}
	}, func(l *lab, h *Health) {
		if len(l.lookups) != maxPeerNames {
			t.Errorf("%d names: want %d", len(l.lookups), maxPeerNames)
		}
	})
}

func TestSynced(t *testing.T) {
	synced := func(h *Health) bool {
		select {
		case <-h.Synced():
			return true
		default:
			return false
		}
	}
	inLab(t, nil, func(l *lab, h *Health) {
		if !synced(h) {
			t.Error("with no names, there is nothing to wait for")
		}
	})
	inLab(t, func(l *lab) {
		l.set(errors.New("no"), "gw.example")
		l.commit(gateway("gw.example", ""))
	}, func(l *lab, h *Health) {
		if !synced(h) {
			t.Error("a failed look-up is an answer")
		}
	})
}
