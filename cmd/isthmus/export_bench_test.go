package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	grpccredentials "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
)

// benchExports is how many services are exported one by one while the clock runs.
const benchExports = 50

// BenchmarkOneMoreExport measures one more export on a gateway among 50 and among 5,000, on the whole product: a server
// as users run it, a peer that imports, and a gateway's xDS stream over TLS. It prints the server's CPU and the time from
// the acknowledged registration until the gateway has the chain, and the ratio of the two sizes.
func BenchmarkOneMoreExport(b *testing.B) {
	for range b.N {
		few, many := measureExports(b, 50), measureExports(b, 5000)
		for _, r := range []exportResult{few, many} {
			b.Logf("among %5d exports: CPU %8v for one more; at the gateway p50 %8v p99 %8v after it was acknowledged (write p50 %v)",
				r.exports, r.cpu, quantile(r.arrived, 0.5), quantile(r.arrived, 0.99), quantile(r.written, 0.5))
		}
		b.Logf("ratio of 5,000 to 50: CPU %.1f, p50 %.1f", float64(many.cpu)/float64(few.cpu), float64(quantile(many.arrived, 0.5))/float64(quantile(few.arrived, 0.5)))
		b.ReportMetric(float64(many.cpu)/float64(few.cpu), "x-cpu-5000-to-50")
		b.ReportMetric(0, "ns/op")
	}
}

type exportResult struct {
	exports          int
	cpu              time.Duration // of the server, for one more export
	written, arrived []time.Duration
}

func quantile(times []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[int(q*float64(len(sorted)-1))].Round(10 * time.Microsecond)
}

func measureExports(b *testing.B, exports int) exportResult {
	b.Helper()
	exporter, importer := startBench(b, "exporter"), startBench(b, "importer")
	var token struct{ PeeringToken string }
	exporter.call(b, "POST", "/v1/peering/token", map[string]any{"PeerName": "importer"}, &token)
	importer.call(b, "POST", "/v1/peering/establish", map[string]any{"PeerName": "exporter", "PeeringToken": token.PeeringToken}, nil)
	exporter.call(b, "PUT", "/v1/config", map[string]any{
		"Kind": "exported-services", "Name": "default",
		"Services": []any{map[string]any{"Name": "*", "Consumers": []any{map[string]any{"Peer": "importer"}}}},
	}, nil)
	exporter.call(b, "PUT", "/v1/agent/service/register", map[string]any{"Kind": "mesh-gateway", "Name": "gateway", "Address": "127.0.0.1", "Port": 8443}, nil)
	for i := range exports {
		exporter.register(b, fmt.Sprintf("service-%d", i))
	}
	gateway := exporter.gateway(b)
	for i := range exports {
		gateway.has(b, fmt.Sprintf("service-%d", i))
	}
	result := exportResult{exports: exports}
	before := exporter.cpu(b)
	for i := range benchExports {
		name := fmt.Sprintf("another-%d", i)
		start := time.Now()
		exporter.register(b, name)
		acknowledged := time.Now()
		at := gateway.has(b, name)
		result.written = append(result.written, acknowledged.Sub(start))
		result.arrived = append(result.arrived, max(0, at.Sub(acknowledged)))
	}
	result.cpu = ((exporter.cpu(b) - before) / benchExports).Round(10 * time.Microsecond)
	return result
}

// benchServer is a server in a process of its own.
type benchServer struct {
	http, xds, token string
	cmd              *exec.Cmd
}

func startBench(b *testing.B, name string) *benchServer {
	b.Helper()
	ports, data := freePorts(3), b.TempDir()
	s := &benchServer{http: "127.0.0.1:" + ports[0], xds: "127.0.0.1:" + ports[1]}
	s.cmd = exec.Command("isthmus", "serve", "--data-dir", data, "--node-name", name, "--http-addr", s.http, "--xds-addr", s.xds,
		"--peering-addr", "127.0.0.1:"+ports[2], "--allow-peer-addresses", "127.0.0.0/8", "--log-level", "error")
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = s.cmd.Wait()                          // how it ended does not matter
	})
	s.ready(b, name, "/readyz")
	token, err := os.ReadFile(data + "/operator.token")
	if err != nil {
		b.Fatal(err)
	}
	s.token = strings.TrimSpace(string(token))
	return s
}

