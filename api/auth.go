package api

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// access is what a route asks of its caller.
type access int

const (
	// everybody may see the probes: they hold nothing.
	everybody access = iota
	// scrape is for metrics, and for whoever may read.
	scrape
	// starts is for what Consul's command asks with a proxy's token, to write that proxy's bootstrap, and for who may read.
	// A proxy is shown itself only.
	starts
	// read is for what holds no secret: readers, operators and this machine.
	read
	// operate is for operators: writes, tokens, leaves, backups.
	operate
)

// String names who may, in one word.
func (a access) String() string {
	return [...]string{everybody: "anybody", scrape: "metrics", starts: "proxy", read: "read", operate: "operator"}[a]
}

// authenticate returns who sent a request. Without a token that is nobody, with RoleNone; a token that is not known is
// refused wherever it came from, so that a revoked one is noticed.
func (s *server) authenticate(r *http.Request) (snapshot.Credential, error) {
	if r.URL.Query().Has("token") {
		return snapshot.Credential{}, refuse(http.StatusBadRequest, "token-in-url",
			"token in the query string: it would end up in logs; send it in the header X-Consul-Token")
	}
	secret := r.Header.Get("X-Consul-Token")
	if scheme, value, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && secret == "" && strings.EqualFold(scheme, "bearer") {
		secret = strings.TrimSpace(value)
	}
	if secret == "" {
		return snapshot.Credential{}, nil
	}
	who, ok := s.Credentials.Authenticate(redact.NewString(secret))
	if !ok {
		return snapshot.Credential{}, refuse(http.StatusForbidden, "token", "ACL not found: this token is unknown or revoked")
	}
	return who, nil
}

// authorize refuses a caller who may not use a route.
func (s *server) authorize(c *call, needed access) error {
	role := c.who.Role
	allowed := false
	switch needed {
	case everybody:
		allowed = true
	case scrape:
		allowed = role == snapshot.RoleOperator || role == snapshot.RoleRead || role == snapshot.RoleMetrics
	case starts:
		allowed = role == snapshot.RoleOperator || role == snapshot.RoleRead || role == snapshot.RoleProxy
	case read:
		allowed = role == snapshot.RoleOperator || role == snapshot.RoleRead
	case operate:
		allowed = role == snapshot.RoleOperator
	}
	if allowed {
		return nil
	}
	distrust := distrusted(c.Request)
	if distrust == "" && (needed != operate || s.Server.HTTPOpen && role == snapshot.RoleNone) {
		return nil
	}
	return denied(c, needed, distrust)
}

// shows tells whether the caller may see an instance among what starts proxies.
func (c *call) shows(i *snapshot.Instance) bool {
	return c.who.Role != snapshot.RoleProxy || i.ProxyID(c.world.Cluster().NodeName) == c.who.Proxy
}

// denied says who may, and how to become that.
func denied(c *call, needed access, distrust string) error {
	p := refuse(http.StatusForbidden, "denied", "Permission denied: %s %s needs %s", c.Method, c.URL.Path, map[access]string{
		scrape: "a token of role metrics, read or operator", starts: "a token of role proxy, read or operator",
		read: "a token of role read or operator", operate: "an operator token",
	}[needed])
	if c.who.Role != snapshot.RoleNone {
		p.Text += ", and this one has role " + string(c.who.Role)
		return p
	}
	p.Hint = "send one in the header X-Consul-Token (the first operator token is in DATA/operator.token)"
	if distrust != "" && distrust != notLocal {
		p.Hint += "; without a token this request is not taken as one from this machine: " + distrust
	}
	return p
}

const notLocal = "it comes from elsewhere"

// distrusted says why a request is not trusted as one from this machine, and "" when it is. A browser here can be made
// to send requests to loopback by any page it shows, under that page's name: then it sends an Origin, or a Host that is
// not ours. A proxy here may forward requests of others.
func distrusted(r *http.Request) string {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !remote.Addr().Unmap().IsLoopback() {
		return notLocal
	}
	if r.Header.Get("Origin") != "" {
		return "it has the header Origin, so a browser sent it for a page"
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" && site != "same-origin" {
		return "a browser sent it for another site"
	}
	for _, header := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip"} {
		if r.Header.Get(header) != "" {
			return "it has the header " + header + ", so it was forwarded for another"
		}
	}
	if !loopbackHost(r.Host) {
		return "its Host is not localhost or a loopback address"
	}
	return ""
}

func loopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if address, err := netip.ParseAddr(host); err == nil {
		return address.Unmap().IsLoopback()
	}
	return host == "localhost" || host == "localhost."
}
