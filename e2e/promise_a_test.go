package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// TestPromiseAReachable: web@alpha reaches db@beta in both gateway modes; a direct connection between the clusters'
// sidecars is impossible; 100 MB each way arrive intact.
func TestPromiseAReachable(t *testing.T) { reachable(t, lab.New) }

// TestPromiseAReachableInContainers is the same, with Envoys in containers.
func TestPromiseAReachableInContainers(t *testing.T) { reachable(t, lab.NewDocker) }

func reachable(t *testing.T, newLab func(*testing.T) *lab.Lab) {
	for _, mode := range []string{"remote", "local"} {
		t.Run(mode, func(t *testing.T) {
			p := newPair(newLab(t), mode, false)
			if p.Isolated() {
				address := p.beta.Host.Sidecar + ":" + sidecarPort
				if conn, err := p.alpha.Host.Dial(p.Context(), address); err == nil {
					_ = conn.Close()
					t.Errorf("alpha connects to %s of beta without a gateway", address)
				}
			}
			bulk(t, p, 100<<20)
			if n := p.gatewayB.Stat("tcp.exp~.*downstream_cx_total"); n == 0 {
				t.Error("no connection went through beta's gateway")
			}
			if n := p.gatewayA.Stat("tcp.imp~.*downstream_cx_total"); (n == 0) == (mode == "local") {
				t.Errorf("mode %s: %d connections went through alpha's gateway", mode, n)
			}
		})
	}
}

// bulk sends size random bytes to db, which echoes them, and compares what comes back.
func bulk(t *testing.T, p *pair, size int64) {
	t.Helper()
	call, err := p.alpha.Host.Open(p.Context(), up(p.alpha, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = call.Close() }()
	_ = call.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprintln(call, "bulk echo"); err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{1})
	sent, received := sha256.New(), sha256.New()
	failed := make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.MultiWriter(call, sent), random, size)
		failed <- err
	}()
	if n, err := io.CopyN(received, call, size); err != nil {
		t.Fatalf("received %d of %d bytes: %v", n, size, err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	if s, r := hex.EncodeToString(sent.Sum(nil)), hex.EncodeToString(received.Sum(nil)); s != r {
		t.Errorf("sent %s, received %s", s, r)
	}
	t.Logf("%d MB each way, intact", size>>20)
}
