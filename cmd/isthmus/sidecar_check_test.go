package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestDeadSidecarLeavesWithAListeningCheck: who gives sidecars Consul's check "Connect Sidecar Listening" loses those that do not listen, and gets
// them back.
func TestDeadSidecarLeavesWithAListeningCheck(t *testing.T) {
	p := opened(t, planeConfig(t))
	running(t, p)
	envoy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := envoy.Addr().String()
	body := fmt.Sprintf(`{"Name": "db", "Port": 5432, "Connect": {"SidecarService": {"Port": %d, "Checks": [
		{"Name": "Connect Sidecar Listening", "TCP": %q, "Interval": "1s"}, {"Name": "Connect Sidecar Aliasing db", "AliasService": "db"}]}}}`,
		envoy.Addr().(*net.TCPAddr).Port, address)
	sub := p.store.Publisher().Subscribe()
	defer sub.Close()
	if status := put(t, p, "/v1/agent/service/register", []byte(body)); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	giveUp := time.NewTimer(30 * time.Second)
	defer giveUp.Stop()
	until := func(what string, want int) {
		t.Helper()
		for healthy(t, p, "db") != want {
			select {
			case <-sub.Ready():
				sub.Take()
			case <-giveUp.C:
				t.Fatalf("%s: db has %d healthy sidecars, want %d", what, healthy(t, p, "db"), want)
			}
		}
	}
	until("listening", 1)
	envoy.Close()
	until("dead", 0)
	if envoy, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	defer envoy.Close()
	until("back", 1)
}

// healthy counts what /v1/health/connect answers for a service.
func healthy(t *testing.T, p *plane, service string) int {
	t.Helper()
	response, err := http.Get("http://" + p.listeners.http.Addr().String() + "/v1/health/connect/" + service + "?passing")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var found []any
	if err := json.Unmarshal(text, &found); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return len(found)
}
