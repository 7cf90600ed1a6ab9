package main

import (
	"reflect"
	"testing"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// TestOwnNodeStaysAsRegistered: neither a reload nor a restart takes back what was registered of our own node.
func TestOwnNodeStaysAsRegistered(t *testing.T) {
	cfg := planeConfig(t)
	p := opened(t, cfg)
	registered := *p.store.World().Node("node-1")
	registered.Address = "10.1.1.1"
	registered.Meta, registered.TaggedAddresses = map[string]string{"rack": "7"}, map[string]string{"wan": "192.0.2.1"}
	if _, err := p.store.Commit(t.Context(), snapshot.Event{Key: snapshot.NewKey(snapshot.TableNodes, "node-1"), Object: &registered}); err != nil {
		t.Fatal(err)
	}
	want := *p.store.World().Node("node-1")
	next := cfg
	next.LogLevel = "warn"
	if _, err := p.apply(t.Context(), cfg, next); err != nil {
		t.Fatal(err)
	}
	if got := p.store.World().Node("node-1"); !reflect.DeepEqual(*got, want) {
		t.Errorf("after a reload: %+v, want %+v", *got, want)
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	if got := opened(t, cfg).store.World().Node("node-1"); !reflect.DeepEqual(*got, want) {
		t.Errorf("after a restart: %+v, want %+v", *got, want)
	}
}

// TestNodeAddress: the operator's word on where this node is goes to the instances without an address too, also while
// the server runs.
func TestNodeAddress(t *testing.T) {
	cfg := planeConfig(t)
	p := opened(t, cfg)
	if got := p.store.World().Node("node-1").Address; got != "127.0.0.1" {
		t.Errorf("address %s of a node that nobody spoke of", got)
	}
	register := func(node string) {
		_, err := p.store.Commit(t.Context(), snapshot.Event{
			Key:    snapshot.NewKey(snapshot.TableInstances, "db", node, "db"),
			Object: &snapshot.Instance{Node: node, NodeAddress: "127.0.0.1", Service: &config.Service{ID: "db", Name: "db", Port: 5432}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	register("node-1")
	register("node-2")
	next := cfg
	next.NodeAddress = "10.1.1.1"
	if _, err := p.apply(t.Context(), cfg, next); err != nil {
		t.Fatal(err)
	}
	w := p.store.World()
	if host, _ := w.InstanceByID("node-1", "db").Address(); host != "10.1.1.1" || w.Node("node-1").Address != "10.1.1.1" {
		t.Errorf("node at %s, instance at %s: want both at 10.1.1.1", w.Node("node-1").Address, host)
	}
	if host, _ := w.InstanceByID("node-2", "db").Address(); host != "127.0.0.1" {
		t.Errorf("the instance of another node moved to %s", host)
	}
}
