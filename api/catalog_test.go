package api

import (
	"fmt"
	"net/url"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

var catalogSteps = []step{
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2","ID":"id-2","NodeMeta":{"rack":"r1"},"TaggedAddresses":{"lan":"10.0.0.2"}}`, 200, []string{"true"}},
	{"GET", "/v1/catalog/nodes?node-meta=rack:r1", "", 200, []string{`"Node":"n2"`, `"ID":"id-2"`, `!"node1"`}},
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.9","SkipNodeUpdate":true,"Service":{"ID":"db1","Service":"db","Port":5432,"Tags":["primary"]},
		"Checks":[{"CheckID":"alive","Name":"alive","Status":"passing","ServiceID":"db1"},{"Name":"disk","Status":"warning"}]}`, 200, []string{"true"}},
	{"GET", "/v1/catalog/node/n2", "", 200, []string{`"Address":"10.0.0.2"`, `"Service":"db"`}},
	{"GET", "/v1/health/service/db?node-meta=rack:r1", "", 200, []string{`"CheckID":"alive"`, `"CheckID":"disk"`, `"ServiceTags":["primary"]`}},
	{"GET", "/v1/health/service/db?node-meta=rack:r2", "", 200, []string{"[]"}},
	{"GET", "/v1/agent/services", "", 200, []string{"{}"}}, // on another node
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.3"}`, 200, []string{"true"}},
	{"GET", "/v1/catalog/node/n2", "", 200, []string{`"ID":"id-2"`, `"Address":"10.0.0.3"`}}, // its ID is kept
	{"PUT", "/v1/catalog/register", `{"Node":"n2"}`, 400, []string{"Must provide node and address"}},
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2","Datacenter":"dc2"}`, 400, []string{"No path to datacenter"}},
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2","Partition":"p"}`, 400, []string{"not supported"}},
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2","Colour":"red"}`, 400, []string{"Colour"}},
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2","Service":{"Service":"Bad_Name!"}}`, 400, []string{"Bad_Name!"}},
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2","Service":{"Service":"db","Connect":{"SidecarService":{}}}}`, 400, []string{"is the agent's to register"}},
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2","Service":{"Service":"db","service":"api"}}`, 400, []string{"is written twice"}},
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2","Service":{"Name":"db"}}`, 400, []string{"is no field of the catalog's"}},
	{"PUT", "/v1/catalog/register", `{"Node":"n\u0000db","Address":"10.0.0.2"}`, 400, []string{"want at most 255 printable ASCII"}},
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2","Check":{"Name":"a\u0000b"}}`, 400, []string{"printable ASCII"}},
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2","Check":{"Status":"passing"}}`, 400, []string{"want a CheckID or a Name"}},
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2","Check":{"Name":"c","Status":"fine"}}`, 400, []string{"Invalid check status: 'fine'"}},
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2","Check":{"Name":"c","Node":"n3"}}`, 400, []string{"doesn't match"}},
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2","Check":{"Name":"c","ServiceID":"nope"}}`, 400, []string{"Unknown service ID 'nope'"}},
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2","Check":{"Name":"c","Definition":{"TCP":"10.0.0.2:80"}}}`, 400, []string{"Definition.TCP", "nobody here runs"}},
	// What a peer exported is read-only, whichever part of the request names the peer.
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2","PeerName":"east"}`, 400, []string{"cannot register requests with PeerName in them", "peer east exports is read-only"}},
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2","Service":{"Service":"db","PeerName":"east"}}`, 400, []string{"read-only"}},
	{"PUT", "/v1/catalog/register", `{"Node":"n2","Address":"10.0.0.2","Checks":[{"Name":"c","PeerName":"east"}]}`, 400, []string{"read-only"}},
	{"PUT", "/v1/catalog/deregister", `{"Node":"n9","ServiceID":"db1","PeerName":"east"}`, 400, []string{"read-only"}},
	{"PUT", "/v1/catalog/deregister", `{}`, 400, []string{"Must provide node"}},
	{"PUT", "/v1/catalog/deregister", `{"Node":"node1"}`, 400, []string{"is this server's own"}},
	{"PUT", "/v1/catalog/deregister", `{"Node":"n2","CheckID":"disk"}`, 200, []string{"true"}},
	{"GET", "/v1/health/node/n2", "", 200, []string{`"alive"`, `!"disk"`}},
	{"PUT", "/v1/catalog/deregister", `{"Node":"n2","ServiceID":"db1"}`, 200, []string{"true"}},
	{"GET", "/v1/health/node/n2", "", 200, []string{"[]"}},
	{"PUT", "/v1/catalog/deregister", `{"Node":"n2","ServiceID":"db1"}`, 200, []string{"true"}}, // as Consul: also for none
	{"PUT", "/v1/catalog/deregister", `{"Node":"n2"}`, 200, []string{"true"}},
	{"GET", "/v1/catalog/nodes", "", 200, []string{`!"n2"`}},
}

func TestCatalogWrites(t *testing.T) {
	l := newLab(t)
	importDB(l, "passing")
	l.run(catalogSteps)
	if l.store.publisher.World().Import("east", "db") == nil {
		t.Error("the import is gone")
	}
}

