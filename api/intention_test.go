package api

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/config"
)

const exactPath = "/v1/connect/intentions/exact?source=web&destination=db"

var intentionSteps = []step{
	{"GET", "/v1/connect/intentions", "", 200, []string{"[]"}},
	{"GET", exactPath, "", 404, []string{"Intention not found"}},
	{"GET", "/v1/connect/intentions/check?source=web&destination=db", "", 200, []string{`{"Allowed":false}`}},
	{"PUT", exactPath, `{"Action":"allow","Description":"web reads"}`, 200, []string{"true"}},
	{"GET", exactPath, "", 200, []string{`"SourceName":"web"`, `"DestinationName":"db"`, `"Action":"allow"`, `"Precedence":9`, `"SourceType":"consul"`, `"Description":"web reads"`}},
	{"GET", "/v1/connect/intentions/check?source=web&destination=db", "", 200, []string{`{"Allowed":true}`}},
	{"GET", "/v1/connect/intentions/check?source=default/web&destination=default/default/db&source-type=consul", "", 200, []string{`{"Allowed":true}`}},
	{"GET", "/v1/connect/intentions/check?source=team/web&destination=db", "", 400, []string{"namespaces and partitions"}},
	{"GET", "/v1/connect/intentions/check?source=web&destination=db&source-type=k8s", "", 400, []string{"unsupported SourceType"}},
	{"GET", "/v1/connect/intentions/check?source=web", "", 400, []string{"required query parameter 'destination' not set"}},
	{"GET", "/v1/config/service-intentions/db", "", 200, []string{`"Sources":[{`, `"Name":"web"`}},
	{"PUT", "/v1/connect/intentions/exact?source=%2A&destination=db", `{"Action":"deny"}`, 200, []string{"true"}},
	{"PUT", exactPath, `{"Action":"deny"}`, 200, []string{"true"}}, // in place of the former one
	{"GET", "/v1/connect/intentions?filter=Action%20==%20deny", "", 200, []string{`"Precedence":9`, `"Precedence":8`}},
	{"PUT", exactPath, `{"Permissions":[{"Action":"allow"}]}`, 400, []string{"L7 intentions are not supported"}},
	{"PUT", exactPath, `{"Action":"maybe"}`, 400, []string{"Action"}},
	{"PUT", exactPath, `{"Action":"allow","Meta":{"a":"b"}}`, 400, []string{"Meta must not be specified"}},
	{"PUT", exactPath, `{"Action":"allow","SourceType":"k8s"}`, 400, []string{"SourceType must be set to 'consul'"}},
	{"PUT", exactPath, `{"Action":"allow","SourceNS":"team"}`, 400, []string{"not supported"}},
	{"PUT", exactPath, `{"Action":"allow","Color":"red"}`, 400, []string{"Color"}},
	{"PUT", "/v1/connect/intentions/exact?source=Bad!&destination=db", `{"Action":"allow"}`, 400, []string{"Bad!"}},
	{"PUT", exactPath, `{"Action":"allow","SourcePeer":"east"}`, 400, []string{
		"SourcePeer field is not supported on this endpoint", `{"Kind":"service-intentions","Name":"db","Sources":[`, `{"Action":"allow","Name":"web","Peer":"east"}`,
	}},
	{"DELETE", "/v1/connect/intentions/exact?source=peer:east/web&destination=db", "", 400, []string{"SourcePeer field is not supported"}},
	{"DELETE", exactPath, "", 200, []string{"true"}},
	{"DELETE", exactPath, "", 200, []string{"true"}}, // as Consul: also for none
	{"GET", "/v1/connect/intentions", "", 200, []string{`"SourceName":"*"`, `!"web"`}},
	{"DELETE", "/v1/connect/intentions/exact?source=%2A&destination=db", "", 200, []string{"true"}},
	{"GET", "/v1/config/service-intentions/db", "", 404, nil}, // the entry goes with its last source
	{"DELETE", "/v1/connect/intentions/exact?source=x&destination=none", "", 200, []string{"true"}},
}

func TestIntentions(t *testing.T) { newLab(t).run(intentionSteps) }

// Each intention of a peer is left as it is when a local one is edited, and the entry's own fields too.
func TestEditKeepsTheRest(t *testing.T) {
	l := newLab(t)
	l.must("PUT", "/v1/config", `{"Kind":"service-intentions","Name":"db","Meta":{"owner":"dba"},"Sources":[{"Name":"api","Peer":"east","Action":"allow","Description":"d"}]}`)
	l.must("PUT", exactPath, `{"Action":"allow"}`)
	check(t, l.must("GET", "/v1/config/service-intentions/db", ""), "entry", 200, []string{`"owner":"dba"`, `"Peer":"east"`, `"Description":"d"`, `"Name":"web"`})
	l.must("DELETE", exactPath, "")
	check(t, l.must("GET", "/v1/config/service-intentions/db", ""), "entry", 200, []string{`"Peer":"east"`, `!"web"`})
	check(t, l.must("GET", "/v1/connect/intentions", ""), "list", 200, []string{`"SourcePeer":"east"`, `!"ID"`})
	check(t, l.must("GET", "/v1/connect/intentions/exact?source=peer:east/api&destination=db", ""), "exact", 200, []string{`"SourcePeer":"east"`})
	check(t, l.ask("DELETE", "/v1/connect/intentions/exact?source=peer:east/api&destination=db", ""), "last of a peer", 400, []string{"consul config delete"})
}

