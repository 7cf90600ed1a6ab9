package api

import (
	"net/url"
	"strings"
	"testing"
)

// A comparison of a field of a list is one that holds of any element, as Consul's servers take it.
func TestFilterOverLists(t *testing.T) {
	l := newLab(t)
	l.must("PUT", "/v1/agent/service/register", webRegistration)
	l.must("PUT", "/v1/agent/check/register", `{"Name":"the \"disk\"","CheckID":"disk","TTL":"10s","ServiceID":"web1","Status":"warning"}`)
	for expression, want := range map[string]bool{
		`Checks.Status == passing`:                                true,
		`Checks.Status != passing`:                                true,
		`Checks.Status == critical`:                               false,
		`not Checks.Status == critical`:                           true,
		`not (Checks.Status == warning or Service.Port == 1)`:     false,
		`Checks.Status == warning and Service.Service == web`:     true,
		`Checks.Name == "the \x22disk\x22"`:                       true,
		"Checks.Name == `the \"disk\"`":                           true,
		`Checks.CheckID matches "^dis.$"`:                         true,
		`Checks.CheckID contains zzz`:                             false,
		`"v1" in Checks.ServiceTags`:                              true,
		`"v2" not in Checks.ServiceTags`:                          true,
		`Checks.Notes is not empty`:                               false,
		`Checks.Notes is empty`:                                   true,
		`Checks is not empty`:                                     true,
		`Service.Meta["team"] == a and Checks.Status == warning`:  true,
		`any Checks as c { c.Status == warning }`:                 true,
		`Service.Meta.team == "Checks" or Service.Port == 8080`:   true,
		`Service.Proxy.Upstreams.DestinationName == db`:           false,
		`"Checks" == Service.Service or Checks.Status == warning`: true,
	} {
		a := l.ask("GET", "/v1/health/service/web?filter="+url.QueryEscape(expression), "")
		if strings.HasPrefix(expression, `"Checks"`) {
			check(t, a, expression, 400, nil) // no selector on the left
			continue
		}
		if got := strings.Contains(a.text, `"web1"`); a.status != 200 || got != want {
			t.Errorf("%s: %v, want %v: %d %s", expression, got, want, a.status, a.text)
		}
	}
	for path, want := range map[string]bool{
		"/v1/health/connect/web?filter=Service.Proxy.Upstreams.DestinationName == db":   true,
		"/v1/health/connect/web?filter=Service.Proxy.Upstreams.DestinationName == mail": false,
		"/v1/catalog/connect/web?filter=ServiceProxy.Upstreams.DestinationPeer == east": true,
	} {
		a := l.must("GET", strings.ReplaceAll(path, " ", "%20"), "")
		if got := strings.Contains(a.text, "web1-sidecar-proxy"); got != want {
			t.Errorf("%s: %v, want %v: %s", path, got, want, a.text)
		}
	}
	check(t, l.ask("GET", "/v1/health/service/web?filter=Checks.Colour%20==%20red", ""), "unknown field", 400, []string{"Invalid filter"})
}
