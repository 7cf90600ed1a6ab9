package peering

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// BenchmarkFirstSync is the first sync of 1,000 exported services, and how many commits the importer needed for it. A
// commit takes as long as a disk does.
func BenchmarkFirstSync(b *testing.B) {
	commits := 0
	for b.Loop() {
		b.StopTimer()
		east, west := newCluster(b, "east"), newCluster(b, "west")
		east.commit(manyExports(1000)...)
		west.store.setRefuse(func([]snapshot.Event) error { <-time.After(3 * time.Millisecond); return nil })
		before := len(west.store.since(0))
		b.StartTimer()
		west.peerWith(east)
		west.await("all of them", func(w *snapshot.World) bool {
			last := w.Import("east", "service-999")
			return last != nil && len(w.Imports("east")) == 1000 && allRoutable(w)
		})
		b.StopTimer()
		commits += len(west.store.since(before))
		west.stop()
		east.stop()
		b.StartTimer()
	}
	b.ReportMetric(float64(commits)/float64(b.N), "commits/sync")
}