// The same service again: under another name it is one instance all the same, its checks keep their state, and those
// that it does not name stay or go as it says.
func TestRegisterAgain(t *testing.T) {
	l := newLab(t)
	l.run([]step{
		{"PUT", "/v1/agent/service/register", `{"ID":"a","Name":"old","Checks":[{"CheckID":"one","TTL":"9s"},{"CheckID":"two","TTL":"9s"}]}`, 200, nil},
		{"PUT", "/v1/agent/check/pass/one", "", 200, nil},
		{"PUT", "/v1/agent/service/register", `{"ID":"a","Name":"new","Check":{"CheckID":"one","TTL":"8s"}}`, 200, nil},
		{"GET", "/v1/catalog/services", "", 200, []string{`"new"`, `!"old"`}},
		{"GET", "/v1/agent/checks", "", 200, []string{`"one":{"Node":"node1","CheckID":"one","Name":"Service 'new' check","Status":"passing"`, `"two"`}},
		{"PUT", "/v1/agent/service/register?replace-existing-checks=true", `{"ID":"a","Name":"new","Check":{"CheckID":"one","TTL":"8s"}}`, 200, nil},
		{"GET", "/v1/agent/checks", "", 200, []string{`"one"`, `!"two"`}},
		{"PUT", "/v1/agent/service/register", `{"ID":"b","Name":"b"}`, 200, nil},
		{"PUT", "/v1/agent/check/register", `{"CheckID":"one","Name":"one","TTL":"9s","ServiceID":"b"}`, 200, nil}, // it moves
		{"GET", "/v1/health/checks/new", "", 200, []string{"[]"}},
		{"PUT", "/v1/agent/service/register", `{"Name":"x","Script":"rm"}`, 400, []string{"Script"}},
	})
}

// Many sidecars at once: each gets a port of its own, and keeps it.
func TestSidecarPorts(t *testing.T) {
	l := newLab(t)
	body := func(i int) string {
		return fmt.Sprintf(`{"Name":"s%d","Port":80,"Connect":{"SidecarService":{}}}`, i)
	}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() { l.must("PUT", "/v1/agent/service/register", body(i)) })
	}
	group.Wait()
	ports := map[int]string{}
	for _, i := range l.store.publisher.World().OnNode("node1") {
		if i.Service.Kind == "" {
			continue
		}
		if other, taken := ports[i.Service.Port]; taken || i.Service.Port < firstSidecarPort || i.Service.Port > lastSidecarPort {
			t.Errorf("%s has port %d, as %q", i.Service.ID, i.Service.Port, other)
		}
		ports[i.Service.Port] = i.Service.ID
	}
	if len(ports) != 8 {
		t.Errorf("ports %v: want 8", ports)
	}
	before := l.store.publisher.World().InstanceByID("node1", "s3-sidecar-proxy").Service.Port
	l.must("PUT", "/v1/agent/service/register", body(3))
	if after := l.store.publisher.World().InstanceByID("node1", "s3-sidecar-proxy").Service.Port; after != before {
		t.Errorf("port %d became %d", before, after)
	}
}

func TestHeartbeatIsTold(t *testing.T) {
	var beats []string
	l := newLab(t, func(c *Config) {
		c.Runtime.Heartbeat = func(node, service, check string) { beats = append(beats, node+" "+service+" "+check) }
	})
	l.must("PUT", "/v1/agent/service/register", webRegistration)
	before := l.store.publisher.World().Index
	for range 3 {
		l.must("PUT", "/v1/agent/check/pass/service:web1", "")
	}
	if len(beats) != 3 || beats[0] != "node1 web1 service:web1" || l.store.publisher.World().Index != before {
		t.Errorf("beats %v at index %d: want 3 and no write after %d", beats, l.store.publisher.World().Index, before)
	}
}

func TestWhy(t *testing.T) {
	l := newLab(t)
	l.must("PUT", "/v1/config", allowWeb)
	l.run([]step{
		{"GET", "/isthmus/v1/why?source=web&destination=db", "", 200, []string{`"source":"web"`, `"destination":"db"`, `"steps":[`}},
		{"GET", "/isthmus/v1/why?source=web&destination=db&peer=east", "", 200, []string{`"destination_peer":"east"`, `"allowed":false`}},
		{"GET", "/isthmus/v1/why?source=api&destination=db&source-peer=east", "", 200, []string{`"source_peer":"east"`}},
		{"GET", "/isthmus/v1/why?source=" + url.QueryEscape("peer:east/api") + "&destination=db&peer=west", "", 400, []string{"one of the two must be a service of ours"}},
		{"GET", "/isthmus/v1/why?source=web", "", 400, []string{"'destination' not set"}},
	})
}

// Fields without an effect are named, with the object that has them.
func TestStatusNamesKeptFields(t *testing.T) {
	l := newLab(t)
	l.must("PUT", "/v1/config", `{"Kind":"proxy-defaults","Name":"global","Config":{"envoy_prometheus_bind_addr":"0.0.0.0:20200"}}`)
	check(t, l.must("GET", "/isthmus/v1/status", ""), "status", 200, []string{`{"kind":"proxy-defaults","name":"global","fields":["Config.envoy_prometheus_bind_addr"]}`})
}

// A leaf is asked for again by its index: the answer comes with the next root.
func TestLeafBlocks(t *testing.T) {
	l := newLab(t)
	first := l.must("GET", "/v1/agent/connect/ca/leaf/web", "").index(t)
	if again := l.must("GET", "/v1/agent/connect/ca/leaf/web?wait=1ms&index="+first, "").index(t); again != first {
		t.Errorf("index %s became %s without a new leaf", first, again)
	}
	done := make(chan answer, 1)
	go func() { done <- l.ask("GET", "/v1/agent/connect/ca/leaf/web?wait=60s&index="+first, "") }()
	l.commit(snapshot.Event{Key: snapshot.NewKey(snapshot.TableRoots, ""), Object: &snapshot.Bundle{TrustDomain: "c1.consul", Roots: []string{l.rootPEM}}})
	if second := (<-done).index(t); second <= first {
		t.Errorf("index %s after %s: want a higher one", second, first)
	}
}