// ready waits until the server answers a path with 200.
func (s *benchServer) ready(b *testing.B, name, path string) {
	b.Helper()
	deadline, tick := time.After(patience), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		response, err := http.Get("http://" + s.http + path)
		if err == nil && errors.Join(response.Body.Close()) == nil && response.StatusCode == http.StatusOK {
			return
		}
		select {
		case <-deadline:
			b.Fatalf("%s is not ready: %v", name, err)
		case <-tick.C:
		}
	}
}

// call sends a request that must succeed and decodes its answer into out, unless that is nil.
func (s *benchServer) call(b *testing.B, method, path string, body, out any) {
	b.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		b.Fatal(err)
	}
	request, err := http.NewRequestWithContext(b.Context(), method, "http://"+s.http+path, bytes.NewReader(text))
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("X-Consul-Token", s.token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	answer, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	if err == nil && out != nil {
		err = json.Unmarshal(answer, out)
	}
	if err != nil {
		b.Fatalf("%s %s: %v", method, path, err)
	}
}

func (s *benchServer) register(b *testing.B, name string) {
	b.Helper()
	s.call(b, "PUT", "/v1/agent/service/register", map[string]any{"Name": name, "Port": 9000}, nil)
}

// cpu returns the time that the server has computed for, in steps of the kernel's 10 ms.
func (s *benchServer) cpu(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	var ticks [2]int64
	fields := strings.Fields(rest)
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &ticks[0], &ticks[1]); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ticks[0]+ticks[1]) * 10 * time.Millisecond
}

const benchType = "type.googleapis.com/envoy.config."

// benchGateway is the xDS stream of a gateway: it acknowledges everything, and notes when it got its newest listener.
type benchGateway struct {
	listeners chan benchListener
	newest    benchListener
}

type benchListener struct {
	body []byte
	at   time.Time
}

func (s *benchServer) gateway(b *testing.B) *benchGateway {
	b.Helper()
	var token struct {
		Secret string `json:"secret"`
	}
	s.call(b, "POST", "/isthmus/v1/tokens", map[string]any{"role": "proxy", "proxy": "gateway"}, &token)
	conn, err := grpc.NewClient(s.xds,
		grpc.WithTransportCredentials(grpccredentials.NewTLS(&tls.Config{InsecureSkipVerify: true})), // what is measured is not who it is
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(b.Context(), "x-consul-token", token.Secret))
	b.Cleanup(func() { cancel(); _ = conn.Close() })
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		b.Fatal(err)
	}
	node := &corev3.Node{Id: "gateway", UserAgentName: "envoy", UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{
		UserAgentBuildVersion: &corev3.BuildVersion{Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40}},
	}}
	for _, kind := range []string{"cluster.v3.Cluster", "listener.v3.Listener"} {
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: benchType + kind}); err != nil {
			b.Fatal(err)
		}
	}
	g := &benchGateway{listeners: make(chan benchListener, 1000)}
	go g.follow(stream)
	return g
}

func (g *benchGateway) follow(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient) {
	for {
		response, err := stream.Recv()
		if err != nil {
			close(g.listeners)
			return
		}
		var endpoints []string
		for _, resource := range response.Resources {
			if resource.Name == "gw-ingress" {
				g.listeners <- benchListener{resource.Resource.Value, time.Now()}
			}
			if service, ok := strings.CutPrefix(resource.Name, "exp~importer~"); ok {
				endpoints = append(endpoints, "svc~"+service)
			}
		}
		if len(endpoints) > 0 { // as Envoy does for new clusters
			_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: benchType + "endpoint.v3.ClusterLoadAssignment", ResourceNamesSubscribe: endpoints}) // Recv tells
		}
		_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: response.TypeUrl, ResponseNonce: response.Nonce}) // Recv tells
	}
}

// has waits until the gateway's listener has the chain of a service, and returns when it came.
func (g *benchGateway) has(b *testing.B, service string) time.Time {
	b.Helper()
	deadline := time.After(patience)
	for !bytes.Contains(g.newest.body, []byte("exp~importer~"+service+"~")) {
		select {
		case newest, open := <-g.listeners:
			if !open {
				b.Fatal("the gateway's stream has ended")
			}
			g.newest = newest
		case <-deadline:
			b.Fatalf("the gateway has no chain for %s after %v", service, patience)
		}
	}
	return g.newest.at
}
