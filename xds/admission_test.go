package xds

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/internal/redact"
)

func nodeOf(id string, major, minor uint32) *corev3.Node {
	n := node40(id)
	n.GetUserAgentBuildVersion().Version = &typev3.SemanticVersion{MajorNumber: major, MinorNumber: minor}
	return n
}

func TestRefusals(t *testing.T) {
	panics := Config{Authenticate: func(context.Context, redact.String) (string, error) { panic("bug") }}
	for _, test := range []struct {
		name   string
		config Config
		token  string
		node   *corev3.Node
		code   codes.Code
		text   string
		reason string
	}{
		{"no token", Config{}, "", nil, codes.Unauthenticated, "missing", "token"},
		{"unknown token", Config{}, "guess", nil, codes.Unauthenticated, "not the token of a proxy", "token"},
		{"no node", Config{}, "token-web", nil, codes.InvalidArgument, "node is missing", "node"},
		{"another's node id", Config{}, "token-web", node40("api"), codes.PermissionDenied,
			`node id "api": the token was made for proxy "web"`, "node_id"},
		{"old", Config{}, "token-web", nodeOf("web", 1, 36), codes.FailedPrecondition, "envoy 1.36.0: want 1.37 or newer", "version"},
		{"of no version", Config{}, "token-web", &corev3.Node{Id: "web"}, codes.FailedPrecondition, "of unknown version", "version"},
		{"older than configured", Config{Floor: "2.1"}, "token-web", nodeOf("web", 2, 0), codes.FailedPrecondition, "2.1", "version"},
		{"panic", panics, "token-web", node40("web"), codes.Internal, "internal error", "panic"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, test.config, func(t *testing.T, s *Server) {
				c := newClient(t, s)
				c.open(test.token)
				c.wire.toServer <- &request{Node: test.node, TypeUrl: typeURLs[clusters]}
				err := c.end()
				if status.Code(err) != test.code || !strings.Contains(err.Error(), test.text) {
					t.Errorf("ended with %v (%s), want %s: …%s…", err, status.Code(err), test.code, test.text)
				}
				if got := count(s.metrics.ended.WithLabelValues(test.reason)); got != 1 {
					t.Errorf("%v streams counted as %q, want one", got, test.reason)
				}
				if got := s.Proxies(); len(got) != 0 {
					t.Errorf("status %+v of a proxy that was refused", got)
				}
			})
		})
	}
}

// TestNodeName: a proxy on another node than the server's, in the words of its own bootstrap and of Consul's.
func TestNodeName(t *testing.T) {
	s := newServer(Config{})
	for _, test := range []struct {
		id, name string
		ok       bool
	}{{"n2/web", "", true}, {"web", "n2", true}, {"web", "", false}, {"web", "n3", false}, {"api", "n2", false}} {
		n := node40(test.id)
		n.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{"node_name": structpb.NewStringValue(test.name)}}
		if _, err := s.admit("n2/web", n); (err == nil) != test.ok {
			t.Errorf("node id %q with node_name %q: %v, want admitted: %v", test.id, test.name, err, test.ok)
		}
	}
}

func TestStateOfTheWorldIsRefused(t *testing.T) {
	err := newServer(Config{}).StreamAggregatedResources(nil)
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "DELTA_GRPC") {
		t.Errorf("refused with %v, want InvalidArgument and what to set", err)
	}
}

func TestSilentStream(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := newClient(t, s)
		c.open("token-web")
		wait(helloTimeout)
		if err := c.end(); err != errSilent {
			t.Errorf("ended with %v, want %v", err, errSilent)
		}
	})
}

func TestTooManyStreams(t *testing.T) {
	inBubble(t, Config{Limits: Limits{Streams: 1}}, func(t *testing.T, s *Server) {
		first, second := newClient(t, s), newClient(t, s)
		first.connect("web")
		first.settle()
		second.connect("api")
		if err := second.end(); err != errTooManyStreams {
			t.Errorf("ended with %v, want %v", err, errTooManyStreams)
		}
		first.disconnect()
		second.connect("api")
		second.expect("")
		second.disconnect()
	})
}

func TestTooManyNames(t *testing.T) {
	inBubble(t, Config{Limits: Limits{Names: 10}}, func(t *testing.T, s *Server) {
		c := newClient(t, s)
		c.connect("web")
		c.settle()
		for i := range 11 {
			c.wire.toServer <- &request{TypeUrl: typeURLs[endpoints], ResourceNamesSubscribe: []string{fmt.Sprint(i)}}
		}
		if err := c.end(); err != errTooManyNames {
			t.Errorf("ended with %v, want %v", err, errTooManyNames)
		}
	})
}

func TestLongName(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := newClient(t, s)
		c.connect("web")
		c.settle()
		c.wire.toServer <- &request{TypeUrl: typeURLs[secrets], ResourceNamesSubscribe: []string{strings.Repeat("x", maxNameBytes+1)}}
		if err := c.end(); err != errLongName {
			t.Errorf("ended with %v, want %v", err, errLongName)
		}
	})
}

