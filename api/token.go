package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// Token is one credential. Secret is in the answer that made it, and never again.
type Token struct {
	Accessor    string           `json:"accessor"`
	Role        snapshot.Role    `json:"role"`
	Proxy       snapshot.ProxyID `json:"proxy,omitempty"`
	Description string           `json:"description,omitempty"`
	Bootstrap   bool             `json:"bootstrap,omitempty"` // made for one bootstrap: it goes when there are too many newer ones
	Created     time.Time        `json:"created"`
	LastUsed    *time.Time       `json:"last_used,omitempty"` // absent: never, as far as is known
	Connected   bool             `json:"connected,omitempty"` // a proxy's stream lives by it
	Secret      string           `json:"secret,omitempty"`
}

// Whoami is who the server takes the caller for.
type Whoami struct {
	Accessor string           `json:"accessor,omitempty"`
	Role     snapshot.Role    `json:"role"` // what the caller may do; empty: nothing but the probes
	Proxy    snapshot.ProxyID `json:"proxy,omitempty"`
	Token    bool             `json:"token"`            // false: taken for what its address says
	Reason   string           `json:"reason,omitempty"` // why a caller without a token is not taken as one on this machine
	// OperatorTokenFile is where the first operator's token lies, told to callers on this machine only.
	OperatorTokenFile string `json:"operator_token_file,omitempty"`
	// Proof answers ?challenge=, to callers on this machine only: see the function.
	Proof string `json:"proof,omitempty"`
}

func (s *server) tokenRoutes() []route {
	return []route{
		{method: "GET", pattern: "/isthmus/v1/tokens", access: operate, do: s.listTokens},
		{method: "POST", pattern: "/isthmus/v1/tokens", access: operate, do: s.createToken},
		{method: "DELETE", pattern: "/isthmus/v1/tokens/{accessor}", access: operate, do: s.revokeToken},
		{method: "GET", pattern: "/isthmus/v1/whoami", access: everybody, do: s.whoami},
	}
}

func tokenShape(c snapshot.Credential) Token {
	return Token{
		Accessor: c.Accessor, Role: c.Role, Proxy: c.Proxy, Description: c.Description, Bootstrap: c.Bootstrap, Created: c.Created,
		LastUsed: timeOrNil(c.LastUsed), Connected: c.Connected,
	}
}

func (s *server) listTokens(*call) (any, error) {
	tokens := []Token{}
	for _, credential := range s.Credentials.Tokens() {
		tokens = append(tokens, tokenShape(credential))
	}
	return tokens, nil
}

func (s *server) createToken(c *call) (any, error) {
	var request struct {
		Role        snapshot.Role    `json:"role"`
		Proxy       snapshot.ProxyID `json:"proxy"`
		Description string           `json:"description"`
		Bootstrap   bool             `json:"bootstrap"`
	}
	if err := decode(c, &request); err != nil {
		return nil, err
	}
	known := []snapshot.Role{snapshot.RoleOperator, snapshot.RoleRead, snapshot.RoleProxy, snapshot.RoleMetrics}
	switch {
	case !slices.Contains(known, request.Role):
		return nil, refuse(http.StatusBadRequest, "invalid", "role %q: want operator, read, proxy or metrics", request.Role)
	case (request.Role == snapshot.RoleProxy) != (request.Proxy != ""):
		return nil, refuse(http.StatusBadRequest, "invalid", "proxy %q: role proxy wants the ID of one, and the others none", request.Proxy)
	case request.Bootstrap && request.Role != snapshot.RoleProxy:
		return nil, refuse(http.StatusBadRequest, "invalid", "bootstrap: is for role proxy, and this is role %s", request.Role)
	case request.Proxy != "" && !isProxy(c.world, request.Proxy):
		return nil, refuse(http.StatusNotFound, "not-found", "proxy %s: is not registered as a sidecar or mesh gateway", request.Proxy)
	}
	secret, credential, err := s.Credentials.CreateToken(c.Context(), snapshot.Credential{
		Role: request.Role, Proxy: request.Proxy, Description: request.Description, Bootstrap: request.Bootstrap,
	})
	if err != nil {
		return nil, err
	}
	token := tokenShape(credential)
	token.Secret = secret.Reveal()
	return token, nil
}

// isProxy tells whether an ID is that of a registered sidecar or gateway.
func isProxy(w *snapshot.World, id snapshot.ProxyID) bool {
	node, service := w.Cluster().NodeName, string(id)
	if i := w.InstanceByID(node, service); i == nil {
		if before, after, ok := strings.Cut(service, "/"); ok {
			node, service = before, after
		}
	}
	i := w.InstanceByID(node, service)
	return i != nil && i.Service.Kind != config.KindTypical
}

func (s *server) revokeToken(c *call) (any, error) {
	accessor := c.PathValue("accessor")
	if !slices.ContainsFunc(s.Credentials.Tokens(), func(known snapshot.Credential) bool { return known.Accessor == accessor }) {
		return nil, refuse(http.StatusNotFound, "not-found", "no such token")
	}
	return nil, s.Credentials.RevokeToken(c.Context(), accessor)
}

// whoami refuses nobody: who is refused elsewhere asks here why.
func (s *server) whoami(c *call) (any, error) {
	answer := Whoami{Accessor: c.who.Accessor, Role: c.who.Role, Proxy: c.who.Proxy, Token: c.who.Role != snapshot.RoleNone}
	distrust := distrusted(c.Request)
	if distrust == "" {
		answer.OperatorTokenFile = s.Server.OperatorTokenFile
		var err error
		if answer.Proof, err = s.proof(c); err != nil {
			return nil, err
		}
	}
	if answer.Token {
		return answer, nil
	}
	answer.Reason = distrust
	switch {
	case distrust == "" && s.Server.HTTPOpen:
		answer.Role = snapshot.RoleOperator
	case distrust == "":
		answer.Role = snapshot.RoleRead
	}
	return answer, nil
}

// actorKey keeps who a request's writes are by in its context.
type actorKey struct{}

// Actor returns who made the request that ctx belongs to: the accessor of its token, or its address for one without. It
// is empty for any other context.
func Actor(ctx context.Context) string {
	actor, _ := ctx.Value(actorKey{}).(string)
	return actor
}

// signed puts the caller into the request's context.
func signed(c *call) {
	actor := c.who.Accessor
	if actor == "" {
		actor = "anonymous " + c.RemoteAddr
	}
	c.Request = c.WithContext(context.WithValue(c.Context(), actorKey{}, actor))
}
