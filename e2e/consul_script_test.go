package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// TestSameScript lets operators of a Consul and of an isthmus do the same, with the same commands, in every combination,
// and prints what came of it side by side. What differs from two Consuls is explained in docs/compatibility.md.
func TestSameScript(t *testing.T) {
	makers := map[string]func(l *lab.Lab, name string) *side{
		"Consul":  func(l *lab.Lab, name string) *side { return consulSide(l, name, lab.Consul115) },
		"Isthmus": func(l *lab.Lab, name string) *side { return isthmusSide(l, name) },
	}
	var all []*script
	for _, pair := range [][2]string{{"Consul", "Consul"}, {"Consul", "Isthmus"}, {"Isthmus", "Consul"}, {"Isthmus", "Isthmus"}} {
		s := &script{name: pair[0] + ", " + pair[1]}
		t.Run(pair[0]+" exports, "+pair[1]+" imports", func(t *testing.T) {
			s.Lab = lab.New(t)
			s.a, s.b = makers[pair[0]](s.Lab, "alpha"), makers[pair[1]](s.Lab, "beta")
			s.run()
		})
		all = append(all, s)
	}
	if !t.Failed() {
		compare(t, all)
	}
}

// script is what two operators do. a makes the tokens and exports, b uses them and imports.
type script struct {
	*lab.Lab
	name string
	a, b *side
	rows []row
}

// row is what came of one action. Only outcome is compared.
type row struct{ action, outcome, detail string }

func (s *script) run() {
	s.a.mesh("beta", "remote")
	s.b.mesh("alpha", "remote")
	s.did("register a service without a sidecar", s.a.Try("services", "register", "-name", "plain", "-port", "9100", "-address", s.a.host.App))
	s.establish()
	s.configure()
	s.call()
	s.end()
}

// brief is how long the script waits for what comes from one kind of control plane and not from the other.
const brief = 2 * time.Second

// The call that is late after a grant, and what late is.
const (
	grant = "call when allowed"
	late  = 10 * time.Second
)

// did notes how a command ended.
func (s *script) did(action string, r lab.Result) lab.Result {
	outcome := "ok"
	if r.Code != 0 {
		outcome = "refused"
	}
	s.rows = append(s.rows, row{action, outcome, strings.Join(strings.Fields(r.Stdout+" "+r.Stderr), " ")})
	return r
}

// saw notes yes once a check succeeds, else no.
func (s *script) saw(action, yes, no string, check func() error) {
	s.within(lab.Patience, action, yes, no, check)
}

func (s *script) within(limit time.Duration, action, yes, no string, check func() error) {
	took, err := lab.Wait(limit, check)
	outcome := yes
	if err != nil {
		outcome = no
	}
	if err == nil && took > late && action == grant {
		outcome += ", late" // how long the others take depends on the machine
	}
	s.rows = append(s.rows, row{action, outcome, fmt.Sprintf("%v: %v", took.Round(time.Millisecond), err)})
}

// settles notes the state that a side says of its peer: the wanted one once it comes, else the one that it stays in.
func (s *script) settles(limit time.Duration, action string, side, peer *side, want string) {
	took, _ := lab.Wait(limit, side.is(peer, want))
	s.rows = append(s.rows, row{action, side.state(peer.name), took.Round(time.Millisecond).String()})
}

func (s *script) establish() {
	a, b := s.a, s.b
	s.did("read a peering that is not there", b.Try("peering", "read", "-name", "alpha"))
	s.did("establish with what is no token", b.Try("peering", "establish", "-name", "alpha", "-peering-token", "bm8gdG9rZW4="))
	s.did("generate a token for a name in capitals", a.Try("peering", "generate-token", "-name", "BETA"))
	token := strings.TrimSpace(s.did("generate a token", a.Try("peering", "generate-token", "-name", "beta")).Stdout)
	s.settles(lab.Patience, "state at the exporter before the token is used", a, b, "PENDING")
	s.did("establish with one's own token", a.Try("peering", "establish", "-name", "self", "-peering-token", token))
	s.did("establish", b.Try("peering", "establish", "-name", "alpha", "-peering-token", token))
	s.settles(lab.Patience, "state at the exporter", a, b, "ACTIVE")
	s.settles(lab.Patience, "state at the importer", b, a, "ACTIVE")
	s.did("establish with a spent token", b.Try("peering", "establish", "-name", "alpha", "-peering-token", token))
	s.did("generate a token for a peer that was dialled", b.Try("peering", "generate-token", "-name", "alpha"))
	second := strings.TrimSpace(s.did("generate a second token for an ACTIVE peer", a.Try("peering", "generate-token", "-name", "beta")).Stdout)
	s.did("establish again over an ACTIVE peering", b.Try("peering", "establish", "-name", "alpha", "-peering-token", second))
	s.settles(lab.Patience, "state at the importer after that", b, a, "ACTIVE")
}

