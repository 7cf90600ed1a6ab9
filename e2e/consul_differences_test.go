package e2e

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A deviation explains why some answers are not as Consul's. The first that matches counts.
type deviation struct {
	request    string // regular expression of whole requests
	difference string // regular expression of whole differences
	where      string // for people; empty: it is no difference between the programs
	reason     string
}

func (d deviation) explains(q question, difference string) bool {
	return regexp.MustCompile("^(?:"+d.request+")$").MatchString(q.String()) && regexp.MustCompile("^(?:"+d.difference+")$").MatchString(difference)
}

const (
	anything  = "(status|header|field) .*"
	noServers = "the servers are no service: there is no service `consul`, and no check `serfHealth`"
	asGiven   = "tagged addresses are those that were registered: no virtual IP, and no copies of the address under other names"
)

// answersThatDiffer is shown in docs/compatibility.md.
var answersThatDiffer = []deviation{
	// Statuses.
	{".*", "status 400, Consul's 500", "any refusal", "what the caller can mend is answered with 400, where Consul often says 500"},
	{"(PUT|DELETE) /v1/connect/intentions/0.*", "status 404, Consul's 500", "/v1/connect/intentions/ID", "what is not there is answered with 404, where Consul says 500"},
	{"GET /v1/health/state/odd", anything, "/v1/health/state", "a state that there is not is refused, and not an empty list"},
	{"GET /v1/agent/version", anything, "/v1/agent/version", "newer Consul servers have it, 1.15.3 does not"},
	{"GET /v1/exported-services", anything, "/v1/exported-services", "newer Consul servers have it, 1.15.3 does not"},
	{"GET /v1/agent/metrics.*", anything, "/v1/agent/metrics", "it has our metrics, in Prometheus' format only: `format=prometheus`"},
	{"GET /v1/acl/token/self", anything, "/v1/acl/token/self", "there are always credentials, and no ACL system to turn on"},
	{"POST /v1/connect/intentions .*deny.*", anything, "POST /v1/connect/intentions", "this older way to write an intention works beside config entries"},

	// Questions that Consul takes and does not answer.
	{"GET /v1/catalog/.*peer=.*", "field .*", "/v1/catalog with `peer=`", "it is honoured, as under /v1/health"},
	{"GET /v1/health/(checks|node|state)/.*peer=.*", "field .*", "/v1/health/checks, node and state with `peer=`", "it is honoured, as by /v1/health/service"},

	{"GET .*(merge-central-config|colour=red)", anything, "a query parameter that is not supported", "it is refused, and not ignored"},

	// Headers.
	{"GET .*(passing=maybe|filter=.*|dc=nope|/v1/internal/ui/exported-services)", "header X-Consul-.*: none, Consul's set", "any refusal", "it has no index: there is nothing to wait for"},
	{"GET /v1/(connect/intentions/(exact|check|0).*|peering/nobody)", "header X-Consul-.*: set, Consul's none", "one intention, a check of it, a peering that there is not", "they have an index, and may be waited for"},
	{"GET /v1/(catalog|health)/service/", "header X-Consul-Default-Acl-Policy: none, Consul's set", "a path without its name", "no header of the ACL policy"},

	// What there is only in a Consul.
	{"GET /v1/(catalog|internal)/.*", "field (Services\\.)?consul(\\[\\])?(\\..*)?: none, .*", "catalog and health", noServers},
	{"GET /v1/health/service/gw", "field \\[\\]\\.Checks\\[\\].*: none, .*", "catalog and health", noServers},
	{"GET .*", "field (.*\\.)?(Service)?TaggedAddresses\\.(consul-virtual|(lan|wan)(_ipv4)?)(\\..*)?: none, .*", "services and nodes", asGiven},
	{"GET .*", "field (.*\\.)?(Service)?TaggedAddresses: none, Consul's object", "services and nodes", asGiven},
	{"GET /v1/agent/self", "field (Coord|Member\\.|Stats\\.).*", "/v1/agent/self", "no gossip, no raft and no coordinates: of `Stats` and `Member` there is little"},
	{"GET /v1/agent/checks", "field service:.*-sidecar-proxy.*", "checks of sidecars", "there is one, an alias of the service's; whether the Envoy follows is in /isthmus/v1/proxies"},
	{"GET /v1/config/.*", "field (\\[\\]\\.)?(AccessLogs|Expose|MeshGateway|TransparentProxy(\\..*)?): none, .*", "config entries", "an entry is shown as it was written, without empty blocks"},

	// What an answer here says more.
	{"GET .*", "field (.*\\.)?(Meta|TaggedAddresses): object, Consul's null(, object)?", "anywhere", "`{}` where Consul has `null` for something that was not given"},
	{"GET .*", "field (Services|(.*\\.)?Tags|nope): list, Consul's (list, )?null", "anywhere", "`[]` where Consul has `null` for none"},
	{"GET .*", "field (.*\\.)?Upstreams\\[\\]\\.LocalBindAddress: string, Consul's none", "upstreams", "a default is shown: `LocalBindAddress` 127.0.0.1"},
	{"GET .*", "field (.*\\.)?Definition(\\..*)?: (string|object|list), Consul's none", "checks", "`Definition` says what is checked, in each answer alike"},
	{"GET /v1/agent/health/.*", "field .*Checks\\[\\]\\.(Definition\\..*|Interval|Timeout): .*", "checks", "`Definition` says what is checked, in each answer alike"},
	{"GET /v1/connect/intentions.*", "field (.*\\.)?ID: string, Consul's none", "intentions", "they have IDs, good for /v1/connect/intentions/ID"},
	{"GET /v1/internal/ui/exported-services.*", "field \\[\\]\\.(Nodes|Tags).*", "/v1/internal/ui/exported-services", "with the nodes and tags of its instances"},

	// What differs only because the two are each other's peer: one dials, and each shows what the other exports.
	{"GET /v1/peering(s|/other)", "field (\\[\\]\\.)?(PeerID|PeerServerName|PeerServerAddresses(\\[\\])?): (string|list), Consul's none", "", ""},
	{"GET /v1/health/.*peer=other", "field .*(TaggedAddresses|Checks).*: .*, Consul's none", "", ""},
}

