package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// An Envoy is a running Envoy of the lab.
type Envoy struct {
	*Process
	Name    string
	lab     *Lab
	host    string
	cluster *Cluster // nil: a Consul's
	admin   string   // unix socket of a cluster's
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

// ready waits until Envoy is live.
func (e *Envoy) ready() {
	e.lab.T.Helper()
	e.lab.Eventually("envoy "+e.Name+"@"+e.host+" is ready", func() error {
		if !e.Running() {
			return errors.New("it has ended")
		}
		state, err := e.Admin("/ready")
		if err == nil && strings.TrimSpace(state) != "LIVE" {
			err = fmt.Errorf("it is %s", strings.TrimSpace(state))
		}
		return err
	})
}

// Admin asks Envoy's admin interface.
func (e *Envoy) Admin(path string) (string, error) {
	return e.admins(http.MethodGet, path)
}

// Names returns every name that stands in Envoy's own configuration, as JSON has it.
func (e *Envoy) Names() []string {
	e.lab.T.Helper()
	dump, err := e.Admin("/config_dump?include_eds")
	if err != nil {
		e.lab.T.Fatalf("envoy %s: config dump: %v", e.Name, err)
	}
	names := map[string]bool{}
	for _, found := range regexp.MustCompile(`"(?:name|cluster_name|cluster)": "([^"]+)"`).FindAllStringSubmatch(dump, -1) {
		names[found[1]] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// Post changes something through Envoy's admin interface.
func (e *Envoy) Post(path string) (string, error) {
	return e.admins(http.MethodPost, path)
}

func (e *Envoy) admins(method, path string) (string, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       e.dial,
	}}
	request, err := http.NewRequest(method, "http://admin"+path, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// Stat returns the sum of all counters and gauges whose name matches a regular expression.
func (e *Envoy) Stat(pattern string) int {
	text, err := e.Admin("/stats?format=json&filter=" + url.QueryEscape(pattern))
	if err != nil {
		e.lab.T.Fatalf("envoy %s: stats: %v", e.Name, err)
	}
	var answer struct{ Stats []struct{ Value any } }
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		e.lab.T.Fatalf("envoy %s: stats: %v", e.Name, err)
	}
	sum := 0
	for _, s := range answer.Stats {
		if n, ok := s.Value.(float64); ok {
			sum += int(n)
		}
	}
	return sum
}
