package sni_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/sni"
)

const serviceID = "spiffe://" + trustDomain + "/ns/default/dc/dc1/svc/web"

func TestServiceID(t *testing.T) {
	for _, text := range []string{serviceID, "spiffe://td/ap/part/ns/default/dc/dc1/svc/Web_1", "spiffe://td/ns/default/dc/d.c/svc/a.b"} {
		id, err := sni.ParseServiceID(text)
		if err != nil || id.String() != text || id.URL().String() != text {
			t.Errorf("%s: %+v %v", text, id, err)
		}
	}
	if id := (sni.ServiceID{TrustDomain: "td", Partition: "default", Namespace: "default", Datacenter: "dc1", Service: "web"}); id.String() != "spiffe://td/ns/default/dc/dc1/svc/web" {
		t.Errorf("partition default: %s", id)
	}
	if got := sni.GatewayID("td", "dc1"); got != "spiffe://td/gateway/mesh/dc/dc1" {
		t.Error(got)
	}
}

func TestServiceIDStrictness(t *testing.T) {
	for _, text := range []string{
		"", "web", "http://td/ns/default/dc/dc1/svc/web", "SPIFFE://td/ns/default/dc/dc1/svc/web", "spiffe:///ns/default/dc/dc1/svc/web",
		"spiffe://TD/ns/default/dc/dc1/svc/web", "spiffe://td:443/ns/default/dc/dc1/svc/web", "spiffe://u@td/ns/default/dc/dc1/svc/web",
		"spiffe://td", "spiffe://td/", "spiffe://td/gateway/mesh/dc/dc1", "spiffe://td/agent/client/dc/dc1/id/n1",
		"spiffe://td/ns/default/dc/dc1/svc/", "spiffe://td/ns//dc/dc1/svc/web", "spiffe://td/ns/default/dc/dc1/svc/web/", "spiffe://td/ns/default/dc/dc1/svc/web/x",
		"spiffe://td/ns/default/dc/../svc/web", "spiffe://td/ns/default/dc/./svc/web", "spiffe://td/ns/default/dc/dc1/svc/w%65b",
		"spiffe://td/ns/default/dc/dc1/svc/web?x=1", "spiffe://td/ns/default/dc/dc1/svc/web#x", "spiffe://td/ns/default/dc/dc1/svc/web,spiffe://td/ns/default/dc/dc1/svc/api",
		"spiffe://td/ns/default/dc/dc1/svc/we b", "spiffe://td/ns/default/dc/dc1/svc/web\x00", "spiffe://td/xx/p/ns/default/dc/dc1/svc/web",
		"spiffe://td/ns/default/DC/dc1/svc/web", "spiffe://td/NS/default/dc/dc1/SVC/web",
	} {
		if id, err := sni.ParseServiceID(text); err == nil {
			t.Errorf("%q: %+v", text, id)
		}
	}
}

func FuzzParseServiceID(f *testing.F) {
	f.Add(serviceID)
	f.Add("spiffe://td/ap/part/ns/default/dc/dc1/svc/web")
	f.Add("spiffe://td/ap/default/ns/default/dc/dc1/svc/web")
	f.Add("spiffe://td/ns/default/dc/dc1/svc/w%2fb")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := sni.ParseServiceID(text)
		if err != nil {
			return
		}
		// The text may name the default partition, which is left out when it is written.
		if id.String() != strings.Replace(text, "/ap/default/", "/", 1) {
			t.Fatalf("%q becomes %q", text, id)
		}
		if strings.ContainsAny(text, ",%\\? #\x00") || strings.Contains(text, "///") {
			t.Fatalf("%q was accepted", text)
		}
		// Each ID is matched by its own pattern, and by no other service's.
		name := regexp.MustCompile(sni.ServicePattern(id.TrustDomain, id.Partition, id.Namespace, regexp.QuoteMeta(id.Service)))
		other := regexp.MustCompile(sni.ServicePattern(id.TrustDomain, id.Partition, id.Namespace, regexp.QuoteMeta(id.Service+"x")))
		if !name.MatchString(id.String()) || other.MatchString(id.String()) {
			t.Fatalf("%q: %s and %s", id, name, other)
		}
	})
}

func TestServicePattern(t *testing.T) {
	pattern := regexp.MustCompile(sni.ServicePattern(trustDomain, "default", "default", "web"))
	for text, want := range map[string]bool{
		serviceID: true,
		"spiffe://" + trustDomain + "/ns/default/dc/other/svc/web": true, // whoever owns the CA writes the datacenter
		"x" + serviceID:       false,
		serviceID + "x":       false,
		serviceID + "\n":      false,
		serviceID + "/":       false,
		serviceID + ",spiffe": false,
		"spiffe://" + strings.Replace(trustDomain, ".", "x", 1) + "/ns/default/dc/dc1/svc/web": false,
		"spiffe://" + trustDomain + "/ns/default/dc/a/svc/b/svc/web":                           false,
		"spiffe://" + trustDomain + "/ns/default/dc/a,b/svc/web":                               false,
		"spiffe://" + trustDomain + "/ns/default/dc//svc/web":                                  false,
		"spiffe://" + trustDomain + "/ap/x/ns/default/dc/dc1/svc/web":                          false,
		"spiffe://" + trustDomain + "/ns/default/dc/dc1/svc/WEB":                               false,
	} {
		if pattern.MatchString(text) != want {
			t.Errorf("%q: want %v", text, want)
		}
	}
	all := regexp.MustCompile(sni.ServicePattern("td", "part", "default", sni.ComplementPattern([]string{"web"})))
	if id := "spiffe://td/ap/part/ns/default/dc/dc1/svc/"; all.MatchString(id+"web") || !all.MatchString(id+"webs") || all.MatchString(id+"a/b") || all.MatchString(id) {
		t.Errorf("%s", all)
	}
}
