package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkPeering measures the two peering rows of the product's numbers, Isthmus to Isthmus beside Consul to Consul in
// one run and by the same requests: the first sync of 1,000 exported services, and one more export among 200 and among
// 1,000, from the acknowledged registration until it can be seen at the importer.
func BenchmarkPeering(b *testing.B) {
	for range b.N {
		ours, theirs := measurePeering(b, startBench), measurePeering(b, startConsul)
		for _, r := range []struct {
			name string
			peeringResult
		}{{"isthmus", ours}, {"consul", theirs}} {
			b.Logf("%-8s first sync of 1,000 services %v (to ask for them again takes %v), CPU of both %v; one more: p50 %v among 200, p50 %v p99 %v among 1,000",
				r.name, r.sync.Round(time.Millisecond), r.asking.Round(time.Millisecond), r.cpu, quantile(r.among200, 0.5), quantile(r.among1000, 0.5), quantile(r.among1000, 0.99))
		}
		b.ReportMetric(float64(ours.sync)/float64(theirs.sync), "x-consul-first-sync")
		b.ReportMetric(float64(quantile(ours.among1000, 0.5))/float64(quantile(theirs.among1000, 0.5)), "x-consul-one-more")
		b.ReportMetric(0, "ns/op")
	}
}

type peeringResult struct {
	sync, cpu           time.Duration
	asking              time.Duration // what the questions alone take, once everything is there
	among200, among1000 []time.Duration
}

func measurePeering(b *testing.B, start func(*testing.B, string) *benchServer) peeringResult {
	b.Helper()
	exporter, importer := start(b, "exporter"), start(b, "importer")
	exporter.call(b, "PUT", "/v1/config", map[string]any{
		"Kind": "exported-services", "Name": "default",
		"Services": []any{map[string]any{"Name": "*", "Consumers": []any{map[string]any{"Peer": "importer"}}}},
	}, nil)
	exporter.call(b, "PUT", "/v1/agent/service/register", map[string]any{"Kind": "mesh-gateway", "Name": "gateway", "Address": "127.0.0.1", "Port": 8443}, nil)
	for i := range 1000 {
		exporter.registerMeshed(b, fmt.Sprintf("service-%d", i), i)
	}
	var token struct{ PeeringToken string }
	exporter.call(b, "POST", "/v1/peering/token", map[string]any{"PeerName": "importer"}, &token)
	before, began := exporter.cpu(b)+importer.cpu(b), time.Now()
	importer.call(b, "POST", "/v1/peering/establish", map[string]any{"PeerName": "exporter", "PeeringToken": token.PeeringToken}, nil)
	importer.seesAll(b)
	result := peeringResult{sync: time.Since(began), cpu: exporter.cpu(b) + importer.cpu(b) - before}
	again := time.Now()
	importer.seesAll(b)
	result.asking = time.Since(again)
	oneMore := func(prefix string) (times []time.Duration) {
		for i := range 20 {
			name := fmt.Sprintf("%s-%d", prefix, i)
			exporter.registerMeshed(b, name, 2000+i)
			acknowledged := time.Now()
			importer.sees(b, name)
			times = append(times, time.Since(acknowledged))
		}
		return times
	}
	result.among1000 = oneMore("among-1000")
	for i := range 800 {
		exporter.call(b, "PUT", fmt.Sprintf("/v1/agent/service/deregister/service-%d", i), nil, nil)
	}
	result.among200 = oneMore("among-200")
	return result
}

// registerMeshed registers a service with a sidecar: Consul shows no other to a peer's proxies.
func (s *benchServer) registerMeshed(b *testing.B, name string, i int) {
	b.Helper()
	s.call(b, "PUT", "/v1/agent/service/register", map[string]any{
		"Name": name, "Port": 9000, "Connect": map[string]any{"SidecarService": map[string]any{"Port": 20000 + i, "Checks": []any{}}},
	}, nil)
}

// seesAll waits until the importer shows all services of the first sync, one after the other.
func (s *benchServer) seesAll(b *testing.B) {
	b.Helper()
	for i := range 1000 {
		s.sees(b, fmt.Sprintf("service-%d", i))
	}
}

// sees waits until the importer shows a service of its peer to proxies: it asks once, and then waits for changes.
func (s *benchServer) sees(b *testing.B, name string) {
	b.Helper()
	deadline := time.Now().Add(patience)
	for index := ""; time.Now().Before(deadline); {
		request, err := http.NewRequestWithContext(b.Context(), "GET", "http://"+s.http+"/v1/health/connect/"+name+"?peer=exporter&wait=5s&index="+index, nil)
		if err != nil {
			b.Fatal(err)
		}
		request.Header.Set("X-Consul-Token", s.token)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			b.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		if closed := response.Body.Close(); cmp.Or(err, closed) != nil {
			b.Fatal(err, closed)
		}
		if response.StatusCode == http.StatusOK && strings.TrimSpace(string(text)) != "[]" {
			return
		}
		index = response.Header.Get("X-Consul-Index")
	}
	b.Fatalf("%s is not seen after %v", name, patience)
}

// startConsul starts the Consul that `make consul` built.
func startConsul(b *testing.B, name string) *benchServer {
	b.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		b.Fatal(err)
	}
	ports, dir := freePorts(6), b.TempDir()
	s := &benchServer{http: "127.0.0.1:" + ports[0]}
	config := fmt.Sprintf(`{"ports": {"http": %s, "grpc": %s, "grpc_tls": %s, "server": %s, "serf_lan": %s, "serf_wan": %s, "dns": -1}, "connect": {"enabled": true}}`,
		ports[0], ports[1], ports[2], ports[3], ports[4], ports[5])
	if err := os.WriteFile(dir+"/config.json", []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	// A dev agent keeps nothing on the disk: what it takes for that is not in its numbers.
	s.cmd = exec.Command(filepath.Join(cache, "isthmus", "consul", "1.15.3", "consul"),
		"agent", "-dev", "-node", name, "-config-file", dir+"/config.json", "-log-level", "error")
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		b.Fatalf("%v: run `make consul`", err)
	}
	b.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = s.cmd.Wait()                          // how it ended does not matter
	})
	s.ready(b, name, "/v1/connect/ca/roots")
	return s
}
