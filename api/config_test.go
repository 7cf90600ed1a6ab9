package api

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

const (
	exportDB   = `{"Kind":"exported-services","Name":"default","Services":[{"Name":"db","Consumers":[{"Peer":"east"}]}]}`
	allowWeb   = `{"Kind":"service-intentions","Name":"db","Sources":[{"Name":"web","Action":"allow"},{"Name":"api","Peer":"east","Action":"allow"}]}`
	policyEast = `{"Kind":"peer-policy","Name":"east","Accept":["db"]}`
)

var configSteps = []step{
	{"PUT", "/v1/config", exportDB, 200, []string{"true"}},
	{"GET", "/v1/config/exported-services/default", "", 200, []string{`"Kind":"exported-services"`, `"Peer":"east"`, `"ModifyIndex":`}},
	{"GET", "/v1/config/exported-services", "", 200, []string{`[{`, `"Name":"default"`}},
	{"GET", "/v1/config/service-defaults/web", "", 404, []string{`Config entry not found for "service-defaults" / "web"`}},
	{"GET", "/v1/config/service-defaults", "", 200, []string{"[]"}},
	{"GET", "/v1/config/service-resolver", "", 200, []string{"[]"}}, // there can be none, so there is none
	{"GET", "/v1/config/odd", "", 400, []string{"invalid config entry kind: odd"}},
	{"PUT", "/v1/config", `{"Kind":"service-resolver","Name":"web"}`, 400, []string{"dynamic routing is not supported"}},
	{"PUT", "/v1/config", `{"Kind":"service-intentions","Name":"db","Sources":[{"Name":"web","Permissions":[{"Action":"allow"}]}]}`, 400, []string{"Permissions"}},
	{"PUT", "/v1/config", `{"Kind":"service-defaults","Name":"web","Bogus":1}`, 400, []string{"Bogus"}},
	{"PUT", "/v1/config", `{`, 400, nil},
	{"PUT", "/v1/config", policyEast, 400, []string{"invalid config entry kind: peer-policy", "/isthmus/v1/config"}},
	{"GET", "/v1/config/peer-policy", "", 400, []string{"/isthmus/v1/config"}},
	{"PUT", "/isthmus/v1/config", policyEast, 200, []string{"true"}},
	{"PUT", "/isthmus/v1/config/mesh", policyEast, 400, []string{"want one of kind mesh"}},
	{"PUT", "/isthmus/v1/config/peer-policy", policyEast, 200, []string{"true"}},
	{"GET", "/isthmus/v1/config/peer-policy/east", "", 200, []string{`"Accept":["db"]`}},
	{"GET", "/isthmus/v1/config", "", 200, []string{`"peer-policy"`, `"exported-services"`}},
	{"DELETE", "/isthmus/v1/config/peer-policy/east", "", 200, []string{"{}"}},
	{"GET", "/isthmus/v1/config/peer-policy/east", "", 404, nil},
	{"PUT", "/v1/config?cas=0", exportDB, 200, []string{"false"}}, // it is there already
	{"PUT", "/v1/config?cas=x", exportDB, 400, []string{"Invalid value for ?cas"}},
	{"DELETE", "/v1/config/exported-services/default?cas=1", "", 200, []string{"false"}},
	{"DELETE", "/v1/config/exported-services/default", "", 200, []string{"{}"}},
	{"DELETE", "/v1/config/exported-services/default", "", 200, []string{"{}"}}, // as Consul: none is no error
	{"PUT", "/v1/config?cas=0", exportDB, 200, []string{"true"}},
}

func TestConfig(t *testing.T) { newLab(t).run(configSteps) }

func TestConfigCompareAndSet(t *testing.T) {
	l := newLab(t)
	l.must("PUT", "/v1/config", exportDB)
	var entry struct{ ModifyIndex uint64 }
	l.must("GET", "/v1/config/exported-services/default", "").into(t, &entry)
	at := "?cas=" + strconv.FormatUint(entry.ModifyIndex, 10)
	other := strings.Replace(exportDB, "db", "db2", 1)
	for i, want := range []string{"true", "false"} { // the second one saw what the first one replaced
		if got := l.must("PUT", "/v1/config"+at, other).text; got != want {
			t.Errorf("write %d: %s: want %s", i+1, got, want)
		}
	}
}

