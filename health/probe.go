package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

const (
	defaultInterval = 10 * time.Second
	defaultTimeout  = 10 * time.Second
	maxBody         = 4 << 10 // bytes of an answer that are kept
)

// A result is what a check found. The first line of its output says what happened in words that are the same as long
// as the same happens; what follows may differ each time, and is not written for its own sake.
type result struct {
	status string // a config.Health constant
	output string
}

// class returns the part of an output that is compared.
func class(output string) string {
	first, _, _ := strings.Cut(output, "\n")
	return first
}

func critical(what string, err error) result {
	return result{config.HealthCritical, what + ": " + cause(err)}
}

// A prober asks instances how they are.
type prober struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// probe runs a TCP or HTTP check once.
func (p prober) probe(ctx context.Context, check *snapshot.Check) result {
	d := &check.Definition
	timeout := d.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if d.HTTP != "" {
		return p.http(ctx, d)
	}
	what := "TCP connect " + d.TCP
	conn, err := p.dial(ctx, "tcp", d.TCP)
	if err != nil {
		return critical(what, err)
	}
	conn.Close()
	return result{config.HealthPassing, what + ": Success"}
}

// http asks once: 2xx is passing, 429 warning, everything else critical.
func (p prober) http(ctx context.Context, d *config.CheckDefinition) result {
	method := d.Method
	if method == "" {
		method = http.MethodGet
	}
	request, err := http.NewRequestWithContext(ctx, method, d.HTTP, strings.NewReader(d.Body))
	if err != nil {
		return critical("HTTP "+method, err)
	}
	what := "HTTP " + method + " " + request.URL.Redacted()
	request.Header.Set("User-Agent", "Isthmus Health Check")
	request.Header.Set("Accept", "text/plain, text/*, */*")
	for name, values := range d.Header {
		request.Header[http.CanonicalHeaderKey(name)] = values
	}
	if host := request.Header.Get("Host"); host != "" {
		request.Host = host
	}
	answer, err := p.client(ctx, d).Do(request)
	if err != nil {
		return critical(what, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxBody))
	if err != nil {
		return critical(what, err)
	}
	output := fmt.Sprintf("%s: %s\n%s", what, answer.Status, body)
	switch {
	case answer.StatusCode >= 200 && answer.StatusCode <= 299:
		return result{config.HealthPassing, output}
	case answer.StatusCode == http.StatusTooManyRequests:
		return result{config.HealthWarning, output}
	}
	return result{config.HealthCritical, output}
}

// client makes a connection of its own for each request: a check that found an old one open would prove nothing.
func (p prober) client(ctx context.Context, d *config.CheckDefinition) *http.Client {
	client := &http.Client{Transport: &http.Transport{
		// The transport's own context outlives the request.
		DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			return p.dial(ctx, network, address)
		},
		DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			ServerName:         d.TLSServerName,
			InsecureSkipVerify: d.TLSSkipVerify,
		},
	}}
	if d.DisableRedirects {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return client
}

// cause says what went wrong without what differs each time, such as the port that we came from.
func cause(err error) string {
	var viaURL *url.Error
	if errors.As(err, &viaURL) {
		err = viaURL.Err
	}
	var op *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timed out"
	case errors.As(err, &op):
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}
