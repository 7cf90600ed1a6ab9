package xds

import (
	"context"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/internal/redact"
)

// helloTimeout is how long a stream may stay silent after it opened.
const helloTimeout = 10 * time.Second

// tokenHeader is the metadata key of the proxy's token, as Consul's.
const tokenHeader = "x-consul-token"

// A refusal ends a stream with a status that Envoy logs. Its reason is a metric label.
type refusal struct {
	reason string
	code   codes.Code
	text   string
}

func (r *refusal) Error() string              { return r.text }
func (r *refusal) GRPCStatus() *status.Status { return status.New(r.code, r.text) }

var (
	errStateOfTheWorld = &refusal{"sotw", codes.InvalidArgument,
		"state of the world xDS is not served: set ads_config.api_type to DELTA_GRPC"}
	errNoToken        = &refusal{"token", codes.Unauthenticated, tokenHeader + ": missing"}
	errToken          = &refusal{"token", codes.Unauthenticated, tokenHeader + ": not the token of a proxy"}
	errSilent         = &refusal{"silent", codes.DeadlineExceeded, "no request after " + helloTimeout.String()}
	errNoNode         = &refusal{"node", codes.InvalidArgument, "first request: node is missing"}
	errTooManyStreams = &refusal{"streams", codes.ResourceExhausted, "too many streams: try another server"}
	errTooManyNames   = &refusal{"names", codes.ResourceExhausted, "too many resource names"}
	errLongName       = &refusal{"names", codes.InvalidArgument, "a resource name is too long"}
	errReplaced       = &refusal{"replaced", codes.Aborted, "a newer stream of this proxy took over"}
	errDisconnected   = &refusal{"disconnected", codes.Unavailable, "disconnected by the operator: connect again"}
	errWatchdog       = &refusal{"watchdog", codes.DeadlineExceeded,
		"a response was not acknowledged for " + watchdog.String()}
	errMaxAge = &refusal{"max_age", codes.Unavailable, "stream reached its maximum age: connect again"}
	errPanic  = &refusal{"panic", codes.Internal, "internal error"}
)

// StreamAggregatedResources refuses the protocol that sends everything for every change.
func (s *Server) StreamAggregatedResources(discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	s.metrics.ended.WithLabelValues(errStateOfTheWorld.reason).Inc()
	return errStateOfTheWorld
}

// DeltaAggregatedResources serves one stream until it ends.
func (s *Server) DeltaAggregatedResources(conn discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) (err error) {
	defer func() {
		if cause := recover(); cause != nil { // what one proxy makes go wrong ends its stream only
			s.config.Log.WithField(logkey.Reason, cause).WithField("stack", string(debug.Stack())).Error("stream panicked")
			err = errPanic
		}
		s.ended(err)
	}()
	id, err := s.authenticate(conn.Context())
	if err != nil {
		return err
	}
	defer shown(conn.Context())()
	log := s.config.Log.WithField(logkey.Proxy, id)
	st := newStream(s, conn, log)
	defer st.stop()
	first, err := st.hello(conn.Context())
	if err != nil {
		return err
	}
	if st.node, err = s.admit(id, first.GetNode()); err != nil {
		log.WithError(err).Warn("proxy refused")
		return err
	}
	if err := s.join(id, st); err != nil {
		log.WithError(err).Warn("proxy refused")
		return err
	}
	defer s.leave(st)
	log.WithField("envoy", st.node.version.String()).Info("proxy connected")
	err = st.run(conn.Context(), first)
	log.WithField(logkey.Reason, err).Info("proxy disconnected")
	return err
}

// ended counts why a stream ended.
func (s *Server) ended(err error) {
	reason := "closed"
	if r, ok := err.(*refusal); ok {
		reason = r.reason
	}
	s.metrics.ended.WithLabelValues(reason).Inc()
}

// authenticate returns the proxy that the stream's token was made for.
func (s *Server) authenticate(ctx context.Context) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, tokenHeader)
	if len(values) != 1 || values[0] == "" {
		return "", errNoToken
	}
	id, err := s.config.Authenticate(ctx, redact.NewString(values[0]))
	if err != nil {
		s.config.Log.WithError(err).Warn("proxy token refused")
		return "", errToken
	}
	return id, nil
}

// A node is what a proxy says of itself. It is shown and compared, never believed.
type node struct {
	version version
	notes   notes
}

// notes are what our bootstrap wrote into the node metadata, below "isthmus".
type notes struct {
	drainSeconds float64 // zero: not noted
	configSchema string  // empty: not noted
}

// schema is the shape of listeners that was noted; 0: none that is a number.
func (n notes) schema() int {
	number, _ := strconv.Atoi(n.configSchema)
	return number
}

// admit checks what a proxy says of itself against its token and against the oldest Envoy that is served.
func (s *Server) admit(id string, n *corev3.Node) (node, error) {
	switch {
	case n == nil:
		return node{}, errNoNode
	case n.GetId() != id && nodePath(n) != id:
		return node{}, &refusal{"node_id", codes.PermissionDenied,
			fmt.Sprintf("node id %q: the token was made for proxy %q", n.GetId(), id)}
	}
	build := n.GetUserAgentBuildVersion().GetVersion()
	v := version{build.GetMajorNumber(), build.GetMinorNumber(), build.GetPatch()}
	if build == nil || v.less(s.floor) {
		return node{}, &refusal{"version", codes.FailedPrecondition,
			fmt.Sprintf("envoy %s: want %s or newer", v, s.config.Floor)}
	}
	noted := n.GetMetadata().GetFields()["isthmus"].GetStructValue().GetFields()
	schema := noted["config_schema"].GetStringValue()
	if number := noted["config_schema"].GetNumberValue(); number != 0 {
		schema = strconv.FormatFloat(number, 'g', -1, 64)
	}
	return node{version: v, notes: notes{noted["drain_s"].GetNumberValue(), schema}}, nil
}

// nodePath is how the bootstrap that Consul's command writes names a proxy on another node than the server's: by its ID,
// with the name of the node beside it.
func nodePath(n *corev3.Node) string {
	return n.GetMetadata().GetFields()["node_name"].GetStringValue() + "/" + n.GetId()
}

// A version of Envoy. The zero version is unknown.
type version struct{ major, minor, patch uint32 }

// parseVersion reads "1.37" or "1.37.2"; what is not a number counts as zero.
func parseVersion(text string) version {
	var v version
	for i, field := range strings.SplitN(text, ".", 3) {
		n, _ := strconv.ParseUint(field, 10, 32)
		*[]*uint32{&v.major, &v.minor, &v.patch}[i] = uint32(n)
	}
	return v
}

func (v version) less(than version) bool {
	if v.major != than.major {
		return v.major < than.major
	}
	if v.minor != than.minor {
		return v.minor < than.minor
	}
	return v.patch < than.patch
}

func (v version) String() string {
	if v == (version{}) {
		return "of unknown version"
	}
	return fmt.Sprintf("%d.%d.%d", v.major, v.minor, v.patch)
}
