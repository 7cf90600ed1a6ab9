package xds

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
)

const (
	benchChanges = 200
	benchRounds  = 5                // of connecting
	benchIdle    = 60 * time.Second // before memory is measured
)

// BenchmarkThousandProxies measures this server and its anchors side by side: a thousand sidecars that connect at once, 200
// changes of one endpoint set that all of them use, CPU and memory of the server meanwhile. It prints ratios to raw gRPC.
func BenchmarkThousandProxies(b *testing.B) {
	names := []string{"raw", "snapshot", "isthmus"}
	results := map[string]*benchResult{}
	for range b.N {
		var running []*benchRun
		for _, name := range names {
			r := startBench(b, name)
			defer r.stop()
			running = append(running, r)
			results[name] = &r.result
		}
		for range benchRounds {
			for _, r := range running {
				r.disconnect()
				r.connect(b)
			}
		}
		for generation := 1; generation <= benchChanges; generation++ {
			for _, r := range running {
				r.change(b, generation)
			}
		}
		<-time.After(benchIdle) // what is measured is what stays
		for _, r := range running {
			r.finish(b)
		}
	}
	raw := results["raw"]
	for _, name := range names {
		r := results[name]
		b.Logf("%-9s %s", name, r.against(raw))
	}
	ours := results["isthmus"]
	b.ReportMetric(ratio(quantile(ours.changes, 0.99), quantile(raw.changes, 0.99)), "x-raw-change-p99")
	b.ReportMetric(ratio(ours.cpu, raw.cpu), "x-raw-change-cpu")
	b.ReportMetric(float64(ours.rss)/float64(raw.rss), "x-raw-memory")
	b.ReportMetric(ratio(quantile(ours.connects, 0.5), quantile(raw.connects, 0.5)), "x-raw-connect-p99")
	b.ReportMetric(0, "ns/op")
}

// A benchResult is what one server took.
type benchResult struct {
	connects []time.Duration // by round, the 99th of a hundred proxies: from the first dial of all until it has everything
	last     []time.Duration // by round, the last proxy
	connect  []time.Duration // by round, CPU of the server
	changes  []time.Duration // of each change: until the last proxy has it
	cpu      time.Duration   // of the server, for one change
	rss      int64
}

