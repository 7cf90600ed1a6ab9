package api

import (
	"context"
	"io"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/state"
)

// The same steps on the store that the product runs on: it batches writers, runs the checks of events on its own
// goroutine, and carries what they refuse back.
func TestOnTheRealStore(t *testing.T) {
	for name, steps := range map[string][]step{"config": configSteps, "intentions": intentionSteps, "catalog": catalogSteps} {
		t.Run(name, func(t *testing.T) {
			store := openStore(t)
			newLab(t, func(c *Config) { c.Store, c.Publisher = store, store.Publisher() }).run(steps)
		})
	}
}

func openStore(t *testing.T) *state.Store {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	store, err := state.Open(state.Config{Dir: t.TempDir(), Log: log, Actor: Actor})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	_, err = store.Commit(context.Background(),
		snapshot.Event{Key: snapshot.NewKey(snapshot.TableCluster, ""), Object: &snapshot.Cluster{ID: "c1", TrustDomain: "c1.consul", Datacenter: "dc1", NodeName: "node1"}},
		snapshot.Event{Key: snapshot.NewKey(snapshot.TableNodes, "node1"), Object: &snapshot.Node{Name: "node1", Address: "127.0.0.1", Datacenter: "dc1"}})
	if err != nil {
		t.Fatal(err)
	}
	return store
}
