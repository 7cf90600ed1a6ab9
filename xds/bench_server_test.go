package xds

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/isthmus-mesh/isthmus/internal/redact"
)

// benchVariable makes this test binary one of the servers of the benchmark, so that its CPU and memory are its own.
const benchVariable = "ISTHMUS_XDS_BENCH_SERVER"

// A benchServer is the one that is measured, or an anchor. All have the same gRPC options, TLS, token check and resources.
type benchServer interface {
	// serve registers the service. change gives the endpoint set its next generation.
	serve(*grpc.Server)
	change(generation int)
}

var benchServers = map[string]func() benchServer{
	"raw":      func() benchServer { return &rawServer{} },
	"snapshot": func() benchServer { return newSnapshotServer() },
	"isthmus":  func() benchServer { return newIsthmusServer() },
}

// benchMode returns what this process is to do instead of tests.
func benchMode() func() {
	name := os.Getenv(benchVariable)
	if name == "" {
		return nil
	}
	return func() { runBenchServer(benchServers[name]()) }
}

// runBenchServer prints where it serves, then does what it reads: "change N" and "usage", until its input ends.
func runBenchServer(b benchServer) {
	serverTLS, _ := selfSigned()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	limits := New(Config{}) // for its gRPC options
	server := grpc.NewServer(limits.options(serverTLS)...)
	b.serve(server)
	go server.Serve(listener)
	fmt.Println(listener.Addr(), base64.StdEncoding.EncodeToString(serverTLS.Certificates[0].Certificate[0]))
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		command, argument, _ := strings.Cut(input.Text(), " ")
		switch command {
		case "change":
			var generation int
			fmt.Sscan(argument, &generation)
			at := time.Now()
			b.change(generation)
			fmt.Println(at.UnixNano())
		case "usage":
			cpu, rss := usage()
			fmt.Println(cpu.Nanoseconds(), rss)
		}
	}
}

// usage returns the CPU time and the resident bytes of this process.
func usage() (cpu time.Duration, rss int64) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	var size, resident int64
	fmt.Sscan(string(statm), &size, &resident)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), resident * int64(os.Getpagesize())
}

func benchAuthenticate(_ context.Context, token redact.String) (string, error) {
	id, found := strings.CutPrefix(token.Reveal(), "token-")
	if !found {
		return "", errToken
	}
	return id, nil
}

func benchToken(ctx context.Context) error {
	values := metadata.ValueFromIncomingContext(ctx, tokenHeader)
	if len(values) != 1 {
		return errNoToken
	}
	_, err := benchAuthenticate(ctx, redact.NewString(values[0]))
	return err
}

// isthmusServer is the server of this package.
type isthmusServer struct{ *Server }

func newIsthmusServer() *isthmusServer {
	s := newServer(Config{Authenticate: benchAuthenticate, Leaves: benchLeaves{}})
	set := benchSet()
	for i := range benchProxies {
		own := *set
		own.Proxy = benchID(i)
		s.SetProxy(&own)
	}
	s.SetEndpoints(benchGateways())
	s.SetEndpoints(benchEndpoints(0))
	return &isthmusServer{s}
}

func (s *isthmusServer) serve(server *grpc.Server) { s.Register(server) }
func (s *isthmusServer) change(generation int)     { s.SetEndpoints(benchEndpoints(generation)) }

// rawServer is what gRPC itself costs: it answers the first request of each type with a message that is ready, and a change
// is one message that is ready, sent to every stream. It knows no subscriptions, versions or answers.
type rawServer struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	ready   [kinds]*message
	mu      sync.Mutex
	streams map[grpc.ServerStream]bool
}

func (s *rawServer) serve(server *grpc.Server) {
	s.streams = map[grpc.ServerStream]bool{}
	for k, items := range benchResources(0) {
		s.ready[k] = encode(kind(k), "1", items, nil)
	}
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, s)
}

func (s *rawServer) DeltaAggregatedResources(stream grpcConn) error {
	if err := benchToken(stream.Context()); err != nil {
		return err
	}
	s.mu.Lock()
	s.streams[stream] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams, stream)
	}()
	var answered [kinds]bool
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		k := kindOf[req.TypeUrl]
		if !answered[k] {
			answered[k] = true
			if err := stream.SendMsg(s.ready[k]); err != nil {
				return err
			}
		}
	}
}

func (s *rawServer) change(generation int) {
	r := benchEndpoints(generation)
	ready := encode(endpoints, fmt.Sprint(generation), []item{{name: r.Name, version: r.Version, body: r.Body}}, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	var prepared grpc.PreparedMsg
	first := true
	for stream := range s.streams {
		if first {
			if err := prepared.Encode(stream, ready); err != nil {
				panic(err)
			}
			first = false
		}
		stream.SendMsg(&prepared)
	}
}

// snapshotServer is go-control-plane's, with one snapshot that all the proxies share.
type snapshotServer struct {
	cache     cachev3.SnapshotCache
	resources map[string][]types.Resource
}

func newSnapshotServer() *snapshotServer {
	s := &snapshotServer{cache: cachev3.NewSnapshotCache(true, cachev3.IDHash{}, nil), resources: map[string][]types.Resource{}}
	for k, items := range benchResources(0) {
		for _, it := range items {
			s.resources[typeURLs[k]] = append(s.resources[typeURLs[k]], decodeItem(kind(k), it))
		}
	}
	s.publish("0")
	return s
}

func decodeItem(k kind, it item) types.Resource {
	message, err := protoregistry.GlobalTypes.FindMessageByURL(typeURLs[k])
	if err != nil {
		panic(err)
	}
	decoded := message.New().Interface()
	if err := proto.Unmarshal(it.body, decoded); err != nil {
		panic(err)
	}
	return decoded
}

func (s *snapshotServer) publish(version string) {
	snapshot, err := cachev3.NewSnapshot(version, s.resources)
	if err != nil {
		panic(err)
	}
	if err := snapshot.ConstructVersionMap(); err != nil {
		panic(err)
	}
	for i := range benchProxies {
		if err := s.cache.SetSnapshot(context.Background(), benchID(i), snapshot); err != nil {
			panic(err)
		}
	}
}

func (s *snapshotServer) serve(server *grpc.Server) {
	callbacks := serverv3.CallbackFuncs{DeltaStreamOpenFunc: func(ctx context.Context, _ int64, _ string) error {
		return benchToken(ctx)
	}}
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, serverv3.NewServer(context.Background(), s.cache, callbacks))
}

func (s *snapshotServer) change(generation int) {
	r := benchEndpoints(generation)
	changed := decodeItem(endpoints, item{body: r.Body})
	old := s.resources[typeURLs[endpoints]]
	s.resources[typeURLs[endpoints]] = []types.Resource{old[0], changed}
	s.publish(fmt.Sprint(generation))
}