func (r *benchResult) against(raw *benchResult) string {
	line := func(what string, value, of time.Duration) string {
		return fmt.Sprintf("%s %v (%.2f x raw)  ", what, value.Round(10*time.Microsecond), ratio(value, of))
	}
	return line("change p50", quantile(r.changes, 0.5), quantile(raw.changes, 0.5)) +
		line("p99", quantile(r.changes, 0.99), quantile(raw.changes, 0.99)) +
		line("CPU", r.cpu, raw.cpu) +
		fmt.Sprintf("memory %d MB (%.2f x raw)  ", r.rss>>20, float64(r.rss)/float64(raw.rss)) +
		line("connect p99", quantile(r.connects, 0.5), quantile(raw.connects, 0.5)) +
		line("last", quantile(r.last, 0.5), quantile(raw.last, 0.5)) +
		line("CPU", quantile(r.connect, 0.5), quantile(raw.connect, 0.5))
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func quantile(list []time.Duration, q float64) time.Duration {
	ordered := slices.Sorted(slices.Values(list))
	return ordered[min(int(q*float64(len(ordered))), len(ordered)-1)]
}

// A benchRun is one server in its own process, and its proxies in this one.
type benchRun struct {
	process *exec.Cmd
	input   interface{ Write([]byte) (int, error) }
	output  *bufio.Reader
	address string
	tls     *tls.Config
	cancel  context.CancelFunc
	ended   sync.WaitGroup
	proxies []*benchProxy
	before  time.Duration // CPU of the server
	result  benchResult
	arrived chan time.Time // the last proxy of a round has what it waits for
	missing atomic.Int64
}

func startBench(b *testing.B, name string) *benchRun {
	b.Helper()
	r := &benchRun{process: exec.Command(os.Args[0]), arrived: make(chan time.Time, 1)}
	r.process.Env = append(os.Environ(), benchVariable+"="+name)
	r.process.Stderr = os.Stderr
	input, err := r.process.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	output, err := r.process.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	r.input, r.output = input, bufio.NewReader(output)
	if err := r.process.Start(); err != nil {
		b.Fatal(err)
	}
	var der string
	r.read(b, &r.address, &der)
	bytes, err := base64.StdEncoding.DecodeString(der)
	if err != nil {
		b.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(bytes)
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	r.tls = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
	return r
}

func (r *benchRun) read(b *testing.B, values ...any) {
	b.Helper()
	line, err := r.output.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Sscan(line, values...); err != nil {
		b.Fatalf("%q: %v", line, err)
	}
}

func (r *benchRun) usage(b *testing.B) (cpu time.Duration, rss int64) {
	fmt.Fprintln(r.input, "usage")
	var nanoseconds int64
	r.read(b, &nanoseconds, &rss)
	return time.Duration(nanoseconds), rss
}

// connect dials for all the proxies at once.
func (r *benchRun) connect(b *testing.B) {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.missing.Store(benchProxies)
	before, _ := r.usage(b)
	start := time.Now()
	for i := range benchProxies {
		p := &benchProxy{run: r, id: benchID(i)}
		r.proxies = append(r.proxies, p)
		r.ended.Go(func() { p.serve(ctx, b) })
	}
	r.wait(b)
	var took []time.Duration
	for _, p := range r.proxies {
		took = append(took, p.configured.Sub(start))
	}
	r.result.connects = append(r.result.connects, quantile(took, 0.99))
	r.result.last = append(r.result.last, quantile(took, 1))
	r.before, _ = r.usage(b)
	r.result.connect = append(r.result.connect, r.before-before)
}

func (r *benchRun) disconnect() {
	if r.cancel != nil {
		r.cancel()
		r.ended.Wait()
		r.proxies = nil
	}
}

func (r *benchRun) wait(b *testing.B) time.Time {
	b.Helper()
	select {
	case at := <-r.arrived:
		return at
	case <-time.After(time.Minute):
		b.Fatalf("%d proxies have not got what they wait for", r.missing.Load())
		return time.Time{}
	}
}

// arrive counts a proxy that has got what all wait for.
func (r *benchRun) arrive(at time.Time) {
	if r.missing.Add(-1) == 0 {
		r.arrived <- at
	}
}

func (r *benchRun) change(b *testing.B, generation int) {
	r.missing.Store(benchProxies)
	fmt.Fprintln(r.input, "change", generation)
	last := r.wait(b)
	var at int64
	r.read(b, &at)
	r.result.changes = append(r.result.changes, last.Sub(time.Unix(0, at)))
}

func (r *benchRun) finish(b *testing.B) {
	cpu, rss := r.usage(b)
	r.result.cpu, r.result.rss = (cpu-r.before)/benchChanges, rss
}

func (r *benchRun) stop() {
	r.disconnect()
	r.process.Process.Kill()
	r.process.Wait()
}

// A benchProxy asks for what Envoy asks for, in its order, and acknowledges everything.
type benchProxy struct {
	run        *benchRun
	id         string
	stream     discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	got        map[string]bool
	asked      bool // for listeners
	configured time.Time
}

// benchWanted is how many resources a proxy waits for.
var benchWanted = sync.OnceValue(func() int {
	wanted := 0
	for _, items := range benchResources(0) {
		wanted += len(items)
	}
	return wanted
})

func (p *benchProxy) serve(ctx context.Context, b *testing.B) {
	conn, err := grpc.NewClient(p.run.address, grpc.WithTransportCredentials(credentials.NewTLS(p.run.tls)))
	if err != nil {
		b.Error(err)
		return
	}
	defer conn.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, tokenHeader, "token-"+p.id)
	p.stream, err = discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		b.Error(err)
		return
	}
	p.got = map[string]bool{}
	p.ask(clusters)
	for {
		response, err := p.stream.Recv()
		if err != nil {
			if ctx.Err() == nil {
				b.Error(strings.TrimSpace(err.Error()))
			}
			return
		}
		p.take(response, time.Now())
	}
}

func (p *benchProxy) ask(k kind) {
	req := &request{TypeUrl: typeURLs[k], ResourceNamesSubscribe: benchNames[k]}
	if k == clusters {
		req.Node = node40(p.id)
	}
	p.stream.Send(req) // its error is the next Recv's
}

func (p *benchProxy) take(response *discoveryv3.DeltaDiscoveryResponse, at time.Time) {
	k := kindOf[response.TypeUrl]
	if p.configured.IsZero() {
		for _, r := range response.Resources {
			p.got[response.TypeUrl+r.Name] = true
		}
		if len(p.got) == benchWanted() {
			p.configured = at
			p.run.arrive(at)
		}
	} else if k == endpoints {
		p.run.arrive(at)
	}
	p.stream.Send(&request{TypeUrl: response.TypeUrl, ResponseNonce: response.Nonce})
	switch {
	case k == clusters:
		p.ask(endpoints)
		p.ask(secrets)
	case k == endpoints && !p.asked:
		p.asked = true
		p.ask(listeners)
	}
}
