package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/logkey"
)

// writeTimeout bounds how long a client may take to read an answer, in which a blocking query's wait does not count.
const writeTimeout = time.Minute

// A problem is an answer that says no. As text it is Text alone, as Consul's clients print it.
type problem struct {
	Status int    `json:"status"`
	Code   string `json:"code"`             // one word for machines
	Object string `json:"object,omitempty"` // what it is about: kind/name, a peer, a path
	Field  string `json:"field,omitempty"`
	Hint   string `json:"hint,omitempty"` // what to do instead
	Text   string `json:"detail"`
}

func (p *problem) Error() string   { return p.Text }
func (p *problem) HTTPStatus() int { return p.Status }

// refuse returns a problem with a text made of format.
func refuse(status int, code, format string, args ...any) *problem {
	return &problem{Status: status, Code: code, Text: fmt.Sprintf(format, args...)}
}

// about names the object of a problem, hint what to do instead.
func (p *problem) about(object string) *problem { p.Object = object; return p }
func (p *problem) hint(hint string) *problem    { p.Hint = hint; return p }

// problemOf finds what an error means to a client. What nobody gave a status is our fault.
func problemOf(err error) *problem {
	var known *problem
	var invalid *config.Error
	var tooLarge *http.MaxBytesError
	var stated interface{ HTTPStatus() int }
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &tooLarge):
		return refuse(http.StatusRequestEntityTooLarge, "too-large", "request body too large: at most %d bytes", tooLarge.Limit)
	case errors.As(err, &invalid):
		p := refuse(http.StatusBadRequest, "invalid", "%s", err.Error()).about(strings.Trim(invalid.Kind+"/"+invalid.Name, "/"))
		p.Field = invalid.Field
		return p
	case errors.As(err, &stated):
		return refuse(stated.HTTPStatus(), strings.ToLower(strings.ReplaceAll(http.StatusText(stated.HTTPStatus()), " ", "-")), "%s", err.Error())
	}
	return refuse(http.StatusInternalServerError, "internal", "%s", err.Error())
}

// fail answers with an error: as Consul's plain text, or as a problem document for who asks for that.
func (s *server) fail(w http.ResponseWriter, r *http.Request, pattern string, err error) {
	if r.Context().Err() != nil {
		return // nobody is listening
	}
	p := problemOf(err)
	line := s.Log.WithField(logkey.Path, pattern).WithField(logkey.Status, p.Status).WithError(err)
	if p.Status == http.StatusInternalServerError {
		line.Error("request failed")
	} else {
		line.Debug("request refused")
	}
	if r, ok := w.(*recorder); ok && r.status != 0 {
		return // too late: the answer has begun
	}
	deadline(w, writeTimeout)
	if strings.Contains(r.Header.Get("Accept"), "application/problem+json") {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(p.Status)
		body, _ := json.Marshal(struct {
			Type  string `json:"type"`
			Title string `json:"title"`
			*problem
		}{"about:blank", http.StatusText(p.Status), p})
		_, _ = w.Write(body) // a client that has gone needs no answer
		return
	}
	text := p.Text
	if p.Hint != "" {
		text += "; " + p.Hint
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(p.Status)
	_, _ = w.Write([]byte(text)) // a client that has gone needs no answer
}

// write answers with a value: nothing for nil, bytes for a raw, else JSON.
func write(c *call, value any) error {
	deadline(c.w, writeTimeout)
	switch value := value.(type) {
	case nil:
		c.w.WriteHeader(http.StatusOK)
		return nil
	case streamed:
		return nil
	case raw:
		c.w.Header().Set("Content-Type", value.contentType)
		c.w.WriteHeader(value.status)
		_, _ = c.w.Write(value.body) // a client that has gone needs no answer
		return nil
	}
	body, err := encode(c, value)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(body) // a client that has gone needs no answer
	return nil
}

// streamed says that the answer has been written already.
type streamed struct{}

// encode returns value as JSON, indented when the client asks for ?pretty.
func encode(c *call, value any) ([]byte, error) {
	if !c.URL.Query().Has("pretty") {
		return json.Marshal(value)
	}
	body, err := json.MarshalIndent(value, "", "    ")
	return append(body, '\n'), err
}

// deadline bounds the writing of the answer, where the connection knows deadlines.
func deadline(w http.ResponseWriter, d time.Duration) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d)) // only a test's recorder has none
}

// setHeaders sets what every answer of Consul's carries.
func (s *server) setHeaders(c *call) {
	policy := "deny"
	if cluster := c.world.Cluster(); cluster != nil && cluster.DefaultAllow {
		policy = "allow"
	}
	c.w.Header().Set("X-Consul-Default-Acl-Policy", policy)
}
