package config

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// TestOptions: each option's text can be set, shows in the server, and is named in its error; each field of Server has one.
func TestOptions(t *testing.T) {
	values := map[string]string{
		"node_address": "10.1.1.1",
		"source":       "consul", "http_addr": "127.0.0.1:1", "xds_addr": "127.0.0.1:2", "peering_addr": "127.0.0.1:3", "metrics_addr": "127.0.0.1:4", "dns_addr": "127.0.0.1:5",
		"peering_advertise": "a:1,b:2", "log_level": "warn", "log_format": "json", "allow_peer_addresses": "10.0.0.0/8 192.168.0.0/16",
		"default_intention_policy": "allow", "mesh_tls_min": "1.3", "http_open": "true", "allow_plaintext_peers": "true",
	}
	server := Server{PeerPolicies: []*PeerPolicy{{}}}
	for _, option := range Options() {
		value := values[option.Name]
		if value == "" {
			value = "some-" + option.Name
		}
		if err := option.Set(&server, strings.ReplaceAll(value, " ", ", ")); err != nil {
			t.Errorf("%s: %v", option.Name, err)
		}
		if got := option.text(&server); got != value {
			t.Errorf("%s: is %q after it was set to %q", option.Name, got, value)
		}
		if option.Usage == "" || option.Flag() == "" || !strings.HasPrefix(option.Env(), "ISTHMUS_SERVE_") {
			t.Errorf("%s: incomplete", option.Name)
		}
		if option.IsBool() != (values[option.Name] == "true") {
			t.Errorf("%s: IsBool is %v", option.Name, option.IsBool())
		}
		if values[option.Name] != "" {
			var refusal *Error
			if err := option.Set(&server, "in valid"); !errors.As(err, &refusal) || refusal.Field != option.Name || refusal.Kind != "server" {
				t.Errorf("%s: got %v for a value that is none", option.Name, err)
			}
		}
	}
	for v, i := reflect.ValueOf(server), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("%s: no option sets it", v.Type().Field(i).Name)
		}
	}
}

// TestDefaults: every default passes its own check, for both sources.
func TestDefaults(t *testing.T) {
	for _, source := range []string{"", SourceEmbedded, SourceConsul} {
		server, err := Server{Source: source}.Resolve("Host-1")
		if err != nil {
			t.Errorf("%s: %v", source, err)
		}
		if server.NodeName != "host-1" || server.Source == "" {
			t.Errorf("%s: %+v", source, server)
		}
	}
}

// TestOrderOfSources: what is set later wins, a flag over a file, and false over true.
func TestOrderOfSources(t *testing.T) {
	server, err := LoadServer("f.hcl", []byte("http_open = true\nlog_level = \"debug\"\ndatacenter = \"fra1\""))
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range Options() {
		value := map[string]string{"http_open": "false", "log_level": "error"}[option.Name]
		if err := option.Set(&server, value); err != nil {
			t.Fatal(err)
		}
	}
	if server.HTTPOpen || server.LogLevel != "error" || server.Datacenter != "fra1" {
		t.Errorf("got %+v", server)
	}
}
