package ca_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/ca"
)

const (
	trustDomain = "11111111-2222-3333-4444-555555555555.consul"
	billing     = "spiffe://" + trustDomain + "/ns/default/dc/dc1/svc/billing"
	gateway     = "spiffe://" + trustDomain + "/gateway/mesh/dc/dc1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk keeps what a CA saves, and is its clock.
type disk struct {
	mu    sync.Mutex
	data  []byte
	saves int
	now   time.Time
	fail  error
}

func (d *disk) config() ca.Config {
	return ca.Config{
		TrustDomain: trustDomain,
		Datacenter:  "dc1",
		Load:        func() ([]byte, error) { return d.data, d.fail },
		Save: func(_ context.Context, data []byte) error {
			d.data, d.saves = data, d.saves+1
			return d.fail
		},
		Now: func() time.Time { d.mu.Lock(); defer d.mu.Unlock(); return d.now },
	}
}

func (d *disk) pass(t time.Duration) { d.mu.Lock(); defer d.mu.Unlock(); d.now = d.now.Add(t) }

func newCA(t *testing.T) (*ca.CA, *disk) {
	t.Helper()
	d := &disk{now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	c, err := ca.New(t.Context(), d.config())
	if err != nil {
		t.Fatal(err)
	}
	return c, d
}

func leafOf(t *testing.T, c *ca.CA, identity string) ca.Leaf {
	t.Helper()
	uri, err := url.Parse(identity)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := c.Leaf(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func parse(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode(text)
	if block == nil || len(rest) > 0 {
		t.Fatalf("want one certificate in %q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func pool(c *ca.CA) *x509.CertPool {
	roots, _ := c.Bundle()
	p := x509.NewCertPool()
	p.AppendCertsFromPEM([]byte(strings.Join(roots, "")))
	return p
}

func TestLeafVerifies(t *testing.T) {
	c, d := newCA(t)
	roots, active := c.Bundle()
	for _, identity := range []string{billing, gateway} {
		leaf := leafOf(t, c, identity)
		cert := parse(t, leaf.CertPEM)
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
			chains, err := cert.Verify(x509.VerifyOptions{Roots: pool(c), CurrentTime: d.now, KeyUsages: []x509.ExtKeyUsage{usage}})
			if err != nil || len(chains) != 1 || len(chains[0]) != 2 || !chains[0][1].Equal(parse(t, []byte(roots[0]))) {
				t.Errorf("%s, usage %v: %v, %v", identity, usage, chains, err)
			}
		}
		if len(cert.URIs) != 1 || cert.URIs[0].String() != identity || len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.EmailAddresses) != 0 {
			t.Errorf("%s: SANs %v %v %v", identity, cert.URIs, cert.DNSNames, cert.IPAddresses)
		}
		if cert.Subject.String() != "" || cert.IsCA || cert.KeyUsage != x509.KeyUsageDigitalSignature {
			t.Errorf("%s: subject %q, CA %v, usage %v", identity, cert.Subject, cert.IsCA, cert.KeyUsage)
		}
		for _, e := range cert.Extensions {
			if e.Id.String() == "2.5.29.17" && !e.Critical {
				t.Errorf("%s: the SAN must be critical, for there is no subject", identity)
			}
		}
		if got := d.now.Sub(cert.NotBefore); got != 15*time.Minute {
			t.Errorf("%s: backdated %s", identity, got)
		}
		if got := cert.NotAfter.Sub(d.now); got != 72*time.Hour || !cert.NotAfter.Equal(leaf.NotAfter) || !cert.NotBefore.Equal(leaf.NotBefore) {
			t.Errorf("%s: lives %s", identity, got)
		}
		if want := fmt.Sprintf("%s.%d", active, cert.NotAfter.Unix()); leaf.Version != want || leaf.RootID != active {
			t.Errorf("%s: version %s: want %s", identity, leaf.Version, want)
		}
		pair, err := tls.X509KeyPair(leaf.CertPEM, leaf.KeyPEM.Reveal())
		if key, ok := pair.PrivateKey.(*ecdsa.PrivateKey); err != nil || !ok || key.Curve != elliptic.P256() {
			t.Errorf("%s: key: %v", identity, err)
		}
	}
}

func TestRoot(t *testing.T) {
	c, d := newCA(t)
	roots, active := c.Bundle()
	root := parse(t, []byte(roots[0]))
	if len(roots) != 1 || !strings.HasSuffix(roots[0], "\n") || len(active) != 64 {
		t.Errorf("bundle %q, active %s", roots, active)
	}
	if len(root.URIs) != 1 || root.URIs[0].String() != "spiffe://"+trustDomain || !root.IsCA || root.MaxPathLen != -1 || len(root.SubjectKeyId) == 0 {
		t.Errorf("root: %v, CA %v, path length %d", root.URIs, root.IsCA, root.MaxPathLen)
	}
	if years := root.NotAfter.Sub(d.now).Hours() / 24 / 365; years != 10 {
		t.Errorf("root lives %f years", years)
	}
}

func TestRestartKeepsRoots(t *testing.T) {
	c, d := newCA(t)
	again, err := ca.New(t.Context(), d.config())
	if err != nil {
		t.Fatal(err)
	}
	_, before := c.Bundle()
	if _, after := again.Bundle(); after != before || d.saves != 1 {
		t.Errorf("root went from %s to %s with %d saves", before, after, d.saves)
	}
	leaf := leafOf(t, again, billing)
	if _, err := parse(t, leaf.CertPEM).Verify(x509.VerifyOptions{Roots: pool(c), CurrentTime: d.now}); err != nil {
		t.Error(err)
	}
}

func TestMaterialThatIsRefused(t *testing.T) {
	_, d := newCA(t)
	_, other := newCA(t)
	whole := string(d.data)
	field := func(data, name string) string {
		_, rest, _ := strings.Cut(data, `"`+name+`":"`)
		value, _, _ := strings.Cut(rest, `"`)
		return value
	}
	for name, c := range map[string]struct{ data, want string }{
		"not JSON":           {"{", "material: is not JSON"},
		"newer":              {strings.Replace(whole, `"version":1`, `"version":2`, 1), "version 2: want 1"},
		"other trust domain": {strings.Replace(whole, `"trust_domain":"1`, `"trust_domain":"2`, 1), "is of trust domain 2"},
		"no active root":     {strings.Replace(whole, `"active":true`, `"active":false`, 1), "0 active roots: want 1"},
		"other key":          {strings.Replace(whole, field(whole, "key_pem"), field(string(other.data), "key_pem"), 1), "the key is not the certificate's"},
		"no key":             {strings.Replace(whole, field(whole, "key_pem"), "", 1), "want a certificate and a key"},
	} {
		broken := &disk{data: []byte(c.data), now: d.now}
		if _, err := ca.New(t.Context(), broken.config()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err = %v: want %q", name, err, c.want)
		} else if strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%s: the error shows the key", name)
		}
		if broken.saves != 0 {
			t.Errorf("%s: was overwritten", name)
		}
	}
}

func TestNothingIsServedThatWasNotSaved(t *testing.T) {
	d := &disk{now: time.Now()}
	cfg := d.config()
	cfg.Save = func(context.Context, []byte) error { return errors.New("disk is full") }
	if c, err := ca.New(t.Context(), cfg); err == nil || c != nil {
		t.Errorf("New = %v, %v: want the error of Save", c, err)
	}
}

func TestIdentitiesThatAreRefused(t *testing.T) {
	c, _ := newCA(t)
	own := "spiffe://" + trustDomain
	for _, identity := range []string{
		"spiffe://" + strings.Replace(trustDomain, "1", "2", 1) + "/ns/default/dc/dc1/svc/billing",
		strings.ToUpper(own) + "/ns/default/dc/dc1/svc/billing",
		own, own + "/", own + "/ns/default/dc/dc1/svc/", own + "/ns/default/dc/dc1/svc/a/b",
		own + "/ns/default/dc/dc2/svc/billing", own + "/ns/other/dc/dc1/svc/billing",
		own + "/ap/other/ns/default/dc/dc1/svc/billing", own + "/ns/default/dc/dc1/svc/bill%2fing",
		own + "/ns/default/dc/dc1/svc/..", own + "/ns/default/dc/dc1/svc/b*", own + "/ns/default/dc/dc1/svc/billing?x=y",
		own + "/ns/default/dc/dc1/svc/billing#x", "spiffe://u@" + trustDomain + "/ns/default/dc/dc1/svc/billing",
		"spiffe://" + trustDomain + ":1/ns/default/dc/dc1/svc/billing", "https://" + trustDomain + "/ns/default/dc/dc1/svc/billing",
		own + "/gateway/mesh/dc/dc2", own + "/gateway/mesh/dc/dc1/x", own + "/agent/server/dc/dc1", own + "/agent/client/dc/dc1/id/n",
		own + "//gateway/mesh/dc/dc1",
	} {
		uri, err := url.Parse(identity)
		if err != nil {
			t.Fatal(err)
		}
		if leaf, err := c.Leaf(t.Context(), uri); err == nil {
			t.Errorf("%s: signed %s", identity, leaf.Version)
		}
	}
	if _, err := c.Leaf(t.Context(), nil); err == nil {
		t.Error("signed for nobody")
	}
}

func TestConfigThatIsRefused(t *testing.T) {
	for want, change := range map[string]func(*ca.Config){
		"trust domain":  func(c *ca.Config) { c.TrustDomain = "Upper.consul" },
		"trust domain ": func(c *ca.Config) { c.TrustDomain = "spiffe://a.consul" },
		"datacenter":    func(c *ca.Config) { c.Datacenter = "a/b" },
		"want Load":     func(c *ca.Config) { c.Load = nil },
	} {
		cfg := (&disk{now: time.Now()}).config()
		change(&cfg)
		if _, err := ca.New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v: want %q", err, want)
		}
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	c, _ := newCA(t)
	leaf := leafOf(t, c, billing)
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(format, c) + fmt.Sprintf(format, leaf); strings.Contains(text, "PRIVATE") || strings.Contains(text, "roots") {
			t.Errorf("%s: %s", format, text)
		}
	}
}

func TestLeafIsKeptUntilItsRenewal(t *testing.T) {
	c, d := newCA(t)
	first := leafOf(t, c, billing)
	d.pass(first.RenewAt.Sub(d.now) - time.Second)
	if leafOf(t, c, billing).Version != first.Version {
		t.Error("renewed too early")
	}
	d.pass(time.Second)
	if leafOf(t, c, billing).Version == first.Version {
		t.Error("not renewed when it was due")
	}
}

func TestRenewalsAreSpread(t *testing.T) {
	c, d := newCA(t)
	const n = 300
	life := 72 * time.Hour
	buckets := make([]int, 6)
	leaf := leafOf(t, c, billing)
	for range n {
		at, ok := c.RenewAt(leaf.Version)
		age := at.Sub(d.now)
		if !ok || age < life/2 || age > life*2/3+1 {
			t.Fatalf("renewal after %s, %v: want %s to %s", age, ok, life/2, life*2/3)
		}
		buckets[min(5, int((age-life/2)*6/(life/6)))]++
	}
	for i, count := range buckets { // 50 each; less than 20 by chance is one in a million
		if count < 20 {
			t.Errorf("sixth %d of the window has %d of %d renewals: %v", i, count, n, buckets)
		}
	}
	if age := leaf.RenewAt.Sub(d.now); age < life/2 || age > life*2/3+1 {
		t.Errorf("leaf's own renewal after %s", age)
	}
}

// TestClockThatIsBehind: a peer whose clock is ten minutes behind takes what was made just now, and a short life is not renewed from before it began.
func TestClockThatIsBehind(t *testing.T) {
	d := &disk{now: time.Now()}
	cfg := d.config()
	cfg.LeafTTL = 10 * time.Minute
	c, err := ca.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	leaf := leafOf(t, c, billing)
	if _, err := parse(t, leaf.CertPEM).Verify(x509.VerifyOptions{Roots: pool(c), CurrentTime: d.now.Add(-10 * time.Minute)}); err != nil {
		t.Errorf("ten minutes behind: %v", err)
	}
	if in := leaf.RenewAt.Sub(d.now); in < 5*time.Minute || in > 400*time.Second {
		t.Errorf("a leaf of ten minutes is renewed after %s", in)
	}
	if at, ok := c.RenewAt(leaf.Version); !ok || at.Sub(d.now) < 5*time.Minute-time.Second {
		t.Errorf("from its version: %v, %v", at.Sub(d.now), ok)
	}
}

func TestRenewAtOfVersions(t *testing.T) {
	c, d := newCA(t)
	leaf := leafOf(t, c, billing)
	again, err := ca.New(t.Context(), d.config())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := again.RenewAt(leaf.Version); !ok {
		t.Error("a leaf from before a restart was not taken")
	}
	_, root := c.Bundle()
	for name, version := range map[string]string{
		"other root": strings.Repeat("0", 64) + strings.TrimPrefix(leaf.Version, root),
		"too long":   fmt.Sprintf("%s.%d", root, d.now.Add(80*time.Hour).Unix()),
		"ended":      fmt.Sprintf("%s.%d", root, d.now.Unix()),
		"no time":    root + ".", "no dot": root, "empty": "", "text": root + ".soon",
	} {
		if at, ok := c.RenewAt(version); ok {
			t.Errorf("%s: %s", name, at)
		}
	}
}

func TestOneLeafForAllWhoAskAtOnce(t *testing.T) {
	c, _ := newCA(t)
	uri, _ := url.Parse(billing)
	versions := make([]string, 50)
	var all sync.WaitGroup
	for i := range versions {
		all.Go(func() {
			leaf, err := c.Leaf(t.Context(), uri)
			if err != nil {
				t.Error(err)
			}
			versions[i] = string(leaf.CertPEM)
		})
	}
	all.Wait()
	for _, v := range versions {
		if v != versions[0] {
			t.Fatal("two leaves were signed for one identity")
		}
	}
}

func TestLeafEndsWithItsRoot(t *testing.T) {
	c, d := newCA(t)
	roots, _ := c.Bundle()
	end := parse(t, []byte(roots[0])).NotAfter
	d.pass(end.Sub(d.now) - time.Hour)
	if leaf := leafOf(t, c, billing); leaf.NotAfter.After(end) {
		t.Errorf("leaf ends %s, its root %s", leaf.NotAfter, end)
	}
	d.pass(2 * time.Hour)
	uri, _ := url.Parse(billing)
	if _, err := c.Leaf(t.Context(), uri); err == nil || !strings.Contains(err.Error(), "ended on") {
		t.Errorf("err = %v: want that the root has ended", err)
	}
}

func TestServerCertificate(t *testing.T) {
	c, d := newCA(t)
	name := "server.dc1.peering." + trustDomain
	get, err := c.ServerCertificate([]string{name}, []net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	first, _ := get(nil)
	for _, server := range []string{name, "127.0.0.1"} {
		if _, err := first.Leaf.Verify(x509.VerifyOptions{Roots: pool(c), CurrentTime: d.now, DNSName: server}); err != nil {
			t.Error(err)
		}
	}
	if uri := "spiffe://" + trustDomain + "/agent/server/dc/dc1"; len(first.Leaf.URIs) != 1 || first.Leaf.URIs[0].String() != uri {
		t.Errorf("URIs %v: want %s", first.Leaf.URIs, uri)
	}
	d.pass(30 * time.Hour)
	if again, _ := get(nil); again != first {
		t.Error("renewed too early")
	}
	d.pass(20 * time.Hour)
	if again, err := get(nil); err != nil || again == first {
		t.Errorf("not renewed after 50 h: %v", err)
	}
	if _, err := c.ServerCertificate(nil, nil); err == nil {
		t.Error("made a certificate for no name")
	}
}
