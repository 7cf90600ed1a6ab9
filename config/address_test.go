package config

import (
	"net/netip"
	"strings"
	"testing"
)

// ours is a policy as the server has it: listeners on one address, on all, and on loopback.
var ours = AddressPolicy{
	Own:   []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:8443"), netip.MustParseAddrPort("0.0.0.0:8503"), netip.MustParseAddrPort("[::]:8502"), netip.MustParseAddrPort("127.0.0.1:8500")},
	Local: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")},
}

// badAddresses is what a peer may list to have us dial ourselves, our network segment, the cloud's metadata or a group,
// and why each is refused.
var badAddresses = map[string]string{
	// this machine
	"127.0.0.1:443":             "loopback",
	"127.0.0.2:8443":            "loopback",
	"127.1.2.3:443":             "loopback",
	"127.255.255.255:443":       "loopback",
	"[::1]:443":                 "loopback",
	"[::ffff:127.0.0.1]:443":    "loopback",
	"[::ffff:7f00:1]:443":       "loopback",
	"[::ffff:127.255.0.1]:443":  "loopback",
	"0.0.0.0:443":               "unspecified",
	"0.0.0.1:443":               "unspecified",
	"0.255.255.255:443":         "unspecified",
	"[::]:443":                  "unspecified",
	"[::ffff:0.0.0.0]:443":      "unspecified",
	"[::127.0.0.1]:443":         "outdated",
	"[::10.0.0.7]:443":          "outdated",
	"[::2]:443":                 "outdated",
	"[::ffff:0:127.0.0.1]:443":  "outdated",
	"[::ffff:0:10.0.0.7]:443":   "outdated",
	"[64:ff9b::127.0.0.1]:443":  "loopback",
	"[64:ff9b::7f00:1]:443":     "loopback",
	"[64:ff9b::]:443":           "unspecified",
	"[64:ff9b:1::7f00:1]:443":   "translated",
	"[2002:7f00:1::]:443":       "loopback",
	"[2002:7f00:1::1]:443":      "loopback",
	"[2002::1]:443":             "unspecified",
	"[2001:0:7f00:1::]:443":     "tunnelled",
	"[2001::1]:443":             "tunnelled",
	"[fe80::1%lo]:443":          "zone",
	"[::ffff:127.0.0.1%lo]:443": "", // not an address: netip refuses the zone
	// the network segment
	"169.254.0.1:443":          "link-local",
	"169.254.255.255:443":      "link-local",
	"[fe80::1]:443":            "link-local",
	"[fe80::1%eth0]:443":       "zone",
	"[febf::1]:443":            "link-local",
	"[::ffff:169.254.1.1]:443": "link-local",
	"[64:ff9b::a9fe:101]:443":  "link-local",
	"[2002:a9fe:a9fe::]:443":   "link-local",
	// metadata services of clouds
	"169.254.169.254:80":            "link-local",
	"169.254.170.2:80":              "link-local",
	"[::ffff:169.254.169.254]:80":   "link-local",
	"[::ffff:a9fe:a9fe]:80":         "link-local",
	"[64:ff9b::169.254.169.254]:80": "link-local",
	"100.100.100.200:80":            "metadata",
	"168.63.129.16:80":              "metadata",
	"192.0.0.192:80":                "metadata",
	"[fd00:ec2::254]:80":            "metadata",
	"[fd20:ce::254]:80":             "metadata",
	// groups
	"224.0.0.1:443":                "multicast",
	"239.255.255.250:1900":         "multicast",
	"[ff02::1]:443":                "multicast",
	"[ff01::1]:443":                "multicast",
	"[ff05::2]:443":                "multicast",
	"[::ffff:224.0.0.1]:443":       "multicast",
	"[64:ff9b::e000:1]:443":        "multicast",
	"255.255.255.255:443":          "reserved or broadcast",
	"[::ffff:255.255.255.255]:443": "reserved or broadcast",
	"240.0.0.1:443":                "reserved or broadcast",
	"[2002:ffff:ffff::]:443":       "reserved or broadcast",
	// our own listeners, and what is no port
	"10.0.0.1:8443":          "listener of our own",
	"[::ffff:10.0.0.1]:8443": "listener of our own",
	"10.0.0.1:8503":          "listener of our own",
	"[2001:db8::1]:8503":     "listener of our own",
	"10.0.0.1:8502":          "listener of our own",
	"127.0.0.9:8503":         "listener of our own",
	"[::1]:8502":             "listener of our own",
	"0.0.0.0:8502":           "listener of our own",
	"127.0.0.1:8500":         "listener of our own",
	"10.0.0.7:0":             "want a port",
}

