package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// TestAnswersAsConsul sends the requests of testdata/answers.txt to an Isthmus and to a real Consul, and compares the
// answers: status, headers, and the fields of the JSON with their types. What differs is in the table
// answersThatDiffer with its reason, and what is in that table differs: a line that nothing needs any more fails too.
func TestAnswersAsConsul(t *testing.T) {
	l := lab.New(t)
	ours, theirs := isthmusSide(l, "alpha"), consulSide(l, "beta", lab.Consul115)
	peered(t, ours, theirs)
	token, err := os.ReadFile(l.Path("alpha-data") + "/operator.token")
	ok(t, err)
	us := answerer{t, ours, "http://" + ours.host.API + ":" + lab.HTTPPort, strings.TrimSpace(string(token))}
	them := answerer{t, theirs, "http://" + theirs.host.API + ":" + lab.HTTPPort, ""}
	needed := map[int]bool{}
	for _, q := range questions(t) {
		for _, difference := range us.ask(q).differs(them.ask(q)) {
			line := slices.IndexFunc(answersThatDiffer, func(d deviation) bool { return d.explains(q, difference) })
			if line < 0 {
				t.Errorf("%s: %s", q, difference)
				continue
			}
			needed[line] = true
		}
	}
	for i, d := range answersThatDiffer {
		if !needed[i] {
			t.Errorf("answersThatDiffer: %s, %s: nothing differs so any more", d.request, d.difference)
		}
	}
}

// peered makes each of two sides the other's peer, called other, that exports web to it.
func peered(t *testing.T, ours, theirs *side) {
	t.Helper()
	for _, s := range []*side{ours, theirs} {
		s.mustWrite(exports("web", "other"))
	}
	token := theirs.CLI("peering", "generate-token", "-name", "other")
	ours.CLI("peering", "establish", "-name", "other", "-peering-token", token)
	for _, s := range []*side{ours, theirs} {
		s.register("web", 0)
	}
	for _, s := range []*side{ours, theirs} {
		s.Eventually(s.name+" imports web", func() error {
			var found []any
			if err := s.JSON("/v1/health/service/web?peer=other", &found); err != nil || len(found) == 0 {
				return fmt.Errorf("%d instances, %w", len(found), err)
			}
			return nil
		})
	}
}

// A question is one request.
type question struct{ method, path, body string }

func (q question) String() string { return strings.TrimSpace(q.method + " " + q.path + " " + q.body) }

func questions(t *testing.T) []question {
	t.Helper()
	text, err := os.ReadFile("testdata/answers.txt")
	ok(t, err)
	var all []question
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		fields := append(strings.SplitN(line, " ", 3), "")
		all = append(all, question{fields[0], fields[1], fields[2]})
	}
	return all
}

// An answerer is a server that is asked.
type answerer struct {
	t     *testing.T
	side  *side
	base  string
	token string
}

// A reply is an answer, as it is compared.
type reply struct {
	status int
	header map[string]string // those of Consul's with their presence, and the type of the content
	fields map[string]string // path of a JSON value -> its type; for what is no JSON "" -> text
	text   string
}

func (a answerer) ask(q question) reply {
	a.t.Helper()
	request, err := http.NewRequestWithContext(a.t.Context(), q.method, a.base+strings.ReplaceAll(q.path, "{node}", a.side.name), strings.NewReader(q.body))
	ok(a.t, err)
	if a.token != "" {
		request.Header.Set("X-Consul-Token", a.token)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return a.side.host.DialOutside(ctx, address)
	}}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	ok(a.t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	ok(a.t, err)
	r := reply{status: response.StatusCode, header: map[string]string{}, fields: map[string]string{}, text: string(body)}
	for name := range response.Header {
		if strings.HasPrefix(name, "X-Consul-") {
			r.header[name] = "set"
		}
	}
	if len(body) > 0 {
		r.header["Content-Type"] = response.Header.Get("Content-Type")
	}
	var value any
	switch {
	case len(body) == 0:
		r.fields[""] = "nothing"
	case json.Unmarshal(body, &value) != nil:
		r.fields[""] = "text"
	default:
		shape(r.fields, "", value)
	}
	return r
}

// free are the fields whose keys are a user's own.
var free = regexp.MustCompile(`(^|\.)(Meta|NodeMeta|ServiceMeta|Config|DebugConfig)$`)

// shape notes the type of each value. Elements of a list are one, and a value may have several types: "null, string".
func shape(fields map[string]string, path string, value any) {
	note := func(kind string) {
		if known := fields[path]; known == "" {
			fields[path] = kind
		} else if !slices.Contains(strings.Split(known, ", "), kind) {
			kinds := append(strings.Split(known, ", "), kind)
			slices.Sort(kinds)
			fields[path] = strings.Join(kinds, ", ")
		}
	}
	switch value := value.(type) {
	case nil:
		note("null")
	case string:
		note("string")
	case float64:
		note("number")
	case bool:
		note("bool")
	case []any:
		note("list")
		for _, element := range value {
			shape(fields, path+"[]", element)
		}
	case map[string]any:
		note("object")
		if free.MatchString(path) {
			return
		}
		for key, field := range value {
			shape(fields, strings.TrimPrefix(path+"."+key, "."), field)
		}
	}
}

// differs says in which way an answer is not Consul's.
func (r reply) differs(consul reply) []string {
	var list []string
	if r.status != consul.status {
		list = append(list, fmt.Sprintf("status %d, Consul's %d", r.status, consul.status))
	}
	for what, pair := range map[string][2]map[string]string{"header": {r.header, consul.header}, "field": {r.fields, consul.fields}} {
		names := maps.Clone(pair[0])
		maps.Copy(names, pair[1])
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if ours, theirs := pair[0][name], pair[1][name]; ours != theirs {
				list = append(list, fmt.Sprintf("%s %s: %s, Consul's %s", what, name, or(ours, "none"), or(theirs, "none")))
			}
		}
	}
	return list
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
