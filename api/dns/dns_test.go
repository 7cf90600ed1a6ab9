package dns

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/sirupsen/logrus"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// world is a cluster with two nodes, some services, and what a peer exports to it.
func world(t *testing.T) *snapshot.World {
	t.Helper()
	var events []snapshot.Event
	add := func(object any, table snapshot.Table, parts ...string) {
		events = append(events, snapshot.Event{Key: snapshot.NewKey(table, parts...), Object: object})
	}
	instance := func(node string, s config.Service, status string) {
		add(&snapshot.Instance{Node: node, NodeAddress: "10.0.0.9", Service: &s}, snapshot.TableInstances, s.Name, node, s.ID)
		add(&snapshot.Check{Node: node, ServiceID: s.ID, CheckID: "c", Status: status}, snapshot.TableChecks, node, s.ID, "c")
	}
	add(&snapshot.Cluster{Datacenter: "dc1", NodeName: "n1"}, snapshot.TableCluster)
	add(&snapshot.Node{Name: "n1", Address: "10.0.0.1"}, snapshot.TableNodes, "n1")
	instance("n1", config.Service{ID: "web-1", Name: "web", Port: 80, Tags: []string{"v1"}}, config.HealthPassing)
	instance("n2", config.Service{ID: "web-2", Name: "web", Port: 81, Address: "10.0.0.2", Weights: config.Weights{Passing: 9, Warning: 3}}, config.HealthWarning)
	instance("n1", config.Service{ID: "web-3", Name: "web", Port: 82, Address: "10.0.0.3"}, config.HealthCritical)
	instance("n1", config.Service{ID: "six", Name: "six", Port: 80, Address: "2001:db8::1"}, config.HealthPassing)
	instance("n1", config.Service{ID: "far", Name: "far", Port: 80, Address: "far.example.com"}, config.HealthPassing)
	instance("n1", config.Service{ID: "down", Name: "down", Port: 80}, config.HealthCritical)
	instance("n1", config.Service{
		ID: "web-proxy", Name: "web-sidecar-proxy", Kind: config.KindSidecar, Port: 21000, Address: "10.0.0.4",
		Proxy: &config.Proxy{DestinationServiceName: "web"},
	}, config.HealthPassing)
	add(&snapshot.Peer{Name: "east"}, snapshot.TablePeers, "east")
	there := func(address, status string) snapshot.ImportedInstance {
		return snapshot.ImportedInstance{Node: "m1", NodeAddress: "192.0.2.1", Health: status, Service: &config.Service{ID: "DB", Name: "DB", Port: 5432, Address: address}}
	}
	add(&snapshot.Import{
		Peer: "east", Service: "DB",
		Instances: []snapshot.ImportedInstance{there("192.0.2.2", config.HealthPassing), there("192.0.2.3", config.HealthCritical), there("192.0.2.4", config.HealthMaintenance), there("", config.HealthPassing)},
		Gateways:  []snapshot.ImportedInstance{there("192.0.2.8", config.HealthPassing), there("192.0.2.9", config.HealthMaintenance)},
	}, snapshot.TableImports, "east", "DB")
	return snapshot.NewWorld().With(7, events)
}

// served starts a Server for a World, and returns its address.
func served(t *testing.T, cfg Config) string {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	cfg.Log = log
	server, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	connections, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", connections.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, packets, connections) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
	return connections.Addr().String()
}

// ask returns the answer to a question, and its records in words, sorted: those beside the answer after a "+".
func ask(t *testing.T, network, address, name string, kind uint16) (*dns.Msg, []string) {
	t.Helper()
	request := new(dns.Msg)
	request.SetQuestion(dns.Fqdn(name), kind)
	answer, _, err := (&dns.Client{Net: network}).Exchange(request, address)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var words []string
	for i, section := range [][]dns.RR{answer.Answer, answer.Extra} {
		for _, r := range section {
			fields := strings.Fields(r.String())
			words = append(words, strings.Repeat("+ ", i)+fields[0]+" "+strings.Join(fields[3:], " "))
		}
	}
	slices.Sort(words)
	return answer, words
}

