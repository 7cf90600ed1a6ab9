package snapshot

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/config"
)

func exports(services map[string][]string) Event {
	e := &config.ExportedServices{Name: "default"}
	for name, peers := range services {
		service := config.ExportedService{Name: name}
		for _, peer := range peers {
			service.Consumers = append(service.Consumers, config.Consumer{Peer: peer})
		}
		e.Services = append(e.Services, service)
	}
	return entry(e)
}

func established(name string) Event {
	return Event{Key: NewKey(TablePeers, name), Object: &Peer{
		Name: name, State: Establishing, TrustDomain: name + ".consul", Roots: []string{name + " root"}, OurName: "us",
	}}
}

func service(name string) Event { return register(&config.Service{Name: name, ID: name, Port: 80}) }

func TestExportReason(t *testing.T) {
	w := worldOf(us(false), established("east"), established("west"),
		exports(map[string][]string{"db": {"east", "nobody"}, "web": {"east"}, "*": {"west"}, "consul": {"east"}}),
		service("db"), service("api"), service("consul"), service("x-sidecar-proxy"), register(&config.Service{
			Kind: config.KindMeshGateway, Name: "gateway", ID: "gateway", Port: 8443,
		}),
		entry(&config.ServiceDefaults{Name: "web", Protocol: "HTTP"}))
	for _, test := range []struct{ service, peer, want string }{
		{"db", "east", ""},
		{"db", "nobody", "no such peer"},
		{"db", "west", ""}, // by the wildcard
		{"api", "west", ""},
		{"api", "east", "not exported"},
		{"gateway", "west", "not exported"},
		{"unregistered", "west", "not exported"},
		{"web", "east", "protocol http: only tcp is exported"},
		{"consul", "east", "name consul is reserved"},
		{"x-sidecar-proxy", "west", "name ends in -sidecar-proxy, which is a proxy's"},
	} {
		ok, reason := ExportReason(w, test.service, test.peer)
		if reason != test.want || ok != (test.want == "") {
			t.Errorf("%s to %s: %v %q, want %q", test.service, test.peer, ok, reason, test.want)
		}
	}
	list := func(peer string) map[string]string {
		found := map[string]string{}
		for name, reason := range Exported(w, peer) {
			found[name] = reason
		}
		return found
	}
	if got, want := dump(list("east")), dump(map[string]string{
		"consul": "name consul is reserved", "db": "", "web": "protocol http: only tcp is exported",
	}); got != want {
		t.Errorf("east: %s, want %s", got, want)
	}
	if got, want := dump(list("west")), dump(map[string]string{
		"api": "", "db": "", "consul": "name consul is reserved", "x-sidecar-proxy": "name ends in -sidecar-proxy, which is a proxy's",
	}); got != want {
		t.Errorf("west: %s, want %s", got, want)
	}
}

func TestProtocolOfProxyDefaults(t *testing.T) {
	http := entry(&config.ProxyDefaults{Name: "global", Config: map[string]any{"protocol": "http"}})
	own := entry(&config.ServiceDefaults{Name: "db", Protocol: "tcp"})
	w := worldOf(us(false), established("east"), exports(map[string][]string{"db": {"east"}, "web": {"east"}}), http, own)
	if ok, reason := ExportReason(w, "db", "east"); !ok {
		t.Errorf("service-defaults before proxy-defaults: %s", reason)
	}
	if _, reason := ExportReason(w, "web", "east"); reason != "protocol http: only tcp is exported" {
		t.Errorf("web: %q", reason)
	}
}
