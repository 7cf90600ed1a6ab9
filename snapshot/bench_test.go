package snapshot

import (
	"fmt"
	"testing"
	"time"
)

// exporting is a mesh that exports n services to one peer by the wildcard, and a gateway.
func exporting(n int) *follower {
	f := newFollower()
	events := []Event{us(true), roots("root"), established("east"), gatewayNamed("gw-1"), exports(map[string][]string{"*": {"east"}})}
	for i := range n {
		events = append(events, service(fmt.Sprintf("service-%04d", i)))
	}
	f.apply(true, events...)
	return f
}

// One more export, and its end, among few and among many. What grows with the number is one copied pointer for each; the
// ratio is what matters, and it is printed by BenchmarkExportRatio.
func BenchmarkOneExport(b *testing.B) {
	for _, n := range []int{50, 5000} {
		b.Run(fmt.Sprintf("among-%d", n), func(b *testing.B) {
			f := exporting(n)
			b.ResetTimer()
			for b.Loop() {
				f.oneMore()
			}
		})
	}
}

func (f *follower) oneMore() {
	come := service("service-2500-more")
	f.apply(false, come)
	f.apply(false, Event{Key: come.Key})
}

func BenchmarkExportRatio(b *testing.B) {
	few, many := exporting(50), exporting(5000)
	var spent [2]time.Duration
	for b.Loop() {
		for i, f := range []*follower{few, many} {
			start := time.Now()
			f.oneMore()
			spent[i] += time.Since(start)
		}
	}
	b.ReportMetric(float64(spent[1])/float64(spent[0]), "ratio")
}

// An endpoint that fails and recovers in a mesh of 1,000 sidecars.
func BenchmarkOneEndpoint(b *testing.B) {
	f := exporting(0)
	var events []Event
	for i := range 1000 {
		events = append(events, sidecarOf(fmt.Sprintf("service-%d", i%100), fmt.Sprintf("p%d-1", i)))
	}
	f.apply(false, events...)
	b.ResetTimer()
	for b.Loop() {
		f.apply(false, check("p7-1", "critical"))
		f.apply(false, check("p7-1", "passing"))
	}
}

// A mesh of 1,000 sidecars from scratch: a start of the process.
func BenchmarkFromScratch(b *testing.B) {
	f := exporting(100)
	var events []Event
	for i := range 1000 {
		events = append(events, sidecarOf(fmt.Sprintf("service-%04d", i%100), fmt.Sprintf("p%d-1", i)))
	}
	f.apply(false, events...)
	b.ResetTimer()
	for b.Loop() {
		NewViews().Update(Update{World: f.world, All: true})
	}
}