func TestAnswers(t *testing.T) {
	w := world(t)
	address := served(t, Config{World: func() *snapshot.World { return w }})
	const nobody, empty = "NXDOMAIN", "NOERROR"
	for _, test := range []struct {
		name string
		kind uint16
		want []string // or one status
	}{
		{"web.service.consul", dns.TypeA, []string{"web.service.consul. A 10.0.0.1", "web.service.consul. A 10.0.0.2"}},
		{"WEB.Service.dc1.Consul", dns.TypeA, []string{"WEB.Service.dc1.Consul. A 10.0.0.1", "WEB.Service.dc1.Consul. A 10.0.0.2"}},
		{"web.service.dc1.dc.consul", dns.TypeAAAA, []string{empty}},
		{"web.service.dc2.consul", dns.TypeA, []string{nobody}},
		{"v1.web.service.consul", dns.TypeA, []string{"v1.web.service.consul. A 10.0.0.1"}},
		{"v2.web.service.consul", dns.TypeA, []string{nobody}},
		{"_web._v1.service.consul", dns.TypeSRV, []string{"+ n1.node.dc1.consul. A 10.0.0.1", "_web._v1.service.consul. SRV 1 1 80 n1.node.dc1.consul."}},
		{"_web._tcp.consul", dns.TypeSRV, []string{
			"+ 0a000002.addr.dc1.consul. A 10.0.0.2", "+ n1.node.dc1.consul. A 10.0.0.1",
			"_web._tcp.consul. SRV 1 1 80 n1.node.dc1.consul.", "_web._tcp.consul. SRV 1 3 81 0a000002.addr.dc1.consul.",
		}},
		{"web.connect.consul", dns.TypeA, []string{"web.connect.consul. A 10.0.0.4"}},
		{"six.service.consul", dns.TypeAAAA, []string{"six.service.consul. AAAA 2001:db8::1"}},
		{"six.service.consul", dns.TypeA, []string{empty}},
		{"six.service.consul", dns.TypeANY, []string{"six.service.consul. AAAA 2001:db8::1"}},
		{"far.service.consul", dns.TypeA, []string{"far.service.consul. CNAME far.example.com."}},
		{"far.service.consul", dns.TypeSRV, []string{"far.service.consul. SRV 1 1 80 far.example.com."}},
		{"down.service.consul", dns.TypeA, []string{nobody}},
		{"none.service.consul", dns.TypeA, []string{nobody}},

		{"db.service.east.peer.consul", dns.TypeA, []string{"db.service.east.peer.consul. A 192.0.2.1", "db.service.east.peer.consul. A 192.0.2.2"}},
		{"db.service.east.peer.consul", dns.TypeSRV, []string{
			"+ c0000202.addr.consul. A 192.0.2.2", "+ m1.node.east.peer.consul. A 192.0.2.1",
			"db.service.east.peer.consul. SRV 1 1 5432 c0000202.addr.consul.", "db.service.east.peer.consul. SRV 1 1 5432 m1.node.east.peer.consul.",
		}},
		{"db.connect.east.peer.consul", dns.TypeA, []string{"db.connect.east.peer.consul. A 192.0.2.8"}},
		{"db.service.consul", dns.TypeA, []string{nobody}},
		{"web.service.east.peer.consul", dns.TypeA, []string{nobody}},
		{"db.service.west.peer.consul", dns.TypeA, []string{nobody}},

		{"n1.node.consul", dns.TypeA, []string{"n1.node.consul. A 10.0.0.1"}},
		{"m1.node.east.peer.consul", dns.TypeA, []string{"m1.node.east.peer.consul. A 192.0.2.1"}},
		{"n9.node.consul", dns.TypeA, []string{nobody}},
		{"0a000002.addr.dc1.consul", dns.TypeA, []string{"0a000002.addr.dc1.consul. A 10.0.0.2"}},
		{"0a0000.addr.consul", dns.TypeA, []string{nobody}},
		{"consul", dns.TypeSOA, []string{"consul. SOA ns.consul. hostmaster.consul. 7 3600 600 86400 0"}},
		{"service.consul", dns.TypeA, []string{nobody}},
		{"a.b.query.consul", dns.TypeA, []string{nobody}},
		{"example.com", dns.TypeA, []string{"REFUSED"}},
	} {
		for _, network := range []string{"udp", "tcp"} {
			answer, words := ask(t, network, address, test.name, test.kind)
			if len(words) == 0 {
				words = []string{dns.RcodeToString[answer.Rcode]}
				if answer.Rcode != dns.RcodeRefused && len(answer.Ns) != 1 {
					t.Errorf("%s: no SOA beside %s", test.name, words)
				}
			}
			if !slices.Equal(words, test.want) {
				t.Errorf("%s %s over %s: %q, want %q", test.name, dns.TypeToString[test.kind], network, words, test.want)
			}
		}
	}
}