// TestBadAddresses: each is refused with no policy but the default one, and with the reason.
func TestBadAddresses(t *testing.T) {
	for address, reason := range badAddresses {
		parsed, err := netip.ParseAddrPort(address)
		if err != nil {
			if reason != "" {
				t.Errorf("%s: %v", address, err)
			}
			continue
		}
		if err := ours.Check(parsed); err == nil || !strings.Contains(err.Error(), reason) || !strings.HasPrefix(err.Error(), "address ") {
			t.Errorf("%s: got %v, want %s", address, err, reason)
		}
	}
	if err := (AddressPolicy{}).Check(netip.AddrPort{}); err == nil {
		t.Error("what is no address was allowed")
	}
}

func TestGoodAddresses(t *testing.T) {
	for _, address := range []string{
		"10.0.0.7:443", "192.168.1.1:8443", "172.16.0.1:1", "100.64.0.1:443", "8.8.8.8:65535", "[2001:db8::7]:443", "[fd00::1]:443",
		"[::ffff:10.0.0.7]:443", "[64:ff9b::a00:7]:443", "[2002:a00:7::1]:443", "10.0.0.1:8444", "10.0.0.1:8500", "192.0.2.1:443",
	} {
		if err := ours.Check(netip.MustParseAddrPort(address)); err != nil {
			t.Errorf("%v", err)
		}
	}
}

// TestAllowedAddresses: --allow-peer-addresses adds to the default, AllowAddresses replaces it, and neither lets through
// what is no peer's in any network, or is ours.
func TestAllowedAddresses(t *testing.T) {
	also := ours
	also.Also = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16")}
	everything := ours
	everything.Also = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	listed := ours
	listed.Allow = []AddressRule{{netip.MustParsePrefix("10.1.0.0/16"), []uint16{443, 8443}}, {Prefix: netip.MustParsePrefix("169.254.7.0/24")}}
	for _, known := range []struct {
		policy  AddressPolicy
		address string
		allowed bool
	}{
		{also, "127.0.0.1:443", true}, {also, "[::ffff:127.0.0.1]:443", true}, {also, "10.0.0.7:443", true}, {also, "169.254.169.254:80", true},
		{also, "127.0.0.1:8503", false}, {also, "127.0.0.1:8500", false}, {also, "[::1]:443", false}, {also, "127.0.0.1:0", false},
		{everything, "8.8.8.8:53", true}, {everything, "0.0.0.0:443", false}, {everything, "[::]:443", false}, {everything, "224.0.0.1:443", false},
		{everything, "[ff02::1]:443", false}, {everything, "255.255.255.255:443", false}, {everything, "10.0.0.1:8443", false},
		{listed, "10.1.2.3:443", true}, {listed, "10.1.2.3:8443", true}, {listed, "10.1.2.3:80", false}, {listed, "10.2.0.1:443", false},
		{listed, "[::ffff:10.1.2.3]:443", true}, {listed, "169.254.7.1:80", true}, {listed, "169.254.8.1:80", false}, {listed, "[2001:db8::7]:443", false},
	} {
		if err := known.policy.Check(netip.MustParseAddrPort(known.address)); (err == nil) != known.allowed {
			t.Errorf("%s: got %v, want allowed %v", known.address, err, known.allowed)
		}
	}
}

// FuzzAddressPolicy: no form of an address gets around what is never dialled.
func FuzzAddressPolicy(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1}, uint16(443))
	f.Add(netip.MustParseAddr("::ffff:0.0.0.0").AsSlice(), uint16(8503))
	f.Fuzz(func(t *testing.T, address []byte, port uint16) {
		ip, ok := netip.AddrFromSlice(address)
		if !ok || ours.Check(netip.AddrPortFrom(ip, port)) != nil {
			return
		}
		ip = ip.Unmap()
		if ip.IsLoopback() || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() || port == 0 || port == 8502 && ip.String() == "10.0.0.1" {
			t.Fatalf("%s was allowed", ip)
		}
	})
}
