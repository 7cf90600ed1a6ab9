package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// A model is a mesh around one sidecar that changes at random, and the connections that come in at the sidecar.
type model struct {
	*client
	random *rand.Rand
	admits map[string][]string // by peer: who may come in; missing: the peer has no chain
	chain  map[string]string   // content by peer
	second map[string]bool     // by peer: it has a second fence
	out    map[string]string   // content of listener and cluster by upstream
	uses   map[string]string   // endpoint set by upstream
	set    map[string]string   // content by endpoint set
	open   map[connection]bool
}

// A connection came in by a chain, whose bytes it lives by.
type connection struct{ source, peer, chain string }

// TestModel does what real life does, in no order: whatever happened, in the end the proxy has what it is to have, nobody is
// connected who may not be, and the next stream has nothing to send.
func TestModel(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, Config{MaxAge: 100 * time.Hour}, func(t *testing.T, s *Server) {
				m := newModel(t, s, rand.New(rand.NewPCG(seed, 1)))
				for range 60 {
					m.step()
				}
				m.calm()
				m.check()
				m.disconnect()
			})
		})
	}
}

func newModel(t *testing.T, s *Server, random *rand.Rand) *model {
	m := &model{client: newClient(t, s), random: random, admits: map[string][]string{}, chain: map[string]string{},
		second: map[string]bool{}, out: map[string]string{}, uses: map[string]string{}, set: map[string]string{},
		open: map[connection]bool{}}
	m.ackFirst = random.IntN(2) == 0
	if random.IntN(2) == 0 { // connections that drain keep the secrets
		m.ask0(secrets, "authz~east", "authz~west")
	}
	m.publish()
	m.connect("web")
	return m
}

func (m *model) pick(list ...string) string { return list[m.random.IntN(len(list))] }

// step is one thing that happens.
func (m *model) step() {
	peer, upstream := m.pick("east", "west"), m.pick("db", "api", "x")
	switch m.random.IntN(14) {
	case 0, 1, 2:
		m.admits[peer] = nil
		for _, source := range []string{"a", "b", "c"} {
			if m.random.IntN(2) == 0 {
				m.admits[peer] = append(m.admits[peer], source)
			}
		}
	case 3:
		delete(m.admits, peer)
	case 4:
		m.chain[peer] = m.pick("1", "2", "broken")
	case 5:
		m.second[peer] = !m.second[peer]
	case 6:
		m.out[upstream], m.uses[upstream] = m.pick("1", "2", "broken"), m.pick("svc~1", "svc~2", "")
	case 7:
		delete(m.out, upstream)
	case 8:
		name := m.pick("svc~1", "svc~2")
		m.set[name] = m.pick("1", "2", "3", "broken")
		m.server.SetEndpoints(cla(name, m.set[name]))
	case 9:
		k := kind(m.random.IntN(int(kinds)))
		m.mute = func(other kind, _ *discoveryv3.DeltaDiscoveryResponse) bool { return other == k }
	case 10:
		m.catchUp()
	case 11:
		m.disconnect()
		m.mute, m.muted = nil, nil
		m.connect("web")
	case 12:
		m.calm() // a server that goes away in the middle of a revocation is beyond what the next one can know
		m.replaceServer()
	case 13:
		wait(time.Duration(m.random.IntN(4000)) * time.Millisecond)
	}
	m.reject = bad("broken")
	m.publish()
	if m.random.IntN(3) > 0 {
		m.run()
	}
}

// run settles, and lets those connect who may.
func (m *model) run() {
	select {
	case err := <-m.ended: // the watchdog, after too long a silence
		m.ended <- err
		m.mute, m.muted = nil, nil
		m.connect("web")
	default:
	}
	for {
		synctest.Wait()
		if m.wire.pending() == 0 {
			return
		}
		m.answer(m.wire.receive())
		m.traffic()
	}
}

// catchUp answers what was left without an answer.
func (m *model) catchUp() {
	m.mute = nil
	muted := m.muted
	m.muted = nil
	for _, r := range muted {
		m.finish(r)
		m.traffic()
	}
}

// traffic ends the connections whose chain is not what it was, and opens one from everybody who is admitted.
func (m *model) traffic() {
	bytes := map[string]string{}
	l := &listenerv3.Listener{}
	if err := proto.Unmarshal(m.body["LDS in"], l); err != nil {
		m.t.Fatal(err)
	}
	for _, fc := range l.FilterChains {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(fc)
		if err != nil {
			m.t.Fatal(err)
		}
		bytes[strings.TrimPrefix(fc.Name, "peer~")] = string(b)
	}
	maps.DeleteFunc(m.open, func(c connection, _ bool) bool { return bytes[c.peer] != c.chain })
	for peer, chain := range bytes {
		admitted, _ := strings.CutPrefix(string(m.body["SDS authz~"+peer]), "admits ")
		for _, source := range strings.Fields(admitted) {
			m.open[connection{source, peer, chain}] = true
		}
	}
}

