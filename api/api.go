// Package api turns HTTP requests into questions to a World and writes to a store: Consul's paths under /v1, with its
// shapes, statuses, headers and blocking queries, our own under /isthmus/v1, and metrics and probes. It checks who asks
// before anything else. It keeps no state, knows no source, and what a peer sent is read-only here.
package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// A Store takes writes: all events or none, durable when Commit returns, and then in the published World.
type Store interface {
	Commit(ctx context.Context, events ...snapshot.Event) (index uint64, err error)
}

// Backup writes and reads the whole state as one archive.
type Backup interface {
	Snapshot(w io.Writer) error
	// Restore replaces the state. The server may then start anew: an answer that is under way is still given.
	Restore(ctx context.Context, r io.Reader) error
}

// Credentials are the tokens that requests prove themselves with.
type Credentials interface {
	Authenticate(secret redact.String) (snapshot.Credential, bool)
	// CreateToken makes a token of wanted's Role, Proxy, Description and Bootstrap.
	CreateToken(ctx context.Context, wanted snapshot.Credential) (redact.String, snapshot.Credential, error)
	Tokens() []snapshot.Credential
	RevokeToken(ctx context.Context, accessor string) error
}

// Peering is the embedded peering service. Its errors may say their status with HTTPStatus() int.
type Peering interface {
	GenerateToken(ctx context.Context, request config.TokenRequest) (redact.String, error)
	Establish(ctx context.Context, request config.EstablishRequest) error
	Delete(ctx context.Context, name string) error
	Tokens() []snapshot.TokenInfo
	RevokeToken(ctx context.Context, id string) error
}

// A Leaf is a service's certificate with its key, as /v1/agent/connect/ca/leaf answers it.
type Leaf struct {
	CertPEM             []byte
	KeyPEM              redact.Bytes
	NotBefore, NotAfter time.Time
	RenewAt             time.Time // from when another call returns a newer one
}

// Config is what the API serves. Publisher, Credentials and Log are required.
type Config struct {
	Log         logrus.FieldLogger
	Publisher   *snapshot.Publisher
	Credentials Credentials
	// Store, Backup and Peering are nil with a Consul source: what needs them is refused, and says where to do it.
	Store   Store
	Backup  Backup
	Peering Peering
	// Audit is nil with a Consul source too: it keeps its own.
	Audit Audit
	// Leaf issues the certificate of an identity. Nil: leaves are refused.
	Leaf func(ctx context.Context, identity *url.URL) (Leaf, error)
	// Gatherer is what /metrics shows, and Registerer where the API's own metrics go. Nil: none.
	Gatherer   prometheus.Gatherer
	Registerer prometheus.Registerer
	Server     Server
	Runtime    Runtime
	Now        func() time.Time // nil: time.Now
}

// Server is how this process was started.
type Server struct {
	Version string
	Source  string // "embedded" or "consul"
	// HTTPOpen makes whoever asks from this machine an operator.
	HTTPOpen bool
	// XDSAddress is the host:port that proxies dial, and XDSServerName the name that its certificate carries. XDSCAPEM
	// vouches for that certificate; nil: our own roots do.
	XDSAddress, XDSServerName string
	XDSCAPEM                  func() string
	// PeeringAddress is the host:port that peers dial; empty with a Consul source.
	PeeringAddress string
	// OperatorTokenFile is where the first operator's token lies: the CLI on this machine reads it there.
	OperatorTokenFile string
	// OperatorToken reads that file, for the proof that this server can. Nil: nothing is proved.
	OperatorToken func() (redact.String, error)
	// RequestsPerSecond bounds the requests from one address, with twice as many at once. 0: 2,000.
	RequestsPerSecond float64
}

// Runtime is what only the running parts know. Each function may be nil, and returns what the caller may keep.
type Runtime struct {
	// PeerStatus is what is known of a peering right now.
	PeerStatus func(peer string) snapshot.PeerStatus
	// Proxies lists who is connected, or was refused something.
	Proxies func() []Proxy
	// Skipped is what each proxy's view leaves out.
	Skipped func() map[snapshot.ProxyID][]snapshot.Skipped
	// Problems are sentences that an operator must read: what is wrong, and what to do.
	Problems func() []string
	// Checks are what the server looked at of itself.
	Checks func() []SelfCheck
	// Synced tells whether the source has answered: until then everything but the probes is refused.
	Synced func() bool
	// Heartbeat is told of each update of a TTL check, also of one that changes nothing.
	Heartbeat func(node, serviceID, checkID string)
}

// server answers requests. Its fields are set once.
type server struct {
	Config
	metrics *metrics
	limits  *limits
	waiting chan struct{} // one place for each blocking query that waits
}

// New returns the handler of the whole API. It takes whoever has no token for what the address says, so it must not be
// served beyond loopback without TLS. NewServer gives it the bounds it expects.
func New(cfg Config) (http.Handler, error) {
	switch {
	case cfg.Publisher == nil:
		return nil, errors.New("api: Config.Publisher is nil")
	case cfg.Credentials == nil:
		return nil, errors.New("api: Config.Credentials is nil")
	case cfg.Log == nil:
		return nil, errors.New("api: Config.Log is nil")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Server.RequestsPerSecond == 0 {
		cfg.Server.RequestsPerSecond = defaultRate
	}
	s := &server{
		Config:  cfg,
		metrics: newMetrics(cfg.Registerer),
		limits:  newLimits(cfg.Server.RequestsPerSecond),
		waiting: make(chan struct{}, maxWaiting),
	}
	return s.handler(), nil
}

// routes returns every path of the API.
func (s *server) routes() []route {
	var all []route
	for _, area := range [][]route{
		s.peeringRoutes(), s.configRoutes(), s.agentRoutes(), s.agentServiceRoutes(), s.agentCheckRoutes(),
		s.catalogRoutes(), s.healthRoutes(), s.connectRoutes(), s.intentionRoutes(), s.exportRoutes(),
		s.backupRoutes(), s.auditRoutes(), s.statusRoutes(), s.tokenRoutes(), s.applyRoutes(), s.whyRoutes(), s.probeRoutes(), refusals(),
	} {
		all = append(all, area...)
	}
	return all
}
