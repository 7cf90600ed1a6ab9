package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestErrorText(t *testing.T) {
	for want, err := range map[string]*Error{
		"f.hcl:7: mesh mesh: TLS: x":   {File: "f.hcl", Line: 7, Kind: "mesh", Name: "mesh", Field: "TLS", Msg: "x"},
		"f.hcl: x":                     {File: "f.hcl", Msg: "x"},
		"line 3: service web: Port: x": {Line: 3, Kind: "service", Name: "web", Field: "Port", Msg: "x"},
		"service: x":                   {Line: 1, Kind: "service", Msg: "x"},
	} {
		if got := err.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	long := &Error{Kind: "mesh", Name: strings.Repeat("ä", 1000), Msg: "x"}
	if len(long.Error()) > 200 {
		t.Errorf("a long name is shown whole: %s", long)
	}
}

// TestAllErrors: every error of a file is an *Error, all are returned, up to a bound, and nothing else is.
func TestAllErrors(t *testing.T) {
	var body strings.Builder
	body.WriteString("Kind = \"exported-services\"\n")
	for i := range 150 {
		fmt.Fprintf(&body, "Services { Name = \"s%d\" }\n", i)
	}
	entries, err := ParseEntries("f.hcl", []byte(body.String()))
	if entries != nil || err == nil {
		t.Fatalf("got %d entries and %v", len(entries), err)
	}
	all := err.(interface{ Unwrap() []error }).Unwrap()
	if len(all) != maxErrors+1 || all[maxErrors].Error() != "and 50 more errors" {
		t.Errorf("got %d errors, want %d: %v", len(all), maxErrors, all[len(all)-1])
	}
	for i, err := range all[:maxErrors] {
		var each *Error
		if !errors.As(err, &each) || each.Line != i+2 || each.File != "f.hcl" {
			t.Fatalf("error %d: %v", i, err)
		}
	}
}

func TestExactlyOne(t *testing.T) {
	for _, body := range []string{"[]", `[{"Kind":"mesh"},{"Kind":"proxy-defaults"}]`} {
		if _, err := ParseEntry("f.json", []byte(body)); err == nil {
			t.Errorf("%s: was accepted as one entry", body)
		}
	}
	if _, err := ParseRegistration([]byte(`[{"Name":"a"},{"Name":"b"}]`)); err == nil {
		t.Error("two services were accepted as one")
	}
}

// TestNoSecretsInErrors: what may be a token is in no error.
func TestNoSecretsInErrors(t *testing.T) {
	const secret = "canary-7f3a"
	for _, body := range []string{
		`{"PeerName":"UPPER","PeeringToken":"` + secret + `"}`, `{"PeerName":"a","PeeringToken":["` + secret + `"]}`,
		`{"PeerName":"a","PeeringToken":"` + secret + `","PeeringToken":"` + secret + `2"}`, `{"PeerName":"a","PeeringToken":"` + secret,
	} {
		if _, err := ParseEstablishRequest([]byte(body)); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: got %v", body, err)
		}
	}
	for _, body := range []string{`{"Name":"a","Token":"` + secret + `"}`, `{"Name":"a","Checks":[{"TTL":"1s","Token":"` + secret + `"}]}`} {
		if _, err := ParseRegistration([]byte(body)); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: got %v", body, err)
		}
	}
	request, err := ParseEstablishRequest([]byte(`{"PeerName":"a","PeeringToken":"` + secret + `"}`))
	if err != nil || request.Token.Reveal() != secret || strings.Contains(fmt.Sprintf("%+v %#v", request, request), secret) {
		t.Errorf("got %v, %v", request, err)
	}
}

// TestChecksAsJSON: durations are text, as Consul has them, and the zero value is nothing.
func TestChecksAsJSON(t *testing.T) {
	check := CheckDefinition{TCP: "a:1", Interval: 10 * time.Second, Timeout: 1500 * time.Millisecond}
	data, err := json.Marshal(check)
	if err != nil || string(data) != `{"TCP":"a:1","Interval":"10s","Timeout":"1.5s"}` {
		t.Errorf("got %s, %v", data, err)
	}
	var again CheckDefinition
	if err := json.Unmarshal(data, &again); err != nil || !reflect.DeepEqual(check, again) {
		t.Errorf("got %+v, %v", again, err)
	}
	if err := json.Unmarshal([]byte(`{"Interval":10000000000}`), &again); err != nil || again.Interval != 10*time.Second {
		t.Errorf("got %v, %v", again.Interval, err)
	}
	if json.Unmarshal([]byte(`{"Interval":"ten"}`), &again) == nil || json.Unmarshal([]byte(`{"MaxStale":"ten"}`), &PeerPolicy{}) == nil {
		t.Error("a duration that is none was read")
	}
}

// TestKeptFields: what has no effect is named, wherever it is kept, and nothing else is.
func TestKeptFields(t *testing.T) {
	entry, err := ParseEntry("", []byte(`{"Kind":"service-defaults","Name":"a","Expose":{"Checks":true},"LocalRequestTimeoutMs":0,
		"Meta":{"Expose":"x"},"UpstreamConfig":{"Defaults":{"Protocol":"http","PassiveHealthCheck":{"MaxFailures":1}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Expose", "UpstreamConfig.Defaults.PassiveHealthCheck", "UpstreamConfig.Defaults.Protocol"}
	if got := KeptFields(entry); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if KeptFields(&ExportedServices{}) != nil || KeptFields(unknownEntry{}) != nil || (&Service{}).KeptFields() != nil {
		t.Error("nothing is kept, and something was named")
	}
}

type unknownEntry struct{}

func (unknownEntry) EntryKind() string { return "unknown" }
func (unknownEntry) EntryName() string { return "unknown" }