// target is what the sidecar is to have now.
func (m *model) target() *envoy.Set {
	set := &envoy.Set{Proxy: "web"}
	var inbound []*envoy.Chain
	for _, peer := range sorted(m.admits) {
		secret := "authz~" + peer
		set.Secrets = append(set.Secrets, authz(secret, slices.Clone(m.admits[peer])...))
		var fence []string
		if m.second[peer] {
			fence = []string{"rbac~" + peer}
			set.Extensions = append(set.Extensions, res(extensions, fence[0], strings.Join(m.admits[peer], " ")))
		}
		inbound = append(inbound, chain("peer~"+peer, m.chain[peer], secret, fence...))
	}
	set.Listeners = append(set.Listeners, listener("in", "1", inbound...))
	for _, name := range sorted(m.out) {
		set.Clusters = append(set.Clusters, cluster("out~"+name, m.out[name], m.uses[name]))
		set.Listeners = append(set.Listeners, listener("out~"+name, m.out[name]))
	}
	return set
}

func (m *model) publish() { m.server.SetProxy(m.target()) }

// calm ends all that is wrong, and waits until nothing happens any more.
func (m *model) calm() {
	for peer := range m.chain {
		m.chain[peer] = "1"
	}
	for name := range m.out {
		m.out[name] = "1"
	}
	for name := range m.set {
		m.set[name] = "1"
		m.server.SetEndpoints(cla(name, "1"))
	}
	m.catchUp()
	m.publish()
	for range 40 {
		m.run()
		wait(time.Second)
	}
	m.run()
}

func (m *model) replaceServer() {
	m.disconnect()
	m.server = newServer(Config{MaxAge: 100 * time.Hour})
	for name, content := range m.set {
		m.server.SetEndpoints(cla(name, content))
	}
	m.publish()
	m.log = nil
	m.connect("web")
	m.run()
	m.expectNothing("a new server")
}

func (m *model) check() {
	m.t.Helper()
	target := m.target()
	expectNames(m.t, "clusters", sorted(m.have[clusters]), len(target.Clusters))
	expectNames(m.t, "listeners", sorted(m.have[listeners]), len(target.Listeners))
	for _, list := range [][]*envoy.Resource{target.Clusters, target.Secrets, target.Extensions} {
		for _, r := range list {
			if got := m.body[short[r.TypeURL]+" "+r.Name]; string(got) != string(r.Body) {
				m.t.Errorf("%s: %q, want %q", r.Name, got, r.Body)
			}
		}
	}
	for _, l := range target.Listeners {
		var want []string
		for _, c := range l.Chains {
			want = append(want, c.Name)
		}
		var got []string
		for _, field := range strings.Fields(m.chainsOf(l.Name)) {
			name, _, _ := strings.Cut(field, "=")
			got = append(got, name)
		}
		if !slices.Equal(got, want) {
			m.t.Errorf("chains of %s: %q, want %q", l.Name, got, want)
		}
	}
	for name := range m.names[endpoints] {
		if content, set := m.set[name]; set && string(m.body["EDS "+name]) != name+" "+content {
			m.t.Errorf("endpoints %s: %q, want %q", name, m.body["EDS "+name], content)
		}
	}
	m.traffic()
	for c := range m.open {
		if !slices.Contains(m.admits[c.peer], c.source) {
			m.t.Errorf("%s of %s is connected, and may not be", c.source, c.peer)
		}
	}
	m.disconnect()
	m.log = nil
	m.connect("web")
	m.run()
	m.expectNothing("the next stream")
}

func expectNames(t *testing.T, what string, got []string, want int) {
	t.Helper()
	if len(got) != want {
		t.Errorf("%s: %q, want %d", what, got, want)
	}
}

// expectNothing allows the answer to a proxy that has nothing of a type and asks whether there is something.
func (m *model) expectNothing(who string) {
	m.t.Helper()
	for _, line := range m.log {
		if strings.Contains(line, " ") && !strings.Contains(line, "authz~") {
			m.t.Errorf("%s sent %q, want nothing", who, m.log)
			return
		}
	}
}