func (s *script) configure() {
	a, b := s.a, s.b
	s.did("export to every peer by *", a.write(exports("alpha", "*")))
	s.did("export to a peer that is not there", a.write(exports("alpha", "nobody")))
	s.did("write a service-resolver", a.write("Kind = \"service-resolver\"\nName = \"plain\"\nConnectTimeout = \"3s\"\n"))
	s.did("write an intention with HTTP permissions for a tcp service", a.write(`
Kind    = "service-intentions"
Name    = "alpha"
Sources = [ { Name = "beta", Peer = "beta", Permissions = [ { Action = "allow", HTTP { PathPrefix = "/" } } ] } ]`))
	s.did("write an intention for every peer by *", a.write(`
Kind    = "service-intentions"
Name    = "alpha"
Sources = [ { Name = "beta", Peer = "*", Action = "allow" } ]`))
	s.did("create an intention for a local source", a.Try("intention", "create", "-allow", "plain", "alpha"))
	s.did("check it", a.Try("intention", "check", "plain", "alpha"))
	s.did("export", a.write(exports("alpha", "beta")))
	s.saw("the service is imported", "yes", "no", b.imports(a))
	s.did("set the protocol of a service to http", a.write("Kind = \"service-defaults\"\nName = \"plain\"\nProtocol = \"http\"\n"))
	s.did("export the http service too", a.write(`
Kind     = "exported-services"
Name     = "default"
Services = [
  { Name = "alpha", Consumers = [ { Peer = "beta" } ] },
  { Name = "plain", Consumers = [ { Peer = "beta" } ] },
]`))
	s.within(brief, "the http service is imported", "yes", "no", func() error {
		var instances []any
		err := b.JSON("/v1/health/service/plain?peer=alpha", &instances)
		if err == nil && len(instances) == 0 {
			err = errors.New("it has no instance")
		}
		return err
	})
}

func (s *script) call() {
	a, b := s.a, s.b
	answered, silent := b.calls(a), not(b.calls(a), "it is answered")
	s.within(brief, "call without an intention", "answered", "refused", answered)
	s.did("allow the peer's service", a.write(intention("alpha", "beta", "beta", "allow")))
	s.saw(grant, "answered", "refused", answered)
	s.patient()
	s.did("deny all of the peer", a.write(intention("alpha", "*", "beta", "deny")))
	s.saw("call when all of the peer is denied", "refused", "answered", silent)
	s.did("allow all of the peer", a.write(intention("alpha", "*", "beta", "allow")))
	s.saw("call when all of the peer is allowed", "answered", "refused", answered)
	a.process().Kill()
	s.saw("call while the exporter's control plane is down", "answered", "refused", answered)
	a.Start()
	s.settles(lab.Patience, "state at the importer after its restart", b, a, "ACTIVE")
	s.settles(lab.Patience, "state at the exporter after its restart", a, b, "ACTIVE")
	s.saw("call after its restart", "answered", "refused", answered)
	s.did("un-export", a.write(exports("alpha")))
	s.saw("the service is gone at the importer", "yes", "no", not(b.imports(a), "it is there"))
	s.saw("call after the un-export", "refused", "answered", silent)
	s.did("export again", a.write(exports("alpha", "beta")))
	s.saw("call after that", "answered", "refused", answered)
}

// patient has the importer's sidecar forgive failures, which the script from here on makes many of on purpose: a Consul's
// leaves an endpoint alone for longer each time.
func (s *script) patient() {
	if s.b.consul != nil {
		s.b.mustWrite(forgiving("beta", "alpha"))
	}
}

