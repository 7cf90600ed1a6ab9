package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// TestConsulMatrix peers Isthmus with real Consuls, with each as dialer, and lets each export to the other: bytes go
// through the real Envoys of both.
func TestConsulMatrix(t *testing.T) {
	for _, version := range []string{lab.Consul115, lab.Consul113} {
		t.Run("consul "+version, func(t *testing.T) {
			var plain []string // a token of 1.13 names no CA
			if version == lab.Consul113 {
				plain = append(plain, "--allow-plaintext-peers")
			}
			t.Run("isthmus dials", func(t *testing.T) {
				l := lab.New(t)
				isthmus, consul := isthmusSide(l, "alpha", plain...), consulSide(l, "beta", version)
				matrix(l, consul, isthmus, isthmus, consul, "remote", "remote")
			})
			t.Run("consul dials", func(t *testing.T) {
				l := lab.New(t)
				isthmus, consul := isthmusSide(l, "alpha", plain...), consulSide(l, "beta", version)
				mode := "local"
				if version == lab.Consul113 { // has no other mode for peers
					mode = "remote"
				}
				matrix(l, isthmus, consul, isthmus, consul, "local", mode)
			})
		})
	}
}

// matrix is the life of one peering, in a gateway mode of each side.
func matrix(l *lab.Lab, acceptor, dialer, isthmus, consul *side, isthmusMode, consulMode string) {
	isthmus.mesh(consul.name, isthmusMode)
	consul.mesh(isthmus.name, consulMode)
	took := timed(l)
	peerSides(acceptor, dialer)
	took("established")
	l.Step("isthmus exports", func() { exchange(isthmus, consul) })
	l.Step("consul exports", func() { exchange(consul, isthmus) })
	took("exchanged")

	if dialect := isthmus.status(consul).Dialect; dialect != consul.speaks() {
		l.T.Errorf("%s says that %s speaks dialect %s", isthmus.name, consul.name, dialect)
	}
	held, since := []*lab.Held{isthmus.hold(), consul.hold()}, time.Now()
	old := consul.leaves()
	rotate(isthmus, consul)
	took("root of the Consul rotated")
	for _, side := range []*side{isthmus, consul} {
		side.process().Kill()
		side.Start()
		active(acceptor, dialer)
		bothCall(isthmus, consul)
		took(side.name + " restarted")
	}
	l.Eventually("the sidecar of "+consul.name+" has a certificate of the new root", func() error {
		for _, leaf := range consul.leaves() {
			if !slices.Contains(old, leaf) {
				return nil
			}
		}
		return fmt.Errorf("it has %v", old)
	})
	bothCall(isthmus, consul)
	stayOpen(l.T, drain-time.Since(since), held...)
	took("connections stayed open")

	for _, deleter := range []*side{isthmus, consul} {
		deleted(deleter, isthmus, consul)
		took("deleted by " + deleter.name)
		peerSides(acceptor, dialer)
		bothCall(isthmus, consul)
		took("established again")
	}
}

// bothCall waits until each side's application reaches the other's.
func bothCall(a, b *side) {
	a.T.Helper()
	a.Eventually(a.name+" calls "+b.name, a.calls(b))
	a.Eventually(b.name+" calls "+a.name, b.calls(a))
}

// rotate gives the Consul a new root, of which its peer hears.
func rotate(isthmus, consul *side) {
	l := isthmus.Lab
	l.T.Helper()
	before := isthmus.roots(consul)
	consul.consul.RotateCA()
	l.Eventually(isthmus.name+" has both roots", func() error {
		if after := isthmus.roots(consul); after != before+1 {
			return fmt.Errorf("it has %d", after)
		}
		return nil
	})
	bothCall(isthmus, consul)
}

// deleted lets one side delete the peering, and the other when it has seen that.
func deleted(deleter, a, b *side) {
	l := deleter.Lab
	l.T.Helper()
	other := a
	if deleter == a {
		other = b
	}
	deleter.CLI("peering", "delete", "-name", other.name)
	l.Eventually(other.name+" has the peering TERMINATED", other.is(deleter, "TERMINATED"))
	l.Eventually(deleter.name+" has no peering", deleter.lost(other))
	for _, end := range [][2]*side{{a, b}, {b, a}} {
		l.Eventually(end[0].name+" imports nothing", not(end[0].imports(end[1]), "it has instances"))
		l.Eventually(end[0].name+" has no way", not(end[0].calls(end[1]), "it is answered"))
	}
	other.CLI("peering", "delete", "-name", deleter.name)
	l.Eventually(other.name+" has no peering", other.lost(deleter))
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

// TestConsulCallerThatKeptTrying: a caller behind a Consul's sidecar that kept trying while it was denied gets through as
// soon as it is allowed, with the service-defaults entry of docs/compatibility.md.
func TestConsulCallerThatKeptTrying(t *testing.T) {
	l := lab.New(t)
	isthmus, consul := isthmusSide(l, "alpha"), consulSide(l, "beta", lab.Consul115)
	consul.mustWrite(forgiving(consul.name, isthmus.name))
	isthmus.mesh(consul.name, "remote")
	consul.mesh(isthmus.name, "remote")
	peerSides(isthmus, consul)
	isthmus.export(consul.name)
	l.Eventually(consul.name+" imports", consul.imports(isthmus))
	if _, err := lab.Wait(brief, consul.calls(isthmus)); err == nil {
		t.Fatal("it is answered without an intention")
	}
	if n := consul.sidecar.Stat(`outlier_detection.ejections_detected_consecutive_5xx`); n == 0 {
		t.Error("no failure was counted: the test shows nothing")
	}
	isthmus.intend(consul, "allow")
	l.Promise("allowed at last", time.Second, consul.calls(isthmus))
}
