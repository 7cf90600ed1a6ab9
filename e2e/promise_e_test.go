package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// TestPromiseEClosedAtTheGateway: whatever does not name an export of ours to one importer is closed and counted.
func TestPromiseEClosedAtTheGateway(t *testing.T) { closedAtTheGateway(t, lab.New(t)) }

// TestPromiseEClosedAtTheGatewayInContainers is the same, with Envoys in containers.
func TestPromiseEClosedAtTheGatewayInContainers(t *testing.T) {
	closedAtTheGateway(t, lab.NewDocker(t))
}

func closedAtTheGateway(t *testing.T, l *lab.Lab) {
	p := newPair(l, "", false)
	gamma := p.Cluster("gamma")
	p.beta.Peer("gamma", gamma, "beta")
	service(p.beta, "cache", 1, false, "")
	export(p.beta, map[string][]string{"db": {"alpha"}, "cache": {"gamma"}})
	trustDomain := p.trustDomain(t, p.beta)
	gateway := p.beta.Host.WAN + ":8443"
	p.Eventually("the exported service's name passes", func() error {
		return p.hello(gateway, "db.default.default.alpha.external."+trustDomain)
	})

	names := []string{
		"", "nobody.example.com", "NOBODY.EXAMPLE.COM", "none.isthmus.invalid",
		"cache.default.default.alpha.external." + trustDomain, // exported, but not to this importer
		"db.default.default.gamma.external." + trustDomain,    // another importer's
		"db.default.dc1.internal." + trustDomain,
		"web.default.default.alpha.external." + trustDomain,
	}
	for _, name := range p.gatewayB.Names() {
		if !strings.HasSuffix(name, ".external."+trustDomain) && !strings.Contains(name, ":") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for _, name := range names {
		before := p.gatewayB.Stat(`^listener\..*no_filter_chain_match$`)
		if err := p.hello(gateway, name); err == nil {
			t.Errorf("server name %q is let through", name)
		}
		if name != "none.isthmus.invalid" { // it has a chain, which closes it before anything counts
			p.counted(fmt.Sprintf("server name %q", name), before)
		}
	}
	before := p.gatewayB.Stat(`^listener\..*no_filter_chain_match$`)
	if answer, err := p.plain(gateway); err == nil {
		t.Errorf("plain TCP is answered: %q", answer)
	}
	p.counted("plain TCP", before)
	t.Logf("%d server names and plain TCP closed and counted", len(names))

	// A valid certificate of one importer does not open the other's export.
	if err := p.helloAs(gateway, "cache.default.default.gamma.external."+trustDomain, p.leaf(t, p.alpha, "web")); err == nil {
		t.Error("web@alpha comes in by gamma's server name")
	}
	if err := p.helloAs(gateway, "db.default.default.alpha.external."+trustDomain, p.leaf(t, p.alpha, "web")); err != nil {
		t.Errorf("web@alpha by its own server name: %v", err)
	}
}

func (p *pair) counted(what string, before int) {
	p.T.Helper()
	p.Eventually(what+" is counted", func() error {
		if p.gatewayB.Stat(`^listener\..*no_filter_chain_match$`) <= before {
			return errors.New("it is not counted")
		}
		return nil
	})
}

func (p *pair) trustDomain(t *testing.T, c *lab.Cluster) string {
	t.Helper()
	var answer struct{ TrustDomain string }
	if err := c.JSON("/v1/connect/ca/roots", &answer); err != nil {
		t.Fatal(err)
	}
	return answer.TrustDomain
}

// hello returns nil when a TLS hello with a server name is answered by a server's certificate.
func (p *pair) hello(address, name string) error {
	answered := errors.New("answered")
	err := p.handshake(address, &tls.Config{
		ServerName: name, InsecureSkipVerify: true,
		VerifyConnection: func(tls.ConnectionState) error { return answered },
	})
	if errors.Is(err, answered) {
		return nil
	}
	if err == nil {
		err = errors.New("no certificate")
	}
	return err
}

// helloAs returns nil when the server takes our certificate and the application answers.
func (p *pair) helloAs(address, name string, leaf tls.Certificate) error {
	return p.handshake(address, &tls.Config{ServerName: name, InsecureSkipVerify: true, Certificates: []tls.Certificate{leaf}})
}

func (p *pair) handshake(address string, config *tls.Config) error {
	raw, err := p.alpha.Host.DialOutside(p.Context(), address)
	if err != nil {
		return err
	}
	defer func() { _ = raw.Close() }()
	_ = raw.SetDeadline(time.Now().Add(5 * time.Second))
	conn := tls.Client(raw, config)
	ctx, cancel := context.WithTimeout(p.Context(), 5*time.Second)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	// In TLS 1.3 a refused client certificate shows at the first read only.
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

// plain says something that is no TLS and returns what it is answered.
func (p *pair) plain(address string) (string, error) {
	conn, err := p.alpha.Host.DialOutside(p.Context(), address)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: db\r\n\r\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	var closed *net.OpError
	if errors.As(err, &closed) || len(answer) == 0 {
		return "", errors.New("closed")
	}
	return string(answer), err
}

// leaf returns a service's certificate, as its operator may ask for it.
func (p *pair) leaf(t *testing.T, c *lab.Cluster, name string) tls.Certificate {
	t.Helper()
	text, err := c.Get("/v1/agent/connect/ca/leaf/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ CertPEM, PrivateKeyPEM string }
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatal(err)
	}
	leaf, err := tls.X509KeyPair([]byte(answer.CertPEM), []byte(answer.PrivateKeyPEM))
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}