// forgiving is the service-defaults entry with which a Consul's sidecar keeps trying an upstream at a peer of that name.
func forgiving(service, upstream string) string {
	return fmt.Sprintf(`
Kind     = "service-defaults"
Name     = %q
Protocol = "tcp"
UpstreamConfig { Overrides = [ { Name = %q, Peer = %q, PassiveHealthCheck { EnforcingConsecutive5xx = 0 } } ] }`, service, upstream, upstream)
}

func intention(service, source, peer, action string) string {
	return fmt.Sprintf("Kind = \"service-intentions\"\nName = %q\nSources = [ { Name = %q, Peer = %q, Action = %q } ]\n", service, source, peer, action)
}

func (s *script) end() {
	a, b := s.a, s.b
	gone := func(side, peer *side) func() error { return side.lost(peer) }
	s.did("delete at the importer", b.Try("peering", "delete", "-name", "alpha"))
	s.saw("it is gone there", "yes", "no", gone(b, a))
	s.settles(lab.Patience, "state at the exporter after that", a, b, "TERMINATED")
	s.saw("call after the deletion", "refused", "answered", not(b.calls(a), "it is answered"))
	s.did("generate a token over a TERMINATED peering", a.Try("peering", "generate-token", "-name", "beta"))
	s.did("delete at the exporter too", a.Try("peering", "delete", "-name", "beta"))
	s.saw("it is gone there too", "yes", "no", gone(a, b))
	s.did("delete what is not there", a.Try("peering", "delete", "-name", "beta"))
	token := s.did("generate a token after the deletion", a.Try("peering", "generate-token", "-name", "beta")).Stdout
	s.did("establish after the deletion", b.Try("peering", "establish", "-name", "alpha", "-peering-token", strings.TrimSpace(token)))
	s.settles(lab.Patience, "state at the importer once established again", b, a, "ACTIVE")
	s.saw("call once established again", "answered", "refused", b.calls(a))
	s.did("delete at the exporter", a.Try("peering", "delete", "-name", "beta"))
	s.settles(lab.Patience, "state at the importer after that deletion", b, a, "TERMINATED")
	s.saw("it is gone at the exporter", "yes", "no", gone(a, b))
	token = a.CLI("peering", "generate-token", "-name", "beta")
	over := s.did("establish over a TERMINATED peering", b.Try("peering", "establish", "-name", "alpha", "-peering-token", strings.TrimSpace(token)))
	limit := lab.Patience
	if over.Code != 0 {
		limit = 0
	}
	s.settles(limit, "state at the importer over the TERMINATED peering", b, a, "ACTIVE")
	status, _, err := b.Request(http.MethodGet, "/v1/kv/key", "")
	s.rows = append(s.rows, row{"read /v1/kv/key", fmt.Sprint(status), fmt.Sprint(err)})
}

// compare prints the outcomes side by side, and holds the differences against the document.
func compare(t *testing.T, all []*script) {
	header := "| action |"
	for _, s := range all {
		header += " " + s.name + " |"
	}
	lines := []string{header, "|" + strings.Repeat(" --- |", len(all)+1)}
	var different []string
	for i, first := range all[0].rows {
		line, differs := "| "+first.action+" |", false
		for _, s := range all {
			r := s.rows[i]
			line += " " + r.outcome + " |"
			differs = differs || r.outcome != first.outcome
			t.Logf("%s: %s: %s: %.300s", s.name, r.action, r.outcome, r.detail)
		}
		if differs {
			different = append(different, first.action)
			line += " ←"
		}
		lines = append(lines, line)
	}
	t.Logf("exporter, importer:\n%s", strings.Join(lines, "\n"))
	explained := explainedDifferences(t)
	for _, action := range different {
		if !slices.Contains(explained, action) {
			t.Errorf("docs/compatibility.md does not explain why %q differs", action)
		}
	}
	for _, action := range explained {
		if !slices.Contains(different, action) {
			t.Errorf("docs/compatibility.md explains why %q differs: it does not", action)
		}
	}
}

// explainedDifferences returns the first column of the table of differences.
func explainedDifferences(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "## The same script on Consul and on Isthmus\n")
	if !found {
		t.Fatal("docs/compatibility.md has no section about the script")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var actions []string
	for _, match := range regexp.MustCompile(`(?m)^\| ([^|]+) \|`).FindAllStringSubmatch(section, -1) {
		if match[1] != "action" && match[1] != "---" {
			actions = append(actions, match[1])
		}
	}
	return actions
}
