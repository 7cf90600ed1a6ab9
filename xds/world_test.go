package xds

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

func TestMain(m *testing.M) {
	if mode := benchMode(); mode != nil {
		mode()
		return
	}
	goleak.VerifyTestMain(m)
}

// inBubble runs a test in its own time, with a server that closes when the test ends.
func inBubble(t *testing.T, config Config, test func(t *testing.T, s *Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(config)
		test(t, s)
	})
}

func newServer(config Config) *Server {
	log := logrus.New()
	log.SetOutput(io.Discard)
	config.Log = log
	if config.Registerer == nil {
		config.Registerer = prometheus.NewRegistry()
	}
	if config.Authenticate == nil {
		config.Authenticate = func(_ context.Context, token redact.String) (string, error) {
			proxy, found := strings.CutPrefix(token.Reveal(), "token-")
			if !found {
				return "", errors.New("no such token")
			}
			return proxy, nil
		}
	}
	return New(config)
}

// res is a resource whose body is its version and what it refers to, as "|eds:svc~db|".
func res(k kind, name, content string) *envoy.Resource {
	body := []byte(name + " " + content)
	if k == secrets || k == clusters || k == extensions {
		body = []byte(content)
	}
	return &envoy.Resource{TypeURL: typeURLs[k], Name: name, Version: envoy.Hash([]byte(content)), Body: body,
		Origin: envoy.Origin{Kind: "test", Name: name}}
}

func cluster(name, content, endpointSet string) *envoy.Resource {
	r := res(clusters, name, content+"|eds:"+endpointSet+"|")
	if endpointSet == "" {
		r = res(clusters, name, content)
	}
	r.EndpointSet = endpointSet
	return r
}

func cla(name, content string) *envoy.Resource { return res(endpoints, name, content) }

// authz is a secret that admits these names.
func authz(name string, admits ...string) *envoy.Resource {
	slices.Sort(admits)
	r := res(secrets, name, "admits "+strings.Join(admits, " "))
	r.Authz = &envoy.Authz{Names: admits, Roots: []string{"root"}}
	return r
}

// chain asks the secret authzName, and waits for these extensions.
func chain(name, content, authzName string, extensions ...string) *envoy.Chain {
	stat := content
	if authzName != "" {
		stat += "|sds:" + authzName + "|"
	}
	for _, e := range extensions {
		stat += "|ecds:" + e + "|"
	}
	body, err := proto.Marshal(&listenerv3.FilterChain{Name: name,
		Filters: []*listenerv3.Filter{{Name: stat}}})
	if err != nil {
		panic(err)
	}
	return &envoy.Chain{Name: name, Hash: envoy.Hash(body), Body: body, AuthzName: authzName, ExtensionNames: extensions,
		Origin: envoy.Origin{Kind: "chain", Name: name}}
}

func listener(name, content string, chains ...*envoy.Chain) *envoy.Listener {
	shell, err := proto.Marshal(&listenerv3.Listener{Name: name, StatPrefix: content})
	if err != nil {
		panic(err)
	}
	return &envoy.Listener{Name: name, Shell: shell, ShellHash: envoy.Hash(shell), Chains: chains,
		Origin: envoy.Origin{Kind: "listener", Name: name}}
}

// chainsOf returns the chains of a listener as the client has it: "peer~east=1 peer~west=0".
func (c *client) chainsOf(name string) string {
	c.t.Helper()
	body, has := c.body["LDS "+name]
	if !has {
		return "no listener"
	}
	l := &listenerv3.Listener{}
	if err := proto.Unmarshal(body, l); err != nil {
		c.t.Fatal(err)
	}
	var list []string
	for _, fc := range l.FilterChains {
		epoch := fc.GetMetadata().GetFilterMetadata()[envoy.EpochNamespace].GetFields()[envoy.EpochKey]
		entry := fc.Name
		if epoch != nil {
			entry += "=" + strings.TrimPrefix(epoch.String(), "number_value:")
		}
		list = append(list, entry)
	}
	return strings.Join(list, " ")
}

// sidecar is a set with one peer and one upstream. change may alter it before it is returned.
func sidecar(proxy string, change ...func(*envoy.Set)) *envoy.Set {
	set := &envoy.Set{
		Proxy:    proxy,
		Clusters: []*envoy.Resource{cluster("app", "1", ""), cluster("out~db", "1", "svc~db")},
		Secrets:  []*envoy.Resource{authz("authz~east", "a", "b"), res(secrets, "bundle~east", "roots")},
		Listeners: []*envoy.Listener{
			listener("in", "1", chain("peer~east", "1", "authz~east")),
			listener("out~db", "1"),
		},
	}
	for _, c := range change {
		c(set)
	}
	return set
}

// count reads a counter.
func count(c prometheus.Counter) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		panic(err)
	}
	return m.GetCounter().GetValue()
}
