package config

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	long := strings.Repeat("a", maxName)
	for _, name := range []string{"a", "0", "web", "web-1", "a--b", long} {
		if CheckServiceName(name) != nil || CheckPeerName(name) != nil || checkImportedName(name) != nil {
			t.Errorf("%q was refused", name)
		}
	}
	for _, name := range []string{"", "*", "web*", "-a", "a-", "A", "a_b", "a.b", "a b", "ä", "a\n", "a\x00", "a/b", long + "a"} {
		if CheckServiceName(name) == nil || CheckPeerName(name) == nil {
			t.Errorf("%q was accepted", name)
		}
	}
	for _, name := range []string{"A", "a_b", "_a_", "Web-1"} {
		if checkImportedName(name) != nil || checkSource(name, "east") != nil || checkSource(name, "") == nil {
			t.Errorf("%q: only a peer's service may be called so", name)
		}
	}
	for name, want := range map[string]string{"local": "own cluster", "*": "wildcard"} {
		if err := CheckPeerName(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
}

// TestHosts: a resolver may read more as an address than netip does.
func TestHosts(t *testing.T) {
	for _, host := range []string{"10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1", "a", "gw.example.com", "gw.example.com.", "1a2b3c", "x_y.svc", "10-0-0-1.internal", "a.0b"} {
		if err := CheckHost(host); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{
		"", ".", "a..b", "127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "1.2.3.4.5", "10.0.0.256", "a.0x", "a.1", "a b", "a/b", "a:1", "[::1]",
		"fe80::1%eth0", "-a", "a-", "unix:/run/x", "/run/x", "http://a", "a\x00", "ä.example", strings.Repeat("a.", 127) + "a", strings.Repeat("a", 64),
	} {
		if CheckHost(host) == nil {
			t.Errorf("%q was accepted", host)
		}
	}
	for address, ok := range map[string]bool{
		"a:1": true, "10.0.0.1:65535": true, "[::1]:80": true, "a": false, "a:0": false, "a:65536": false, "a:http": false, "::1:80": false,
		"[10.0.0.1]:80": false, "[::1]": false, "[::1:80": false, ":80": false, "a:+1": false, "a: 1": false, "127.1:80": false, "": false,
	} {
		if err := CheckHostPort(address); (err == nil) != ok {
			t.Errorf("%q: got %v, want accepted %v", address, err, ok)
		}
	}
}
