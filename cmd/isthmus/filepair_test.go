package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
)

// writePair writes a certificate and its key for this machine, with a serial number to tell it by.
func writePair(t *testing.T, files config.KeyPair, serial int64, ends time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: ends.Add(-90 * 24 * time.Hour), NotAfter: ends, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{files.Cert: {Type: "CERTIFICATE", Bytes: der}, files.Key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		write(t, name, pem.EncodeToMemory(block), serial)
	}
}

// write writes a file as at a time of its own, for the clock of the file system may be coarser than a test is fast.
func write(t *testing.T, name string, text []byte, second int64) {
	t.Helper()
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if at := time.Unix(1_700_000_000+second, 0); os.Chtimes(name, at, at) != nil {
		t.Fatal("time of " + name)
	}
}

func filesIn(dir string) config.KeyPair {
	return config.KeyPair{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
}

// TestCertificateFilesAreReadAgain: at a handshake after a while, and at once when asked to. What cannot be used changes nothing.
func TestCertificateFilesAreReadAgain(t *testing.T) {
	files, now := filesIn(t.TempDir()), time.Now()
	writePair(t, files, 1, now.Add(60*24*time.Hour))
	pair, err := newFilePair("http_tls", files, quiet())
	if err != nil {
		t.Fatal(err)
	}
	pair.now = func() time.Time { return now }
	serves := func(when string, serial int64) {
		t.Helper()
		if shown, err := pair.get(nil); err != nil || shown.Leaf.SerialNumber.Int64() != serial {
			t.Errorf("%s: serves %v, %v: want number %d", when, shown.Leaf.SerialNumber, err, serial)
		}
	}
	serves("first", 1)
	writePair(t, files, 2, now.Add(60*24*time.Hour))
	serves("at once", 1)
	now = now.Add(pairLook)
	serves("after a while", 2)
	writePair(t, files, 3, now.Add(10*24*time.Hour))
	pair.reload()
	serves("when told", 3)
	if c := pair.check(); c.Problem != "" || !strings.Contains(c.Warning, "it ends at") {
		t.Errorf("ten days before its end: %+v", c)
	}
	old, err := os.ReadFile(files.Key)
	if err != nil {
		t.Fatal(err)
	}
	writePair(t, files, 4, now.Add(60*24*time.Hour))
	next, err := os.ReadFile(files.Key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, files.Key, old, 4)
	pair.reload()
	serves("with another's key", 3)
	if c := pair.check(); !strings.Contains(c.Problem, "the newer one cannot be used") {
		t.Errorf("with another's key: %+v", c)
	}
	write(t, files.Key, next, 5)
	pair.reload()
	serves("once the key is there too", 4)
	if c := pair.check(); c.Problem+c.Warning != "" {
		t.Errorf("at last: %+v", c)
	}
	writePair(t, files, 6, now.Add(-time.Hour))
	pair.reload()
	serves("a newer one that ended", 4)
	now = now.Add(61 * 24 * time.Hour)
	if c := pair.check(); !strings.Contains(c.Problem, "it ended at") {
		t.Errorf("after its end: %+v", c)
	}
	if err := os.Remove(files.Cert); err != nil {
		t.Fatal(err)
	}
	if _, err := newFilePair("http_tls", files, quiet()); err == nil || !strings.Contains(err.Error(), "http_tls_cert: ") {
		t.Errorf("no file at the start: %v", err)
	}
}

// TestCertificateFilesServe: the API and xDS show what the files hold, also what they hold after a reload.
func TestCertificateFilesServe(t *testing.T) {
	cfg := planeConfig(t)
	cfg.HTTPTLS, cfg.XDSTLS = filesIn(t.TempDir()), filesIn(t.TempDir())
	ends := time.Now().Add(60 * 24 * time.Hour)
	writePair(t, cfg.HTTPTLS, 1, ends)
	writePair(t, cfg.XDSTLS, 2, ends)
	p := opened(t, cfg)
	running(t, p)
	shown := func(listener net.Listener) int64 {
		t.Helper()
		conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}}).DialContext(t.Context(), "tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if http, xds := shown(p.listeners.http), shown(p.listeners.xds); http != 1 || xds != 2 {
		t.Errorf("shown are %d and %d", http, xds)
	}
	writePair(t, cfg.HTTPTLS, 3, ends)
	writePair(t, cfg.XDSTLS, 4, ends)
	p.hangup(t.Context(), cfg, func() (config.Server, error) { return cfg, nil })
	if http, xds := shown(p.listeners.http), shown(p.listeners.xds); http != 3 || xds != 4 {
		t.Errorf("after a reload %d and %d", http, xds)
	}
}
