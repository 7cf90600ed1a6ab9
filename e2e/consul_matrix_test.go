package e2e

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// TestConsulMatrix peers Isthmus with real Consuls, with each as dialer, and lets each export to the other: bytes go
// through the real Envoys of both.
func TestConsulMatrix(t *testing.T) {
	for _, version := range []string{lab.Consul115, lab.Consul113} {
		t.Run("consul "+version, func(t *testing.T) {
			t.Run("isthmus dials", func(t *testing.T) {
				l := lab.New(t)
				isthmus, consul := isthmusSide(l, "alpha"), consulSide(l, "beta", version)
				matrix(l, consul, isthmus, isthmus, consul)
			})
			t.Run("consul dials", func(t *testing.T) {
				l := lab.New(t)
				isthmus, consul := isthmusSide(l, "alpha"), consulSide(l, "beta", version)
				matrix(l, isthmus, consul, isthmus, consul)
			})
		})
	}
}

// matrix is the life of one peering.
func matrix(l *lab.Lab, acceptor, dialer, isthmus, consul *side) {
	isthmus.mesh(consul.name)
	consul.mesh(isthmus.name)
	took := timed(l)
	peerSides(acceptor, dialer)
	took("established")
	l.Step("isthmus exports", func() { exchange(isthmus, consul) })
	l.Step("consul exports", func() { exchange(consul, isthmus) })
	took("exchanged")
}

// timed returns a function that logs how long it took since it was called last.
func timed(l *lab.Lab) func(what string) {
	last := time.Now()
	return func(what string) {
		l.T.Logf("%s: %v", what, time.Since(last).Round(time.Millisecond))
		last = time.Now()
	}
}

// exchange exports the service of one side to the other, and takes it back, allows and denies.
func exchange(exporter, importer *side) {
	l := exporter.Lab
	took := timed(l)
	exporter.intend(importer, "deny")
	exporter.export(importer.name)
	l.Eventually(importer.name+" imports", importer.imports(exporter))
	took("imported")
	exporter.intend(importer, "allow")
	l.Eventually(importer.name+" calls "+exporter.name, importer.calls(exporter))
	took("allowed")
	exporter.intend(importer, "deny")
	l.Eventually(importer.name+" is denied", not(importer.calls(exporter), "it is answered"))
	took("denied")
	exporter.intend(importer, "allow")
	l.Eventually(importer.name+" calls again", importer.calls(exporter))
	took("allowed again")
	exporter.export()
	l.Eventually(importer.name+" imports nothing", not(importer.imports(exporter), "it has instances"))
	l.Eventually(importer.name+" has no way", not(importer.calls(exporter), "it is answered"))
	took("un-exported")
	exporter.export(importer.name)
	l.Eventually(importer.name+" calls after the new export", importer.calls(exporter))
	took("exported again")
}
