package e2e

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// TestConsulTokens peers two isthmuses with a Consul that denies by default: one dials it and one is dialled, both through
// relays that the tokens name and that the test can cut. What a token is good for is tried on that way.
func TestConsulTokens(t *testing.T) {
	l := lab.New(t)
	w := &relayed{Lab: l, consul: guardedSide(l, "beta"), dialer: isthmusSide(l, "alpha"), acceptor: isthmusSide(l, "gamma")}
	for _, s := range []*side{w.consul, w.dialer, w.acceptor} {
		s.announce()
	}
	w.consul.export(w.dialer.name, w.acceptor.name)
	w.dialer.export(w.consul.name)
	w.acceptor.export(w.consul.name)
	w.toConsul = l.Relay(w.dialer.host, w.consul.host.Peering+":"+lab.PeeringPort)
	w.toIsthmus = l.Relay(w.consul.host, w.acceptor.host.Peering+":"+lab.PeeringPort)
	took := timed(l)
	for _, step := range []struct {
		name string
		run  func()
	}{
		{"with peering write", w.peeringWrite},
		{"its address wins", w.addressWins},
		{"a second token", w.secondToken},
		{"an older secret", w.olderSecret},
		{"a stream that is dead unnoticed", w.deadStream},
	} {
		l.Step(step.name, step.run)
		took(step.name)
	}
}

// relayed is a Consul between two isthmuses.
type relayed struct {
	*lab.Lab
	consul, dialer, acceptor *side
	toConsul, toIsthmus      *lab.Relay
}

const managementToken = "6a1fd2a2-3b0e-4f7e-9a38-0f4f8f1f6f10"

// guarded is a Consul whose callers send a token, and one of its own for what concerns peerings.
type guarded struct {
	*lab.Consul
	operator, peering string
}

// guardedSide is the side of a Consul that denies whatever no token allows.
func guardedSide(l *lab.Lab, name string) *side {
	l.T.Helper()
	c := l.ConsulWith(name, lab.Consul115, map[string]any{"acl": map[string]any{
		"enabled": true, "default_policy": "deny",
		"tokens": map[string]string{"initial_management": managementToken, "agent": managementToken, "default": managementToken},
	}})
	g := guarded{Consul: c}
	g.peering = c.MakeToken(managementToken, "peering", `peering = "write"`)
	g.operator = c.MakeToken(managementToken, "operator", `mesh = "write" node_prefix "" { policy = "read" } service_prefix "" { policy = "write" }`)
	if status, body, err := c.RequestAs(managementToken, http.MethodPut, "/v1/agent/token/default", `{"Token": ""}`); err != nil || status != http.StatusOK {
		l.T.Fatalf("take the token of nobody away: %d: %s: %v", status, body, err)
	}
	s := serverSide(l, name, c)
	s.controlPlane = g
	return s
}

func (g guarded) token(what string) string {
	if strings.Contains(what, "peering") {
		return g.peering
	}
	return g.operator
}

func (g guarded) Request(method, path, body string) (int, string, error) {
	return g.RequestAs(g.token(path), method, path, body)
}

func (g guarded) JSON(path string, v any) error { return g.JSONAs(g.token(path), path, v) }

func (g guarded) Try(args ...string) lab.Result {
	return g.Consul.Try(append([]string{args[0], args[1], "-token", g.token(args[0])}, args[2:]...)...)
}

func (g guarded) CLI(args ...string) string {
	return g.Consul.CLI(append([]string{args[0], args[1], "-token", g.token(args[0])}, args[2:]...)...)
}

// peeringWrite makes and uses the tokens with nothing but peering:write at the Consul.
func (w *relayed) peeringWrite() {
	c := w.consul.consul
	if r := c.Try("peering", "generate-token", "-name", w.dialer.name); r.Code == 0 || !strings.Contains(r.Stderr, "Permission denied") {
		w.T.Errorf("without a token: exit %d: %s%s: want Permission denied", r.Code, r.Stdout, r.Stderr)
	}
	w.again()
	for _, isthmus := range []*side{w.dialer, w.acceptor} {
		active(isthmus, w.consul)
		bothImport(isthmus, w.consul)
	}
}

// again makes a token on each way and uses it.
func (w *relayed) again() {
	w.T.Helper()
	w.establish(w.consul, w.dialer, w.toConsul)
	w.establish(w.acceptor, w.consul, w.toIsthmus)
}

func (w *relayed) establish(acceptor, dialer *side, relay *lab.Relay) {
	w.T.Helper()
	token := acceptor.CLI("peering", "generate-token", "-name", dialer.name, "-server-external-addresses", relay.Address)
	dialer.CLI("peering", "establish", "-name", acceptor.name, "-peering-token", token)
}

