package envoy_test

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

func shell(t *testing.T, b *envoy.Builder, name string) *envoy.Listener {
	t.Helper()
	l := b.ServerNameListener(envoy.Shell{
		Name: name, Address: envoy.SocketAddress("127.0.0.1", 8443), Direction: corev3.TrafficDirection_INBOUND, BufferLimit: 1 << 18,
	}, 5e9, b.JSONLog(map[string]string{"sni": "%REQUESTED_SERVER_NAME%"}, envoy.FlagNoRoute), envoy.Origin{})
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	return l
}

func chain(b *envoy.Builder, name string, serverNames ...string) *envoy.Chain {
	return b.Chain(&listenerv3.FilterChain{Name: name, FilterChainMatch: envoy.ServerNames(serverNames...)}, envoy.Origin{})
}

// What is joined from marshalled parts is the message that was meant, epoch included.
func TestJoinListener(t *testing.T) {
	var b envoy.Builder
	l := shell(t, &b, "in")
	east, west := chain(&b, "peer~east", "a.example"), chain(&b, "peer~west", "b.example")
	before := string(east.Body)

	var joined listenerv3.Listener
	if err := proto.Unmarshal(envoy.JoinListener(l, [][]byte{envoy.WithEpoch(east.Body, 41), west.Body}), &joined); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, chain := range joined.FilterChains {
		names = append(names, chain.Name)
	}
	if got := strings.Join(names, " "); got != "none peer~east peer~west" {
		t.Errorf("chains %s", got)
	}
	epoch := joined.FilterChains[1].GetMetadata().GetFilterMetadata()[envoy.EpochNamespace].GetFields()[envoy.EpochKey].GetNumberValue()
	if epoch != 41 {
		t.Errorf("epoch %v: want 41", epoch)
	}
	if joined.FilterChains[1].FilterChainMatch.ServerNames[0] != "a.example" || joined.FilterChains[2].Metadata != nil {
		t.Errorf("got %v", &joined)
	}
	if string(east.Body) != before {
		t.Error("WithEpoch wrote into the shared chain")
	}
	if string(envoy.WithEpoch(east.Body, 41)) == string(envoy.WithEpoch(east.Body, 42)) {
		t.Error("two epochs, the same bytes: nothing would drain")
	}
	if err := envoy.ValidateListener(envoy.JoinListener(l, nil)); err != nil {
		t.Errorf("a listener without chains but none: %v", err)
	}
}

func TestValidateListener(t *testing.T) {
	var b envoy.Builder
	l := shell(t, &b, "in")
	plain, err := proto.Marshal(&listenerv3.Listener{Name: "in"})
	if err != nil {
		t.Fatal(err)
	}
	noLimit := b.Chain(&listenerv3.FilterChain{Name: "a", FilterChainMatch: envoy.ServerNames("a.example"), Filters: []*listenerv3.Filter{
		new(envoy.Builder).ConnectionLimit("a", 0),
	}}, envoy.Origin{})
	for want, body := range map[string][]byte{
		"no filter chain":                plain,
		`two chains are called "a"`:      join(l, chain(&b, "a", "a.example"), chain(&b, "a", "b.example")),
		"chains a and b both match x":    join(l, chain(&b, "a", "x"), chain(&b, "b", "y", "x")),
		"both match any server name":     join(l, chain(&b, "a"), chain(&b, "b")),
		"ConnectionLimit.MaxConnections": join(l, noLimit),
		"listener: proto:":               []byte("not a listener"),
	} {
		if err := envoy.ValidateListener(body); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v: want %s", err, want)
		}
	}
}

func join(l *envoy.Listener, chains ...*envoy.Chain) []byte {
	bodies := make([][]byte, len(chains))
	for i, c := range chains {
		bodies[i] = c.Body
	}
	return envoy.JoinListener(l, bodies)
}

// The first failed validator names what it was about, however deep it was.
func TestBuilderKeepsTheFirstError(t *testing.T) {
	var b envoy.Builder
	b.ConnectionLimit("in~east~db~default", 0)
	b.StaticCluster(envoy.StaticCluster{Name: "app"}, envoy.Origin{})
	if err := b.Err(); err == nil || !strings.HasPrefix(err.Error(), "ConnectionLimit in~east~db~default: ") {
		t.Errorf("got %v", err)
	}
	b = envoy.Builder{}
	b.Bundle("bundle~east", []string{"not \xff UTF-8"}, envoy.Origin{})
	if err := b.Err(); err == nil || !strings.HasPrefix(err.Error(), "Secret bundle~east: ") {
		t.Errorf("got %v", err)
	}
}

func TestCheck(t *testing.T) {
	good := func() *envoy.Set {
		return &envoy.Set{
			Listeners: []*envoy.Listener{{Name: "in", Chains: []*envoy.Chain{
				{Name: "peer~east", AuthzName: "authz~db~default~east", ExtensionNames: []string{"rbac~db~default~east"}}, {Name: "peer~west"},
			}}, {Name: "out~east~x~default"}},
			Clusters:   []*envoy.Resource{{Name: "app"}, {Name: "out~east~x~default"}},
			Secrets:    []*envoy.Resource{{Name: "authz~db~default~east"}},
			Extensions: []*envoy.Resource{{Name: "rbac~db~default~east"}},
		}
	}
	for want, spoil := range map[string]func(*envoy.Set){
		"":                                 func(*envoy.Set) {},
		"no secret authz~db~default~east":  func(s *envoy.Set) { s.Secrets = nil },
		"no extension rbac~db~default~eas": func(s *envoy.Set) { s.Extensions = nil },
		"clusters: b before app":           func(s *envoy.Set) { s.Clusters[0], s.Clusters[1] = &envoy.Resource{Name: "b"}, s.Clusters[0] },
		"listeners: in before in":          func(s *envoy.Set) { s.Listeners[1].Name = "in" },
		"chains: peer~west before peer":    func(s *envoy.Set) { c := s.Listeners[0].Chains; c[0], c[1] = c[1], c[0] },
	} {
		set := good()
		spoil(set)
		if err := set.Check(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v: want %q", err, want)
		}
	}
}

func TestShrank(t *testing.T) {
	only := func(names ...string) *envoy.Authz { return &envoy.Authz{Names: names, Roots: []string{"r"}} }
	except := func(names ...string) *envoy.Authz {
		return &envoy.Authz{AllExcept: true, Names: names, Roots: []string{"r"}}
	}
	for _, c := range []struct {
		from, to *envoy.Authz
		want     bool
	}{
		{only("web"), only("web"), false},
		{only("web"), only("api", "web"), false},
		{only("api", "web"), only("web"), true},
		{only("web"), only(), true},
		{only(), only("web"), false},
		{only("web"), except(), false},
		{only("web"), except("api"), false},
		{only("web"), except("web"), true},
		{except(), only("web"), true},
		{except("web"), except(), false},
		{except(), except("web"), true},
		{except("web"), except("api", "web"), true},
		{only("web"), &envoy.Authz{Names: []string{"web"}, Roots: []string{"r", "s"}}, false},
		{&envoy.Authz{Names: []string{"web"}, Roots: []string{"r", "s"}}, only("web"), true},
	} {
		if got := c.from.Shrank(c.to); got != c.want {
			t.Errorf("%+v to %+v: shrank %v", *c.from, *c.to, got)
		}
	}
}