// TestManyInstances: what does not fit is cut off and said to be, and comes whole over TCP.
func TestManyInstances(t *testing.T) {
	var events []snapshot.Event
	for i := range 100 {
		s := &config.Service{ID: string(rune('a'+i%26)) + strings.Repeat("x", i), Name: "web", Port: 1000 + i, Address: netAddress(i)}
		events = append(events, snapshot.Event{Key: snapshot.NewKey(snapshot.TableInstances, "web", "n1", s.ID), Object: &snapshot.Instance{Node: "n1", Service: s}})
	}
	w := snapshot.NewWorld().With(1, append(events, snapshot.Event{Key: snapshot.NewKey(snapshot.TableCluster), Object: &snapshot.Cluster{Datacenter: "dc1"}}))
	address := served(t, Config{World: func() *snapshot.World { return w }})
	short, _ := ask(t, "udp", address, "web.service.consul", dns.TypeSRV)
	if n := len(short.Answer); !short.Truncated || n == 0 || n == 100 {
		t.Errorf("over UDP: %d answers, truncated: %v", n, short.Truncated)
	}
	if whole, _ := ask(t, "tcp", address, "web.service.consul", dns.TypeSRV); len(whole.Answer) != 100 || whole.Truncated {
		t.Errorf("over TCP: %d answers, truncated: %v", len(whole.Answer), whole.Truncated)
	}
	request := new(dns.Msg)
	request.SetQuestion("web.service.consul.", dns.TypeA)
	request.SetEdns0(65535, false)
	answer, _, err := (&dns.Client{UDPSize: 65535}).Exchange(request, address)
	if err != nil {
		t.Fatal(err)
	}
	answer.Compress = true
	if answer.Len() > maxUDP || len(answer.Answer) <= len(short.Answer) || answer.IsEdns0() == nil {
		t.Errorf("over UDP with a large buffer: %d bytes, %d answers", answer.Len(), len(answer.Answer))
	}
}

func netAddress(i int) string { return net.IPv4(10, 1, 0, byte(i)).String() }

func TestNotReady(t *testing.T) {
	w := world(t)
	for name, cfg := range map[string]Config{
		"no World yet": {World: snapshot.NewWorld},
		"not synced":   {World: func() *snapshot.World { return w }, Synced: func() bool { return false }},
	} {
		if answer, _ := ask(t, "udp", served(t, cfg), "web.service.consul", dns.TypeA); answer.Rcode != dns.RcodeServerFailure {
			t.Errorf("%s: %s", name, dns.RcodeToString[answer.Rcode])
		}
	}
}

func TestStrangeRequests(t *testing.T) {
	w := world(t)
	address := served(t, Config{World: func() *snapshot.World { return w }})
	exchange := func(change func(*dns.Msg)) int {
		t.Helper()
		request := new(dns.Msg)
		request.SetQuestion("web.service.consul.", dns.TypeA)
		change(request)
		answer, _, err := new(dns.Client).Exchange(request, address)
		if err != nil {
			t.Fatal(err)
		}
		return answer.Rcode
	}
	if code := exchange(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }); code == dns.RcodeSuccess {
		t.Error("an update was taken")
	}
	if code := exchange(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }); code != dns.RcodeRefused {
		t.Errorf("class CHAOS: %s", dns.RcodeToString[code])
	}
	if code := exchange(func(m *dns.Msg) { m.Question[0].Name = "." }); code != dns.RcodeRefused {
		t.Errorf("the root: %s", dns.RcodeToString[code])
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"web.service.consul.", "_a._tcp.consul.", "a.b.node.p.peer.consul.", "..consul.", "consul.", "_.consul."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, full string) {
		if _, ok := dns.IsDomainName(full); !ok || !dns.IsSubDomain(zone, full) || dns.CanonicalName(full) == zone {
			return
		}
		if n, ok := parse(full, "dc1"); ok && (n.kind == "" || n.kind != kindNode && strings.Contains(n.service, ".")) {
			t.Errorf("%q: %+v", full, n)
		}
	})
}
