package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// running runs a plane until the test ends, and returns what it ends with.
func running(t *testing.T, p *plane) <-chan error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- p.Run(ctx, func() (config.Server, error) { return p.cfg, nil })
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	<-p.synced
	return ended
}

// put sends a request as the operator of a plane and returns its status.
func put(t *testing.T, p *plane, path string, body []byte) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+p.listeners.http.Addr().String()+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	token, err := p.store.OperatorToken()
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Consul-Token", token.Reveal())
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// TestAuditNamesTheCredential: the trail says by whose token an entry was written.
func TestAuditNamesTheCredential(t *testing.T) {
	p := opened(t, planeConfig(t))
	running(t, p)
	if status := put(t, p, "/v1/config", []byte(`{"Kind": "service-defaults", "Name": "web"}`)); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	records, err := p.store.AuditRecords(1, 0)
	if err != nil || len(records) != 1 {
		t.Fatalf("%v, %v", records, err)
	}
	if r := records[0]; r.Action != "config.write" || r.Actor != p.store.Tokens()[0].Accessor {
		t.Errorf("%+v: want the actor %s", r, p.store.Tokens()[0].Accessor)
	}
}

// TestRestoreRefusesWhatDoesNotFit: the sender is told what is wrong, and the plane goes on.
func TestRestoreRefusesWhatDoesNotFit(t *testing.T) {
	p, cfg := opened(t, planeConfig(t)), planeConfig(t)
	running(t, p)
	cfg.NodeName = "node-2"
	other := opened(t, cfg)
	var foreign bytes.Buffer
	if err := other.store.Snapshot(&foreign); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{"nothing": nil, "text": []byte("hello"), "cut off": foreign.Bytes()[:foreign.Len()/2], "foreign": foreign.Bytes()} {
		if status := put(t, p, "/v1/snapshot", body); status != http.StatusBadRequest {
			t.Errorf("%s: status %d, want 400", name, status)
		}
	}
	if status := put(t, p, "/v1/config", []byte(`{"Kind": "service-defaults", "Name": "web"}`)); status != http.StatusOK {
		t.Errorf("afterwards: status %d", status)
	}
}

// TestRestoreEndsThePlane: once a backup is in, the plane ends by itself, after its answer.
func TestRestoreEndsThePlane(t *testing.T) {
	p := opened(t, planeConfig(t))
	ended := running(t, p)
	var backup bytes.Buffer
	if err := p.store.Snapshot(&backup); err != nil {
		t.Fatal(err)
	}
	if status := put(t, p, "/v1/snapshot", backup.Bytes()); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	if err := <-ended; !errors.Is(err, errRestored) {
		t.Errorf("ended with %v", err)
	}
}

func TestRestorable(t *testing.T) {
	p := &plane{cfg: config.Server{Datacenter: "dc1", NodeName: "n1"}}
	for want, cluster := range map[string]snapshot.Cluster{
		"":                {Datacenter: "dc1", NodeName: "n1"},
		"--datacenter d2": {Datacenter: "d2", NodeName: "n1"},
		"--node-name n2":  {Datacenter: "dc1", NodeName: "n2"},
	} {
		if err := p.restorable(cluster); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cluster, err, want)
		}
	}
}

// TestSocketsStayOpen: who connects between two planes waits for the second.
func TestSocketsStayOpen(t *testing.T) {
	held := sockets{}
	defer held.close()
	first, err := held.listen(t.Context(), "http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := first.Addr().String()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	waiting, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatalf("between two planes: %v", err)
	}
	defer waiting.Close()
	if held.inherited() {
		t.Error("inherited from nobody")
	}
	second, err := held.listen(t.Context(), "http", "127.0.0.1:0")
	if err != nil || second.Addr().String() != address || !held.inherited() {
		t.Fatalf("%v: want %s again", err, address)
	}
	defer second.Close()
	accepted, err := second.Accept()
	if err != nil {
		t.Fatal(err)
	}
	accepted.Close()
	other, err := held.listen(t.Context(), "xds", "127.0.0.1:0")
	if err != nil || other.Addr().String() == address {
		t.Fatalf("xds at %v, %v", other.Addr(), err)
	}
	other.Close()
}
