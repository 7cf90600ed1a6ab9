package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/redact"
)

// requestTimeout bounds every request but those that carry a snapshot. maxAnswer bounds what is read of an answer.
const (
	requestTimeout = 30 * time.Second
	maxAnswer      = 256 << 20
)

// client asks one server.
type client struct {
	http  *http.Client
	base  *url.URL
	user  *url.Userinfo
	local bool // the server is on this machine
	// unverified: nobody looks at the server's certificate.
	unverified bool
	dial       func(ctx context.Context, network, address string) (net.Conn, error)
	token      redact.String
	query      url.Values // of every request
}

// statusError is an answer that says no. It prints what the server said.
type statusError struct {
	status int
	text   string
}

func (e statusError) Error() string {
	if e.text == "" {
		return fmt.Sprintf("the server answered %d %s", e.status, http.StatusText(e.status))
	}
	return visibleLines(e.text)
}

// hasStatus tells whether err is the server's answer with that status.
func hasStatus(err error, status int) bool {
	var answered statusError
	return errors.As(err, &answered) && answered.status == status
}

// request is one question. Body is sent as JSON, unless it is a []byte.
type request struct {
	method, path string
	query        url.Values
	body         any
}

// get asks for path and returns the answer's bytes.
func (c *client) get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	return c.do(ctx, request{method: http.MethodGet, path: path, query: query})
}

// read asks for path and decodes the answer.
func (c *client) read(ctx context.Context, path string, query url.Values, answer any) error {
	body, err := c.get(ctx, path, query)
	if err != nil {
		return err
	}
	return decode(body, path, answer)
}

// look reads for people's eyes.
func (c *client) look(ctx context.Context, path string, query url.Values, answer any) error {
	body, err := c.get(ctx, path, query)
	if err != nil {
		return err
	}
	return decodeVisible(body, path, answer)
}

func decode(body []byte, what string, answer any) error {
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("answer of %s: %w", what, err)
	}
	return nil
}

// do sends one request and returns the answer's bytes. Who has no token and is refused one on this machine uses the
// operator's, when it can be read. A write needs one in any case: it is found first, so that only our server gets the body.
func (c *client) do(ctx context.Context, r request) ([]byte, error) {
	body, ok := r.body.([]byte)
	if !ok && r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if r.method != http.MethodGet {
		c.becomeOperator(ctx)
	}
	answer, err := c.once(ctx, r, body)
	if (hasStatus(err, http.StatusForbidden) || hasStatus(err, http.StatusUnauthorized)) && c.becomeOperator(ctx) {
		return c.once(ctx, r, body)
	}
	return answer, err
}

func (c *client) once(ctx context.Context, r request, body []byte) ([]byte, error) {
	response, err := c.open(ctx, r, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer response.Close()
	answer, err := io.ReadAll(io.LimitReader(response, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("server %s: %s %s: %w", c.base.Host, r.method, r.path, err)
	}
	return answer, nil
}

// open sends one request and returns the body of a good answer, which the caller closes.
func (c *client) open(ctx context.Context, r request, body io.Reader) (io.ReadCloser, error) {
	target := *c.base
	escaped := c.base.EscapedPath() + r.path
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, fmt.Errorf("path %s: %w", escaped, err)
	}
	query := maps.Clone(c.query)
	maps.Copy(query, r.query)
	target.Path, target.RawPath, target.RawQuery = path, escaped, query.Encode()
	sent, err := http.NewRequestWithContext(ctx, r.method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
	}
	if !c.token.Empty() {
		sent.Header.Set("X-Consul-Token", c.token.Reveal())
	}
	if c.user != nil {
		password, _ := c.user.Password()
		sent.SetBasicAuth(c.user.Username(), password)
	}
	response, err := c.http.Do(sent)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // the URL is said already
		}
		return nil, fmt.Errorf("server %s: %w", c.base.Host, err)
	}
	if response.StatusCode/100 == 2 {
		return response.Body, nil
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10)) // the status says enough
	said := strings.TrimSpace(string(text))
	if said == noConsulPath && strings.HasPrefix(r.path, "/isthmus/") {
		said = fmt.Sprintf("server %s is a Consul, which has nothing like it: want an isthmus", c.base.Host)
	}
	return nil, statusError{response.StatusCode, said}
}

// noConsulPath is all that a Consul says of a path that it does not have.
const noConsulPath = "Invalid URL path: not a recognized HTTP API endpoint"

// segment returns one part of a path, escaped.
func segment(name string) string { return url.PathEscape(name) }