// The entry that a refusal says to write can be written, and holds what is there.
func TestRefusalHoldsTheEntry(t *testing.T) {
	l := newLab(t)
	l.must("PUT", exactPath, `{"Action":"deny"}`)
	text := l.ask("PUT", "/v1/connect/intentions/exact?source=peer:east/api&destination=db", `{"Action":"allow"}`).text
	_, entry, found := strings.Cut(text, "consul config write: ")
	if !found {
		t.Fatalf("refusal %s: want an entry", text)
	}
	l.must("PUT", "/v1/config", entry)
	var list []struct{ SourceName, SourcePeer string }
	l.must("GET", "/v1/connect/intentions", "").into(t, &list)
	if len(list) != 2 {
		t.Errorf("intentions %+v: want both", list)
	}
}

// Consul's CLI creates and deletes by ID, and prints the IDs that it lists.
func TestIntentionsByID(t *testing.T) {
	l := newLab(t)
	var made struct{ ID string }
	l.must("POST", "/v1/connect/intentions", `{"SourceType":"consul","SourceNS":"default","SourceName":"web","DestinationName":"db","Action":"allow"}`).into(t, &made)
	var listed []struct{ ID string }
	l.must("GET", "/v1/connect/intentions", "").into(t, &listed)
	if len(listed) != 1 || listed[0].ID != made.ID {
		t.Fatalf("listed %+v: want %s", listed, made.ID)
	}
	id := "/v1/connect/intentions/" + made.ID
	l.run([]step{
		{"POST", "/v1/connect/intentions", `{"SourceName":"web","DestinationName":"db","Action":"deny"}`, 409, []string{"duplicate intention found"}},
		{"POST", "/v1/connect/intentions", `{"SourceName":"web","DestinationName":"db","SourcePeer":"east","Action":"deny"}`, 400, []string{"SourcePeer"}},
		{"GET", id, "", 200, []string{`"Action":"allow"`}},
		{"GET", "/v1/connect/intentions/nonsense", "", 400, []string{"UUID"}},
		{"GET", "/v1/connect/intentions/00000000-0000-0000-0000-000000000000", "", 404, []string{"Intention not found"}},
		{"PUT", id, `{"SourceName":"other","Action":"deny"}`, 400, []string{"Cannot modify Source or Destination"}},
		{"PUT", id, `{"SourceName":"web","DestinationName":"db","Action":"deny"}`, 200, []string{made.ID}},
		{"GET", id, "", 200, []string{`"Action":"deny"`}},
		{"DELETE", id, "", 200, []string{"true"}},
		{"DELETE", id, "", 404, []string{"Intention not found"}},
		{"PUT", id, `{"Action":"deny"}`, 404, nil},
	})
}

// Match answers in the order in which intentions are applied.
func TestMatch(t *testing.T) {
	l := newLab(t)
	for _, entry := range []string{
		`{"Kind":"service-intentions","Name":"*","Sources":[{"Name":"web","Action":"deny"},{"Name":"*","Action":"deny"}]}`,
		`{"Kind":"service-intentions","Name":"db","Sources":[{"Name":"*","Action":"allow"},{"Name":"web","Action":"allow"},{"Name":"web","Peer":"east","Action":"allow"}]}`,
		`{"Kind":"service-intentions","Name":"api","Sources":[{"Name":"web","Action":"allow"}]}`,
	} {
		l.must("PUT", "/v1/config", entry)
	}
	type match struct {
		SourcePeer, SourceName, DestinationName string
		Precedence                              int
		Action                                  config.Action
	}
	show := func(list []match) string {
		text, _ := json.Marshal(list)
		var parts []string
		for _, m := range list {
			parts = append(parts, strings.TrimPrefix(m.SourcePeer+"/"+m.SourceName, "/")+">"+m.DestinationName)
		}
		if len(parts) == 0 {
			return string(text)
		}
		return strings.Join(parts, " ")
	}
	var byDestination, bySource map[string][]match
	l.must("GET", "/v1/connect/intentions/match?by=destination&name=db&name=default/api", "").into(t, &byDestination)
	l.must("GET", "/v1/connect/intentions/match?by=source&name=web", "").into(t, &bySource)
	for got, want := range map[string]string{
		show(byDestination["db"]):          "web>db east/web>db *>db web>* *>*",
		show(byDestination["default/api"]): "web>api web>* *>*",
		show(bySource["web"]):              "web>api web>db *>db web>* *>*",
	} {
		if got != want {
			t.Errorf("match %s: want %s", got, want)
		}
	}
	check(t, l.ask("GET", "/v1/connect/intentions/match?by=both&name=x", ""), "by", 400, []string{"'by' parameter must be one of"})
	check(t, l.ask("GET", "/v1/connect/intentions/match?by=source", ""), "name", 400, []string{"'name' not set"})
}

// An application that terminates TLS itself asks whether a caller may come in.
func TestAuthorize(t *testing.T) {
	l := newLab(t)
	l.must("PUT", "/v1/config", allowWeb)
	l.must("POST", "/v1/peering/token", `{"PeerName":"east"}`)
	for uri, want := range map[string]string{
		"spiffe://c1.consul/ns/default/dc/dc1/svc/web":     `"Authorized":true`,
		"spiffe://c1.consul/ns/default/dc/dc1/svc/api":     `"Authorized":false`,
		"spiffe://east.consul/ns/default/dc/dc1/svc/api":   `"Authorized":true`,
		"spiffe://east.consul/ns/default/dc/dc1/svc/web":   `"Authorized":false`,
		"spiffe://other.consul/ns/default/dc/dc1/svc/web":  "external trust domain",
		"spiffe://c1.consul/ns/default/dc/dc1/svc/web/x/y": "ClientCertURI",
	} {
		check(t, l.ask("POST", "/v1/agent/connect/authorize", `{"Target":"db","ClientCertURI":"`+uri+`","ClientCertSerial":"01"}`), uri, map[bool]int{true: 400, false: 200}[want == "ClientCertURI"], []string{want})
	}
}
