package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"
)

// ConsulWith is Consul with keys of the server's configuration besides the lab's own, or instead of them.
func (l *Lab) ConsulWith(name, version string, keys map[string]any) *Consul {
	l.T.Helper()
	return l.ConsulOn(l.Host(name), version, keys)
}

// ConsulOn is ConsulWith on a host that there is.
func (l *Lab) ConsulOn(h *Host, version string, keys map[string]any) *Consul {
	l.T.Helper()
	c := l.consulOn(h, version, keys)
	c.Start()
	return c
}

// consulOn configures a server on a host, and starts nothing.
func (l *Lab) consulOn(h *Host, version string, keys map[string]any) *Consul {
	l.T.Helper()
	c := &Consul{Lab: l, Name: h.Name, Version: version, Host: h, HTTP: h.API + ":" + HTTPPort}
	c.configure()
	text, err := os.ReadFile(c.config)
	if err != nil {
		l.T.Fatal(err)
	}
	all := map[string]any{}
	if err := json.Unmarshal(text, &all); err != nil {
		l.T.Fatal(err)
	}
	maps.Copy(all, keys)
	if text, err = json.Marshal(all); err != nil {
		l.T.Fatal(err)
	}
	l.Write(c.Name+"-consul.json", string(text))
	return c
}

// ConsulHosts starts one Consul of several servers on hosts, and waits until each of them knows a leader.
func (l *Lab) ConsulHosts(version string, hosts ...*Host) []*Consul {
	l.T.Helper()
	var servers []*Consul
	for _, h := range hosts {
		c := l.consulOn(h, version, joining(len(hosts), hosts...))
		c.Server = l.start("consul "+c.Name, h.Command(l.consulBinary(version), "agent", "-config-file", c.config))
		servers = append(servers, c)
	}
	for _, c := range servers {
		c.Settled(len(servers))
	}
	return servers
}

// Joining starts one more server of a Consul, on a new host.
func (c *Consul) Joining(name string) *Consul {
	c.Lab.T.Helper()
	return c.Lab.ConsulWith(name, c.Version, joining(0, c.Host))
}

func joining(expect int, hosts ...*Host) map[string]any {
	var addresses []string
	for _, h := range hosts {
		addresses = append(addresses, h.WAN)
	}
	return map[string]any{"retry_join": addresses, "retry_interval": "200ms", "bootstrap_expect": expect, "leave_on_terminate": false}
}

// Settled waits until the server knows a leader, a CA and so many servers.
func (c *Consul) Settled(servers int) {
	c.Lab.T.Helper()
	c.Lab.Eventually(fmt.Sprintf("consul %s knows %d servers", c.Name, servers), func() error {
		var roots struct{ Roots []struct{ Active bool } }
		if err := c.JSON("/v1/connect/ca/roots", &roots); err != nil {
			return err
		}
		var known []struct{ ServiceName string }
		if err := c.JSON("/v1/catalog/service/consul", &known); err != nil {
			return err
		}
		if len(roots.Roots) == 0 || len(known) != servers {
			return fmt.Errorf("%d roots, %d servers in the catalog", len(roots.Roots), len(known))
		}
		return nil
	})
}

// Leader returns the address of the Raft leader that the server knows; empty: none.
func (c *Consul) Leader() string {
	var leader string
	if err := c.JSON("/v1/status/leader", &leader); err != nil {
		return ""
	}
	host, _, _ := net.SplitHostPort(leader)
	return host
}

// RequestAs is Request with a token.
func (c *Consul) RequestAs(token, method, path, body string) (int, string, error) {
	return c.Host.request(method, "http://"+c.HTTP+path, token, body)
}

// MakeToken makes a token with rules. The caller must be allowed to.
func (c *Consul) MakeToken(as, name, rules string) string {
	c.Lab.T.Helper()
	put := func(path string, what, answer any) {
		text, err := json.Marshal(what)
		if err != nil {
			c.Lab.T.Fatal(err)
		}
		status, body, err := c.RequestAs(as, http.MethodPut, path, string(text))
		if err == nil && status == http.StatusOK {
			err = json.Unmarshal([]byte(body), answer)
		}
		if err != nil || status != http.StatusOK {
			c.Lab.T.Fatalf("consul %s: %s: %d: %s: %v", c.Name, path, status, body, err)
		}
	}
	var policy, token map[string]any
	put("/v1/acl/policy", map[string]string{"Name": name, "Rules": rules}, &policy)
	put("/v1/acl/token", map[string]any{"Policies": []map[string]string{{"Name": name}}}, &token)
	return fmt.Sprint(token["SecretID"])
}

// JSONAs is JSON with a token.
func (c *Consul) JSONAs(token, path string, v any) error {
	status, body, err := c.RequestAs(token, http.MethodGet, path, "")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: %d: %s", path, status, body)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(body), v)
}

// Certificate makes a CA and a server's certificate of it for DNS names, and returns their files and that of the key.
func (l *Lab) Certificate(names ...string) (caFile, certFile, keyFile string) {
	l.T.Helper()
	fail := func(err error) {
		if err != nil {
			l.T.Fatal(err)
		}
	}
	write := func(name, kind string, der []byte) string {
		return l.Write(name, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(err)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an operator's own CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, caKey.Public(), caKey)
	fail(err)
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), caKey)
	fail(err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	fail(err)
	return write("own-ca.pem", "CERTIFICATE", rootDER), write("server.pem", "CERTIFICATE", leafDER), write("server-key.pem", "EC PRIVATE KEY", keyDER)
}