// The text is Consul's plain one, unless a client asks for a document.
func TestProblemDocument(t *testing.T) {
	l := newLab(t)
	bad := `{"Kind":"service-intentions","Name":"db","Sources":[{"Name":"web","Action":"maybe"}]}`
	a := l.ask("PUT", "/v1/config", bad, "Accept: application/problem+json")
	var p struct {
		Type, Title, Code, Object, Field, Detail string
		Status                                   int
	}
	a.into(t, &p)
	if a.header.Get("Content-Type") != "application/problem+json" || p.Status != 400 || p.Code != "invalid" ||
		p.Object != "service-intentions/db" || p.Field != "Sources[0].Action" || p.Detail == "" || p.Title != "Bad Request" {
		t.Errorf("problem %+v: %s", p, a.text)
	}
	if text := l.ask("PUT", "/v1/config", bad); !strings.Contains(text.text, "Sources[0].Action") || strings.HasPrefix(text.text, "{") {
		t.Errorf("plain text: %s", text.text)
	}
}

func apply(entries []string, rest string) string {
	return `{"entries":[` + strings.Join(entries, ",") + `]` + rest + `}`
}

func TestApply(t *testing.T) {
	l := newLab(t)
	l.must("PUT", "/v1/config", `{"Kind":"service-defaults","Name":"old"}`)
	index := l.store.publisher.World().Index
	wanted := []string{exportDB, allowWeb, policyEast}

	var dry, done, again ApplyResult
	l.must("POST", "/isthmus/v1/config/apply", apply(wanted, `,"prune":true,"dry_run":true`)).into(t, &dry)
	if l.store.publisher.World().Index != index || dry.Applied {
		t.Errorf("a dry run changed something: %+v", dry)
	}
	l.must("POST", "/isthmus/v1/config/apply", apply(wanted, `,"prune":true`)).into(t, &done)
	var seen []string
	for _, c := range done.Changes {
		seen = append(seen, c.Action+" "+c.Kind+"/"+c.Name)
	}
	want := "create exported-services/default, create peer-policy/east, delete service-defaults/old, create service-intentions/db"
	if got := strings.Join(seen, ", "); got != want || !done.Applied || len(dry.Changes) != 4 {
		t.Errorf("changes %s: want %s", got, want)
	}
	if got := l.store.publisher.World().Index; got != index+1 {
		t.Errorf("index %d: want one write after %d", got, index)
	}
	l.must("POST", "/isthmus/v1/config/apply", apply(wanted, `,"prune":true`)).into(t, &again)
	if len(again.Changes) != 0 || again.Applied || l.store.publisher.World().Index != index+1 {
		t.Errorf("the same again changed something: %+v", again)
	}
}

// One bad entry, and nothing is written; all that is wrong is said at once.
func TestApplyAllOrNone(t *testing.T) {
	l := newLab(t)
	index := l.store.publisher.World().Index
	bad := []string{exportDB, `{"Kind":"http-route","Name":"r"}`, `{"Kind":"service-defaults","Name":"UPPER"}`}
	check(t, l.ask("POST", "/isthmus/v1/config/apply", apply(bad, "")), "bad", 400, []string{"http-route", "UPPER"})
	check(t, l.ask("POST", "/isthmus/v1/config/apply", apply([]string{exportDB, exportDB}, "")), "twice", 400, []string{"written twice"})
	check(t, l.ask("POST", "/isthmus/v1/config/apply", `{"Entrys":[]}`), "unknown field", 400, []string{"Entrys"})
	if got := l.store.publisher.World().Index; got != index {
		t.Errorf("index %d: want %d, as before", got, index)
	}
}

func TestDryRunOfOneEntry(t *testing.T) {
	l := newLab(t)
	index := l.store.publisher.World().Index
	var result ApplyResult
	l.must("PUT", "/isthmus/v1/config?dry-run", allowWeb).into(t, &result)
	if len(result.Changes) != 1 || result.Changes[0].Action != "create" || result.Applied || l.store.publisher.World().Index != index {
		t.Errorf("dry run: %+v", result)
	}
	check(t, l.ask("PUT", "/isthmus/v1/config?dry-run", `{"Kind":"tcp-route","Name":"x"}`), "dry run", 400, []string{"tcp-route"})
	if !json.Valid([]byte(l.must("GET", "/isthmus/v1/config", "").text)) {
		t.Error("list is no JSON")
	}
}
