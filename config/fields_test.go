package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
	"golang.org/x/tools/txtar"
)

// TestConsulFields holds the tables against Consul's own client: a field that it can send must be in them, whatever
// becomes of it.
func TestConsulFields(t *testing.T) {
	for _, known := range []struct {
		value  any
		fields []field
	}{
		{api.ExportedServicesConfigEntry{}, exportedServicesFields},
		{api.ServiceIntentionsConfigEntry{}, serviceIntentionsFields},
		{api.ServiceConfigEntry{}, serviceDefaultsFields},
		{api.ProxyConfigEntry{}, proxyDefaultsFields},
		{api.MeshConfigEntry{}, meshFields},
		{api.AgentServiceRegistration{}, serviceFields},
		{api.AgentCheckRegistration{}, checkRequestFields},
		{api.PeeringGenerateTokenRequest{}, tokenRequestFields},
		{api.PeeringEstablishRequest{}, establishRequestFields},
	} {
		missing(t, reflect.TypeOf(known.value), known.fields, reflect.TypeOf(known.value).Name())
	}
}

// missing reports the fields of a type, and of what it holds, that are not in the table. What is refused or computed as a
// whole needs no table of what is in it.
func missing(t *testing.T, typ reflect.Type, fields []field, path string) {
	for _, have := range fieldsOf(typ) {
		f := fieldNamed(fields, have.name)
		if f == nil {
			t.Errorf("%s.%s is in no table", path, have.name)
			continue
		}
		if (f.does == honoured || f.does == kept) && have.of != nil {
			missing(t, have.of, f.sub, path+"."+have.name)
		}
	}
}

type fieldOf struct {
	name string
	of   reflect.Type // the struct that it holds, one of, or by key; else nil
}

// fieldsOf returns the fields of a struct as JSON has them, those of embedded structs among them.
func fieldsOf(typ reflect.Type) []fieldOf {
	var found []fieldOf
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported() && !f.Anonymous:
			continue
		case f.Anonymous:
			found = append(found, fieldsOf(f.Type)...)
			continue
		case name == "":
			name = f.Name
		}
		inner := f.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice || inner.Kind() == reflect.Map {
			inner = inner.Elem()
		}
		if inner.Kind() != reflect.Struct || inner.PkgPath() == "net/netip" || inner.PkgPath() == "time" {
			inner = nil
		}
		found = append(found, fieldOf{name, inner})
	}
	return found
}

// TestHonouredFieldsHaveAPlace: what a table calls honoured is a field of the type, so that filling it loses nothing, and
// every field of the type is in the table.
func TestHonouredFieldsHaveAPlace(t *testing.T) {
	filledByHand := map[string]bool{
		"Service.Check": true, "Service.Connect": true, "Service.ConnectNative": true, "Mesh.Name": true, "Mesh.Peering": true, "Mesh.TLS": true,
	}
	for _, k := range kinds {
		placed(t, reflect.TypeOf(k.make()).Elem(), k.fields, reflect.TypeOf(k.make()).Elem().Name(), filledByHand)
	}
	placed(t, reflect.TypeFor[Service](), serviceFields, "Service", filledByHand)
	placed(t, reflect.TypeFor[CheckDefinition](), checkFields, "CheckDefinition", filledByHand)
}

func placed(t *testing.T, typ reflect.Type, fields []field, path string, byHand map[string]bool) {
	have := map[string]reflect.Type{}
	for _, f := range fieldsOf(typ) {
		have[f.name] = f.of
		if fieldNamed(fields, f.name) == nil && !byHand[path+"."+f.name] {
			t.Errorf("%s.%s is in no table", path, f.name)
		}
	}
	for _, f := range fields {
		at := path + "." + f.name
		inner, ok := have[f.name]
		switch {
		case f.name == "Kind" && path != "Service", byHand[at]:
		case (f.does == honoured || f.typed) && !ok:
			t.Errorf("%s is honoured and has no place in the type", at)
		case f.does == honoured && inner != nil && len(f.sub) > 0:
			placed(t, inner, f.sub, at, byHand)
		}
	}
}

// TestRefusalsHaveCases: every field that is refused is refused in a golden case.
func TestRefusalsHaveCases(t *testing.T) {
	var errors strings.Builder
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range txtar.Parse(data).Files {
			if part.Name == "error" {
				errors.Write(part.Data)
			}
		}
	}
	all := errors.String()
	var walk func(fields []field)
	walk = func(fields []field) {
		for _, f := range fields {
			if f.does == refused && !strings.Contains(all, f.name+": "+f.note) {
				t.Errorf("%s: no case in which it is refused: %s", f.name, f.note)
			}
			if f.why != "" && !strings.Contains(all, ": "+f.why) {
				t.Errorf("%s: no case in which a value is refused: %s", f.name, f.why)
			}
			walk(f.sub)
		}
	}
	for _, k := range kinds {
		walk(k.fields)
	}
	for _, fields := range [][]field{serviceFields, checkRequestFields, tokenRequestFields, establishRequestFields} {
		walk(fields)
	}
	for _, r := range refusedKinds {
		if !strings.Contains(all, r.name+" web: Kind: "+r.why) {
			t.Errorf("kind %s: no case in which it is refused", r.name)
		}
	}
}

// TestTablesAreUnambiguous: no key spells two fields of one table, and every row says what it means.
func TestTablesAreUnambiguous(t *testing.T) {
	var walk func(fields []field, path string, described bool)
	walk = func(fields []field, path string, described bool) {
		for i := range fields {
			f := &fields[i]
			for _, spelling := range append([]string{f.name, snake(f.name)}, f.also...) {
				if first := fieldNamed(fields, spelling); first != f {
					t.Errorf("%s.%s: %s is also %s", path, f.name, spelling, first.name)
				}
			}
			if f.note == "" && !described && len(f.sub) == 0 {
				t.Errorf("%s.%s: no note", path, f.name)
			}
			walk(f.sub, path+"."+f.name, described || f.does == kept)
		}
	}
	for _, k := range kinds {
		walk(k.fields, k.name, false)
	}
	walk(serviceFields, "service", false)
	walk(checkRequestFields, "check", false)
}

func TestSpelling(t *testing.T) {
	for name, want := range map[string]string{
		"TLSMinVersion": "tls_min_version", "LocalConnectTimeoutMs": "local_connect_timeout_ms", "ExternalSNI": "external_sni",
		"ID": "id", "JSONFormat": "json_format", "SanitizeXForwardedClientCert": "sanitize_x_forwarded_client_cert",
		"bind_address": "bind_address", "DestinationServiceID": "destination_service_id", "MaxRequestHeadersKB": "max_request_headers_kb",
	} {
		if got := snake(name); got != want {
			t.Errorf("snake(%s) = %s, want %s", name, got, want)
		}
		for _, key := range []string{name, want, strings.ToUpper(name), strings.ToUpper(want), strings.ToLower(name)} {
			if !spells(key, name) {
				t.Errorf("%s does not spell %s", key, name)
			}
		}
	}
	if spells("loca_lconnecttimeoutms", "LocalConnectTimeoutMs") {
		t.Error("an underscore may stand between words only")
	}
}

func TestNearest(t *testing.T) {
	for key, want := range map[string]string{"Sorces": "Sources", "consumer": "", "actoin": "Action", "": "", "Completely": ""} {
		if got := nearest(key, []string{"Sources", "Action", "Name"}); got != want {
			t.Errorf("nearest(%s) = %q, want %q", key, got, want)
		}
	}
}