// addressWins: the address that an operator wrote into a token is dialled, and none of those that the server has.
func (w *relayed) addressWins() {
	if err := w.dialer.dials(w.consul, w.toConsul.Address)(); err != nil {
		w.T.Error(err)
	}
	before := w.dialer.streams(w.consul)
	w.toConsul.Close()
	refused := w.toConsul.Address + ": connect: connection refused"
	w.Eventually(w.dialer.name+" finds nobody at the relay", func() error {
		if reason := w.dialer.reason(w.consul); !strings.HasPrefix(reason, "FAILING: ") || !strings.Contains(reason, refused) {
			return errors.New(reason)
		}
		return nil
	})
	if err := w.dialer.imports(w.consul)(); err != nil {
		w.T.Errorf("while nobody is there: %v", err)
	}
	w.Reopen(w.toConsul)
	w.Eventually(w.dialer.name+" has a stream again", w.dialer.hasStream(w.consul, before))
	active(w.dialer, w.consul)
}

// secondToken establishes both peerings again under their names while they are ACTIVE. The streams go on, and what comes
// after them opens with the new secret.
func (w *relayed) secondToken() {
	dialed, accepted := w.dialer.streams(w.consul), w.acceptor.streams(w.consul)
	w.again()
	for isthmus, streams := range map[*side]int{w.dialer: dialed, w.acceptor: accepted} {
		for _, pair := range [][2]*side{{isthmus, w.consul}, {w.consul, isthmus}} {
			if state := pair[0].state(pair[1].name); state != "ACTIVE" {
				w.T.Errorf("%s has %s %s after the second token", pair[0].name, pair[1].name, state)
			}
		}
		if now := isthmus.streams(w.consul); now != streams {
			w.T.Errorf("%s has had %d streams: want the %d from before the second token", isthmus.name, now, streams)
		}
	}
	w.toConsul.Cut()
	w.toIsthmus.Cut()
	for isthmus, streams := range map[*side]int{w.dialer: dialed, w.acceptor: accepted} {
		w.Eventually(isthmus.name+" has a stream with the new secret", isthmus.hasStream(w.consul, streams))
		active(isthmus, w.consul)
		bothImport(isthmus, w.consul)
	}
}

// deadStream: an isthmus dies, and its Consul does not hear of it. It refuses the next stream, and takes the one after.
func (w *relayed) deadStream() {
	w.toConsul.Silence()
	w.dialer.process().Kill()
	w.dialer.Start()
	w.Eventually(w.dialer.name+" has a stream", w.dialer.hasStream(w.consul, 0))
	if !strings.Contains(w.dialer.process().Output(), "there is an active stream for the given PeerID") {
		w.T.Error("the Consul took the first stream: the test shows nothing")
	}
	active(w.dialer, w.consul)
	streams := w.dialer.streams(w.consul)
	w.toConsul.CutSilent()
	w.Eventually("the Consul notices that a stream is gone", not(w.consul.is(w.dialer, "ACTIVE"), "it counts the one there is"))
	if reason := w.dialer.reason(w.consul); !strings.HasPrefix(reason, "ACTIVE: ") || w.dialer.streams(w.consul) != streams {
		w.T.Errorf("the stream there is did not stay: %s", reason)
	}
	bothImport(w.dialer, w.consul)
	w.toConsul.Cut() // before the isthmus opens it again by itself, two minutes after it was refused
	w.Eventually(w.dialer.name+" has a stream again", w.dialer.hasStream(w.consul, streams))
	active(w.dialer, w.consul)
}

// olderSecret: with a state from before a new token there is only its former secret, which is worth nothing.
func (w *relayed) olderSecret() {
	isthmus := w.Path("isthmus.snapshot")
	w.dialer.CLI("snapshot", "save", isthmus)
	before := w.dialer.streams(w.consul)
	w.again()
	w.toConsul.Cut()
	w.Eventually(w.dialer.name+" has a stream with the new secret", w.dialer.hasStream(w.consul, before))
	w.dialer.CLI("snapshot", "restore", isthmus)
	w.toConsul.Cut()
	w.Eventually(w.dialer.name+" is refused with its older secret", func() error {
		if reason := w.dialer.reason(w.consul); !strings.Contains(reason, "invalid peering stream secret") || !strings.Contains(reason, "establish again with a new token") {
			return errors.New(reason)
		}
		return nil
	})
	w.establish(w.consul, w.dialer, w.toConsul)
	active(w.dialer, w.consul)
	bothImport(w.dialer, w.consul)
}