// TestAnswersThatDifferAreDocumented keeps the table in docs/compatibility.md that of the code. UPDATE_GOLDEN=1 writes it.
func TestAnswersThatDifferAreDocumented(t *testing.T) {
	const file, begin, end = "../docs/compatibility.md", "<!-- answers -->\n", "<!-- end of answers -->\n"
	var table strings.Builder
	table.WriteString("\n| answers of | what is other |\n| --- | --- |\n")
	var seen []string
	for _, d := range answersThatDiffer {
		row := fmt.Sprintf("| %s | %s |\n", d.where, d.reason)
		if d.where != "" && !slices.Contains(seen, row) {
			seen = append(seen, row)
			table.WriteString(row)
		}
	}
	table.WriteString("\n")
	text, err := os.ReadFile(file)
	ok(t, err)
	before, rest, found := strings.Cut(string(text), begin)
	is, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s: want a part between %q and %q", file, begin, end)
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		ok(t, os.WriteFile(file, []byte(before+begin+table.String()+end+after), 0o644))
		return
	}
	if is != table.String() {
		t.Errorf("%s does not say how answers differ: run UPDATE_GOLDEN=1 go test ./e2e -run TestAnswersThatDifferAreDocumented", file)
	}
}

// TestAnswersCoverTheAPI: each method of each path under /v1 that docs/http-api.md says is served is among the questions.
func TestAnswersCoverTheAPI(t *testing.T) {
	text, err := os.ReadFile("../docs/http-api.md")
	ok(t, err)
	rows := regexp.MustCompile(`(?m)^\| ([A-Z]+) \| (/v1/\S+) \|`).FindAllStringSubmatch(string(text), -1)
	if len(rows) < 50 {
		t.Fatalf("%d served paths: want those of the table", len(rows))
	}
	asked := questions(t)
	for _, row := range rows {
		parts := regexp.MustCompile(`\{\w+\}`).Split(row[2], -1)
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		path := regexp.MustCompile("^" + strings.Join(parts, `[^/?]+`) + `(\?.*)?$`)
		if !slices.ContainsFunc(asked, func(q question) bool { return q.method == row[1] && path.MatchString(q.path) }) {
			t.Errorf("%s %s: is asked by no question of testdata/answers.txt", row[1], row[2])
		}
	}
}
