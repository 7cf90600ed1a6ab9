package api

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// A route is one method of one path, who may use it, and what answers. Exactly one of do and read is set.
type route struct {
	method  string
	pattern string // of http.ServeMux, without the method
	access  access
	// do answers with a value for JSON, with a raw, or with nil for an empty body.
	do func(*call) (any, error)
	// read answers from the World, blocking when the client asks for it.
	read func(*call) (query, error)
}

// A call is one request on its way.
type call struct {
	*http.Request
	w http.ResponseWriter
	// world is the newest one when the request came.
	world *snapshot.World
	who   snapshot.Credential
}

// raw is an answer that is no JSON.
type raw struct {
	status      int
	contentType string
	body        []byte
}

// handler joins the routes to a mux and wraps it: panics, limits and metrics outside, who asks inside.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	byPattern := map[string][]route{}
	var patterns []string
	for _, r := range s.routes() {
		if byPattern[r.pattern] == nil {
			patterns = append(patterns, r.pattern)
		}
		byPattern[r.pattern] = append(byPattern[r.pattern], r)
	}
	for _, pattern := range patterns {
		methods := byPattern[pattern]
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.serve(w, r, pattern, methods)
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // of the request before on this connection
		if err := printable(r); err != nil {
			s.fail(w, r, "", err)
			return
		}
		if wait := s.limits.take(r.RemoteAddr, s.Now()); wait > 0 {
			w.Header().Set("Retry-After", "1")
			s.fail(w, r, "", refuse(http.StatusTooManyRequests, "rate", "too many requests from this address: at most %v a second", s.Config.Server.RequestsPerSecond))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// printable refuses control characters in names: keys are joined by one.
func printable(r *http.Request) error {
	query, err := url.QueryUnescape(r.URL.RawQuery)
	if err != nil || strings.ContainsFunc(r.URL.Path+query, unicode.IsControl) {
		return refuse(http.StatusBadRequest, "path", "Invalid URL: want printable characters only")
	}
	return nil
}

// serve answers one request on pattern by the route of its method.
func (s *server) serve(w http.ResponseWriter, r *http.Request, pattern string, methods []route) {
	recorder := &recorder{ResponseWriter: w}
	done := s.metrics.begin(pattern, r.Method)
	defer func() { done(recorder.status) }()
	defer func() {
		crash := recover()
		if crash == http.ErrAbortHandler {
			panic(crash) // it breaks off the answer, which must not look complete
		}
		if crash != nil {
			s.Log.WithField(logkey.Path, pattern).WithField(logkey.Stack, string(debug.Stack())).Error("request crashed")
			s.fail(recorder, r, pattern, fmt.Errorf("internal error: %v", crash))
		}
	}()
	if err := s.answer(&call{Request: r, w: recorder, world: s.Publisher.World()}, methods); err != nil {
		s.fail(recorder, r, pattern, err)
	}
}

func (s *server) answer(c *call, methods []route) error {
	if methods[0].access != everybody {
		s.setHeaders(c)
	}
	found, err := methodRoute(c, methods)
	if err != nil {
		return err
	}
	if c.who, err = s.authenticate(c.Request); err != nil {
		return err
	}
	if err := s.authorize(c, found.access); err != nil {
		return err
	}
	if err := found.checkQuery(c); err != nil {
		return err
	}
	signed(c)
	if found.access != everybody {
		if err := s.ready(c); err != nil {
			return err
		}
	}
	var value any
	if found.read != nil {
		value, err = s.ask(c, found.read)
	} else {
		value, err = found.do(c)
	}
	if err != nil {
		return err
	}
	return write(c, value)
}

// methodRoute returns the route of the request's method, or 405 with the methods that there are.
func methodRoute(c *call, methods []route) (route, error) {
	method := c.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	var allowed []string
	for _, r := range methods {
		if r.method == method || r.method == anyMethod {
			return r, nil
		}
		allowed = append(allowed, r.method)
	}
	slices.Sort(allowed)
	c.w.Header().Set("Allow", strings.Join(allowed, ","))
	return route{}, refuse(http.StatusMethodNotAllowed, "method", "method %s not allowed", c.Method)
}

const anyMethod = "*"

// ready refuses while the source has not answered, so that nobody takes "unknown" for "nothing".
func (s *server) ready(c *call) error {
	if c.world.Cluster() == nil || s.Runtime.Synced != nil && !s.Runtime.Synced() {
		return refuse(http.StatusServiceUnavailable, "starting", "not ready: the source has not answered yet; see /readyz")
	}
	return nil
}

// recorder remembers the status for the metrics, and whether anything was written.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(body []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(body)
}

// Unwrap lets http.ResponseController find what it wraps.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// An Endpoint is one method of one path, as docs/compatibility.md lists it.
type Endpoint struct {
	Method, Path string   // Path as a pattern of http.ServeMux; Method "*" is any
	Access       string   // who may: "anybody", "metrics", "read" or "operator"
	Refused      string   // the feature that there is not; empty: it is served
	Parameters   []string // of the query string, besides those of every path
}

// Endpoints returns the whole API, sorted by path and method.
func Endpoints() []Endpoint {
	var list []Endpoint
	for _, r := range (&server{}).routes() {
		list = append(list, Endpoint{r.method, r.pattern, r.access.String(), refused[r.pattern].feature, r.takes()})
	}
	slices.SortFunc(list, func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
	})
	return list
}
