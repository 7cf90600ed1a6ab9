package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
	"github.com/isthmus-mesh/isthmus/internal/session"
)

// resolver is a server with DNS: an Isthmus or a Consul, both given work by Consul's command.
type resolver struct {
	t                   *testing.T
	command, http, dns  string
	tokenFile, fileName string
}

// startResolver starts a server on loopback, of a kind and with the name of its node, and waits until it is ready.
func startResolver(t *testing.T, bin, kind, name string) *resolver {
	t.Helper()
	ports, dir := freePorts(6), t.TempDir()
	r := &resolver{t: t, command: filepath.Join(bin, consulServer), http: "127.0.0.1:" + ports[0], dns: "127.0.0.1:" + ports[1], fileName: filepath.Join(dir, "file.hcl")}
	args, ready := []string{"agent", "-dev", "-node", name, "-bind", "127.0.0.1", "-http-port", ports[0], "-dns-port", ports[1], "-grpc-port", ports[2],
		"-grpc-tls-port", ports[3], "-server-port", ports[4], "-serf-lan-port", ports[5], "-serf-wan-port", "-1", "-hcl", "disable_update_check = true"}, "/v1/connect/ca/roots"
	if kind == isthmusServer {
		r.tokenFile = filepath.Join(dir, "operator.token")
		args, ready = []string{"serve", "--data-dir", dir, "--node-name", name, "--http-addr", r.http, "--dns-addr", r.dns, "--xds-addr", "127.0.0.1:" + ports[2],
			"--peering-addr", "127.0.0.1:" + ports[3], "--allow-peer-addresses", "127.0.0.0/8"}, "/readyz"
	}
	server := exec.Command(filepath.Join(bin, kind), args...)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(os.Interrupt) // it may have ended
		_ = server.Wait()                       // how it ended does not matter
	})
	r.eventually(kind+" "+name+" is ready", func() error { return session.Answers(t.Context(), "http://"+r.http+ready) })
	return r
}

func (r *resolver) eventually(what string, check func() error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), lab.Patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			r.t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

// consul runs Consul's command, which must succeed.
func (r *resolver) consul(args ...string) string {
	r.t.Helper()
	cmd := exec.Command(r.command, args...)
	cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+r.http, "CONSUL_HTTP_TOKEN_FILE="+r.tokenFile)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("consul %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// write gives Consul's command a file.
func (r *resolver) write(text string, args ...string) {
	r.t.Helper()
	if err := os.WriteFile(r.fileName, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.consul(append(args, r.fileName)...)
}

// ask returns the status and the records of an answer, in words, without what differs from one instant to the next.
func (r *resolver) ask(name string, kind uint16) string {
	request := new(dns.Msg)
	request.SetQuestion(name, kind)
	answer, _, err := new(dns.Client).Exchange(request, r.dns)
	if err != nil {
		return err.Error()
	}
	words := []string{}
	for i, section := range [][]dns.RR{answer.Answer, answer.Extra} {
		for _, record := range section {
			if _, meta := record.(*dns.TXT); meta { // of nodes: Consul's carry their version, ours have none
				continue
			}
			words = append(words, strings.Repeat("+ ", i)+strings.Join(strings.Fields(record.String()), " "))
		}
	}
	slices.Sort(words)
	return dns.RcodeToString[answer.Rcode] + " " + strings.Join(words, "; ")
}

// TestDNSAnswersAsConsul asks an Isthmus and a Consul the same, after the same was done to both: services here and at a
// peer, with addresses of their own and without, failing and warning ones.
func TestDNSAnswersAsConsul(t *testing.T) {
	bin := programs(t)
	both := map[string]*resolver{}
	for _, kind := range []string{isthmusServer, consulServer} {
		alpha, beta := startResolver(t, bin, kind, "alpha"), startResolver(t, bin, kind, "beta")
		both[kind] = alpha
		alpha.consul("peering", "establish", "-name", "beta", "-peering-token", beta.consul("peering", "generate-token", "-name", "alpha"))
		for _, r := range []*resolver{alpha, beta} {
			r.write(`services = [
  { name = "web", id = "w1", port = 80, tags = ["v1"], connect { sidecar_service { port = 21000 } } },
  { name = "web", id = "w2", port = 81, address = "10.0.0.2", check { ttl = "1h", status = "warning" }, weights { passing = 5, warning = 2 } },
  { name = "web", id = "w3", port = 82, address = "10.0.0.3", check { ttl = "1h", status = "critical" } },
  { name = "six", port = 80, address = "2001:db8::1" },
  { name = "down", port = 80, check { ttl = "1h" } },
]`, "services", "register")
		}
		beta.write(`
Kind = "exported-services"
Name = "default"
Services = [ { Name = "web", Consumers = [{ Peer = "alpha" }] }, { Name = "six", Consumers = [{ Peer = "alpha" }] } ]`, "config", "write")
		for _, name := range []string{"web", "six"} {
			alpha.eventually(name+" is imported", func() error {
				if answer := alpha.ask(name+".service.beta.peer.consul.", dns.TypeSRV); !strings.HasPrefix(answer, "NOERROR") {
					return errors.New(answer)
				}
				return nil
			})
		}
	}
	for _, name := range []string{
		"web.service.consul.", "web.service.dc1.consul.", "v1.web.service.consul.", "_web._tcp.service.consul.", "_web._v1.service.consul.",
		"WEB.service.consul.", "six.service.consul.", "down.service.consul.", "none.service.consul.",
		"web.service.beta.peer.consul.", "_web._tcp.service.beta.peer.consul.", "six.service.beta.peer.consul.", "down.service.beta.peer.consul.",
		"web.service.gamma.peer.consul.", "alpha.node.consul.", "alpha.node.dc1.consul.", "beta.node.beta.peer.consul.",
		"0a000002.addr.dc1.consul.", "0a000002.addr.consul.", "nonsense.consul.",
	} {
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV} {
			ours, theirs := both[isthmusServer].ask(name, kind), both[consulServer].ask(name, kind)
			if ours != theirs {
				t.Errorf("%s %s:\nisthmus: %s\nconsul:  %s", dns.TypeToString[kind], name, ours, theirs)
			}
		}
	}
}
