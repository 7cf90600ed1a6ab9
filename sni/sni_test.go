package sni_test

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/sni"
)

const trustDomain = "11111111-2222-3333-4444-555555555555.consul"

func TestNames(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{sni.Peered{Service: "DB", Namespace: "default", Partition: "default", Peer: "east", TrustDomain: trustDomain}.String(),
			"db.default.default.east.external." + trustDomain},
		{sni.Local{Service: "db", Namespace: "default", Datacenter: "dc1", TrustDomain: trustDomain}.String(),
			"db.default.dc1.internal." + trustDomain},
		{sni.Egress("West-1", trustDomain), "*.west-1.external." + trustDomain},
		{sni.PeeringServer("dc1", trustDomain), "server.dc1.peering." + trustDomain},
	} {
		if test.got != test.want {
			t.Errorf("%s, want %s", test.got, test.want)
		}
	}
}

// Every name that is refused, and the word that says why.
func TestStrictness(t *testing.T) {
	long := strings.Repeat("a", 254)
	for _, test := range []struct{ name, want string }{
		{"", "labels"},
		{"db", "labels"},
		{"db.default.default.east.external", "labels"},
		{"db.default.default.east.internal.td", `label 5 is "internal"`},
		{"db.default.east.external.td", "labels"},
		{"db.default.default.east.external.", "label 6 is empty"},
		{"db.default.default.east.external.td.", "label 7 is empty"},
		{"db..default.east.external.td", "label 2 is empty"},
		{".db.default.default.east.external.td", "label 1 is empty"},
		{"DB.default.default.east.external.td", "lower case"},
		{"db.default.default.east.external.TD", "lower case"},
		{"*.default.default.east.external.td", "label 1 holds"},
		{"db.default.default.ea/st.external.td", "label 4 holds"},
		{"db.default.default.east.external.td,x", "label 6 holds"},
		{"db.default.default.east.external.t d", "label 6 holds"},
		{"db.default.default.east.external.td\x00", "label 6 holds"},
		{"dé.default.default.east.external.td", "label 1 holds"},
		{"db~.default.default.east.external.td", "label 1 holds"},
		{long + ".default.default.east.external.td", "at most 253"},
	} {
		_, err := sni.ParsePeered(test.name)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %q", test.name, err, test.want)
		}
	}
	if _, err := sni.ParseLocal("db.default.dc1.external.td"); err == nil || !strings.Contains(err.Error(), `label 4 is "external"`) {
		t.Errorf("a peered name as a local one: %v", err)
	}
}

// A name has one reading: no peered name is a local one, whatever its labels are.
func TestKindsAreApart(t *testing.T) {
	for _, name := range []string{"db.default.default.east.external.td", "db.a.internal.internal.external.td", "a.b.c.internal.td.consul"} {
		_, peered := sni.ParsePeered(name)
		_, local := sni.ParseLocal(name)
		if peered == nil && local == nil && !strings.Contains(name, "internal.external") {
			t.Errorf("%q has two readings", name)
		}
	}
}

func TestPeeringServerTrustDomain(t *testing.T) {
	if got, ok := sni.PeeringServerTrustDomain("server.dc1.peering." + trustDomain); !ok || got != trustDomain {
		t.Errorf("%q %v", got, ok)
	}
	for _, name := range []string{"", "server.dc1.consul", "server.dc1.peering", "server.dc1.peering.", "x.dc1.peering.td", "SERVER.dc1.peering.td"} {
		if got, ok := sni.PeeringServerTrustDomain(name); ok {
			t.Errorf("%q: %q", name, got)
		}
	}
}

func FuzzParsePeered(f *testing.F) {
	f.Add("db.default.default.east.external." + trustDomain)
	f.Add("db..default.east.external.td")
	f.Add("*.east.external.td")
	f.Fuzz(func(t *testing.T, name string) {
		parsed, err := sni.ParsePeered(name)
		if err != nil {
			return
		}
		if parsed.String() != name {
			t.Fatalf("%q becomes %q", name, parsed.String())
		}
		checkWire(t, name)
	})
}

func FuzzParseLocal(f *testing.F) {
	f.Add("db.default.dc1.internal." + trustDomain)
	f.Add("db.default.dc1.internal.")
	f.Fuzz(func(t *testing.T, name string) {
		parsed, err := sni.ParseLocal(name)
		if err != nil {
			return
		}
		if parsed.String() != name {
			t.Fatalf("%q becomes %q", name, parsed.String())
		}
		checkWire(t, name)
	})
}

// FuzzPeered starts from the parts: whatever they hold, what is read back are those parts, or nothing.
func FuzzPeered(f *testing.F) {
	f.Add("db", "east", trustDomain)
	f.Add("db.x", "east", "td")
	f.Add("db", "east.external", "td")
	f.Add("", "", "")
	f.Fuzz(func(t *testing.T, service, peer, domain string) {
		made := sni.Peered{Service: service, Namespace: "default", Partition: "default", Peer: peer, TrustDomain: domain}
		parsed, err := sni.ParsePeered(made.String())
		if err != nil || strings.Contains(service+peer, ".") {
			return
		}
		if want := (sni.Peered{Service: strings.ToLower(service), Namespace: "default", Partition: "default",
			Peer: strings.ToLower(peer), TrustDomain: strings.ToLower(domain)}); parsed != want {
			t.Fatalf("%+v becomes %+v", want, parsed)
		}
	})
}

// checkWire refuses what Envoy would not match as it stands.
func checkWire(t *testing.T, name string) {
	if len(name) > 253 || name != strings.ToLower(name) || strings.ContainsAny(name, "*/,~ \x00") || strings.Contains(name, "..") {
		t.Fatalf("%q was accepted", name)
	}
}