// Who asks too often is read no faster than the limit, and nobody is refused for it.
func TestRequestRate(t *testing.T) {
	inBubble(t, Config{Limits: Limits{RequestsPerSec: 10}}, func(t *testing.T, s *Server) {
		c := connected(t, s, sidecar("web"))
		start := time.Now()
		for range 90 {
			c.wire.toServer <- &request{TypeUrl: typeURLs[endpoints], ResourceNamesSubscribe: []string{"svc~db"}}
		}
		for len(c.wire.toServer) > 0 {
			wait(100 * time.Millisecond)
			c.settle()
		}
		if took := time.Since(start); took < 3*time.Second || took > 20*time.Second {
			t.Errorf("90 requests took %v, want them spread by the limit of 10/s after a burst of 50", took)
		}
	})
}

// A proxy that lost its connection is served on its next one, although the server may not have noticed.
func TestNewestStreamWins(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		old := connected(t, s, sidecar("web"))
		next := newClient(t, s)
		next.have, next.names, next.body = old.have, old.names, old.body
		next.connect("web")
		next.expect("")
		if err := old.end(); err != errReplaced {
			t.Errorf("the older stream ended with %v, want %v", err, errReplaced)
		}
		s.SetEndpoints(cla("svc~db", "2"))
		next.expect("EDS +svc~db")
		if got := s.Proxies(); len(got) != 1 || got[0].Connected.IsZero() {
			t.Errorf("status %+v: want one proxy, connected", got)
		}
		next.disconnect()
		old.ended <- nil
	})
}

func TestDisconnect(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := newClient(t, s)
		c.connect("web")
		c.settle()
		s.Disconnect("web")
		s.Disconnect("unknown")
		if err := c.end(); err != errDisconnected {
			t.Errorf("ended with %v, want %v", err, errDisconnected)
		}
	})
}

func TestMaxAge(t *testing.T) {
	inBubble(t, Config{MaxAge: time.Hour}, func(t *testing.T, s *Server) {
		c := newClient(t, s)
		c.connect("web")
		c.settle()
		wait(time.Hour - time.Second)
		c.expect("")
		wait(6*time.Minute + 2*time.Second)
		if err := c.end(); err != errMaxAge {
			t.Errorf("ended with %v, want %v", err, errMaxAge)
		}
	})
}

// A wedged session is ended: connecting again is its only cure.
func TestWatchdog(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		c := newClient(t, s)
		s.SetProxy(sidecar("web"))
		c.mute = muteKind(clusters)
		c.connect("web")
		c.settle()
		wait(watchdog - time.Second)
		c.settle()
		wait(time.Second)
		if err := c.end(); err != errWatchdog {
			t.Errorf("ended with %v, want %v", err, errWatchdog)
		}
		if got := count(s.metrics.of[clusters].watchdog); got != 1 {
			t.Errorf("%v counted, want one", got)
		}
	})
}

// The watchdog also ends a stream that cannot be written to.
func TestWatchdogWhileWriting(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		s.SetProxy(sidecar("web"))
		c := newClient(t, s)
		c.open("token-web")
		c.wire.stuck = make(chan struct{})
		c.wire.toServer <- &request{Node: node40("web"), TypeUrl: typeURLs[clusters]}
		synctest.Wait()
		wait(watchdog)
		if err := c.end(); err != errWatchdog {
			t.Errorf("ended with %v, want %v", err, errWatchdog)
		}
		close(c.wire.stuck)
	})
}

func TestStatusOfNode(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server) {
		noted, err := structpb.NewStruct(map[string]any{"isthmus": map[string]any{"drain_s": 8, "config_schema": 2}})
		if err != nil {
			t.Fatal(err)
		}
		n := nodeOf("web", 1, 41)
		n.Metadata = noted
		c := newClient(t, s)
		c.open("token-web")
		c.wire.toServer <- &request{Node: n, TypeUrl: typeURLs[clusters]}
		c.settle()
		s.SetProxy(sidecar("api"))
		got := s.Proxies()
		if len(got) != 2 || got[0].ID != "api" || !got[0].Connected.IsZero() || !got[0].View {
			t.Fatalf("status %+v: want api first, not connected", got)
		}
		web := got[1]
		if web.Envoy != "1.41.0" || web.DrainSeconds != 8 || web.ConfigSchema != "2" || web.View {
			t.Errorf("status %+v: want what the node says", web)
		}
		if len(web.Types) != int(kinds) || web.Types[clusters].State != NotSent {
			t.Errorf("types %+v: want every type, nothing sent", web.Types)
		}
		c.disconnect()
	})
}

func TestVersions(t *testing.T) {
	for _, test := range []struct {
		a, b string
		less bool
	}{{"1.37", "1.38", true}, {"1.38", "1.37", false}, {"1.37", "1.37.1", true}, {"1.37", "2.0", true}, {"1.9", "1.37", true}, {"x", "0.1", true}} {
		if got := parseVersion(test.a).less(parseVersion(test.b)); got != test.less {
			t.Errorf("%s before %s: %v", test.a, test.b, got)
		}
	}
}

var _ discoveryv3.AggregatedDiscoveryServiceServer = (*Server)(nil)
