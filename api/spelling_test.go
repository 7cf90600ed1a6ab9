package api

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// snake is how each field of ours is spelled. Entries and what is below them are Consul's.
var snake = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// Every answer under /isthmus/v1 has one spelling, but for config entries, which are Consul's wherever they stand.
func TestOneSpelling(t *testing.T) {
	at := time.Unix(5000, 0).UTC()
	l := newLab(t, func(c *Config) {
		c.Runtime.PeerStatus = failing
		c.Runtime.Proxies = func() []Proxy {
			return []Proxy{{ID: "web1-sidecar-proxy", Connected: true, Since: &at, LeafNotAfter: &at, Rejected: []Rejected{{Name: "x", TypeURL: "t", Kind: "k"}}}}
		}
		c.Runtime.Skipped = func() map[snapshot.ProxyID][]snapshot.Skipped {
			return map[snapshot.ProxyID][]snapshot.Skipped{"web1-sidecar-proxy": {{Reason: "not imported", Expected: true}}}
		}
	})
	importDB(l, "passing")
	l.must("POST", "/v1/peering/token", `{"PeerName":"east"}`)
	l.must("PUT", "/v1/agent/service/register", webRegistration)
	l.must("PUT", "/v1/config", exportDB)
	l.must("PUT", "/v1/config", `{"Kind":"service-defaults","Name":"web","LocalRequestTimeoutMs":5}`)
	asked := map[string]string{
		"GET /isthmus/v1/why":           "/isthmus/v1/why?source=web&destination=db&peer=east",
		"POST /isthmus/v1/tokens":       `{"role":"proxy","proxy":"web1-sidecar-proxy","description":"d"}`,
		"POST /isthmus/v1/config/apply": apply([]string{allowWeb}, `,"prune":true,"dry_run":true`),
		"PUT /isthmus/v1/config":        policyEast,
	}
	for _, e := range Endpoints() {
		if !strings.HasPrefix(e.Path, "/isthmus/v1/") || strings.Contains(e.Path, "{") || e.Method == anyMethod {
			continue
		}
		path, body := e.Path, asked[e.Method+" "+e.Path]
		if strings.HasPrefix(body, "/") {
			path, body = body, ""
		}
		var value any
		l.must(e.Method, path, body).into(t, &value)
		spelled(t, e.Method+" "+e.Path, value)
	}
	var problem any
	l.ask("GET", "/isthmus/v1/why", "", "Accept: application/problem+json").into(t, &problem)
	spelled(t, "problem", problem)
}

func spelled(t *testing.T, at string, value any) {
	t.Helper()
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			spelled(t, at, element)
		}
	case map[string]any:
		if value["Kind"] != nil && value["CreateIndex"] != nil {
			return // a config entry
		}
		for key, field := range value {
			if key == "before" || key == "after" || key == "resources" {
				continue // entries, and counts by type URL
			}
			if !snake.MatchString(key) {
				text, _ := json.Marshal(value) // it came from JSON
				t.Errorf("%s: key %s in %s: want lower case and underscores", at, key, text)
			}
			spelled(t, at+" "+key, field)
		}
	}
}
