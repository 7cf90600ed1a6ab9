package snapshot

import "testing"

// What waits for the other side, or for an intention that status asks for with the export, is nothing that a proxy lacks.
func TestWaitingIsExpected(t *testing.T) {
	for _, test := range []struct {
		name   string
		change Event
		want   bool // something unexpected is left out
	}{
		{"nobody may call yet", entry(intentions("db")), false},
		{"a token that nobody has used", Event{Key: NewKey(TablePeers, "east"), Object: &Peer{Name: "east", State: Pending, Role: Acceptor}}, false},
		{"a peer that is refused", Event{Key: NewKey(TablePeers, "east"), Object: &Peer{Name: "east", State: Establishing, Problem: "claims our trust domain"}}, true},
		{"a peer that has gone", Event{Key: NewKey(TablePeers, "east"), Object: &Peer{Name: "east", State: Terminated}}, true},
	} {
		f := mesh()
		f.apply(false, test.change)
		unexpected := false
		for _, skipped := range append(f.gateway("gw-1").Skipped, f.sidecar("db-1").Skipped...) {
			unexpected = unexpected || !skipped.Expected && skipped.Kind != "proxy"
		}
		if unexpected != test.want {
			t.Errorf("%s: %+v and %+v, unexpected %v", test.name, f.gateway("gw-1").Skipped, f.sidecar("db-1").Skipped, unexpected)
		}
	}
}
