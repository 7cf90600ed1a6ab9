package snapshot_test

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

func TestLoadedWorldKnowsNothingOlder(t *testing.T) {
	east := snapshot.Event{Key: snapshot.NewKey(snapshot.TablePeers, "east"), Object: &snapshot.Peer{Name: "east"}}
	w := snapshot.Loaded(7, []snapshot.Event{east})
	if w.Index != 7 || w.Peer("east") == nil {
		t.Errorf("World at %d with peer %v", w.Index, w.Peer("east"))
	}
	w = w.With(9, []snapshot.Event{{Key: east.Key}})
	for name, c := range map[string]struct{ got, want uint64 }{
		"deleted since":         {w.Modified(snapshot.TablePeers, "east"), 9},
		"its table":             {w.Modified(snapshot.TablePeers), 9},
		"perhaps gone before":   {w.Modified(snapshot.TablePeers, "west"), 7},
		"perhaps gone, a table": {w.Modified(snapshot.TableImports), 7},
		"perhaps gone, proxies": {w.ProxiesModified("db"), 7},
		"a new World":           {snapshot.NewWorld().Modified(snapshot.TablePeers), 0},
	} {
		if c.got != c.want {
			t.Errorf("%s: modified at %d: want %d", name, c.got, c.want)
		}
	}
}
