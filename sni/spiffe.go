package sni

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// ServiceID is the SPIFFE ID of a service: spiffe://<trust domain>[/ap/<partition>]/ns/<ns>/dc/<datacenter>/svc/<service>.
// An empty Partition, and the partition "default", are left out of the text.
type ServiceID struct {
	TrustDomain, Partition, Namespace, Datacenter, Service string
}

func (id ServiceID) String() string { return "spiffe://" + id.TrustDomain + id.Path() }

// Path returns the path of the URI, with its leading slash.
func (id ServiceID) Path() string {
	path := "/ns/" + id.Namespace + "/dc/" + id.Datacenter + "/svc/" + id.Service
	if id.Partition != "" && id.Partition != "default" {
		path = "/ap/" + id.Partition + path
	}
	return path
}

// URL returns the ID as the URI SAN of a certificate.
func (id ServiceID) URL() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: id.TrustDomain, Path: id.Path()}
}

// ParseServiceID reads the form that ServiceID.String writes and nothing else: no escapes, no gateways, no agents.
func ParseServiceID(text string) (ServiceID, error) {
	parsed, err := spiffeid.FromString(text)
	if err != nil {
		return ServiceID{}, fmt.Errorf("spiffe id %q: %w", text, err)
	}
	id := ServiceID{TrustDomain: parsed.TrustDomain().Name(), Partition: "default"}
	rest := strings.Split(strings.TrimPrefix(parsed.Path(), "/"), "/")
	if len(rest) == 8 && rest[0] == "ap" {
		id.Partition, rest = rest[1], rest[2:]
	}
	if len(rest) != 6 || rest[0] != "ns" || rest[2] != "dc" || rest[4] != "svc" {
		return ServiceID{}, fmt.Errorf("spiffe id %q: want spiffe://trust-domain/ns/namespace/dc/datacenter/svc/service", text)
	}
	id.Namespace, id.Datacenter, id.Service = rest[1], rest[3], rest[5]
	return id, nil
}

// GatewayID returns the SPIFFE ID of a cluster's mesh gateways: spiffe://<trust domain>/gateway/mesh/dc/<datacenter>.
func GatewayID(trustDomain, datacenter string) string {
	return "spiffe://" + trustDomain + "/gateway/mesh/dc/" + datacenter
}

// ServicePattern returns an anchored RE2 expression for every SPIFFE ID of a service in a trust domain, in any
// datacenter: whoever owns the CA writes that segment, so checking it would prove nothing. name is an expression for the
// last segment: regexp.QuoteMeta of a service's name, or a generated one.
func ServicePattern(trustDomain, partition, namespace, name string) string {
	prefix := "spiffe://" + trustDomain
	if partition != "" && partition != "default" {
		prefix += "/ap/" + partition
	}
	return "^" + regexp.QuoteMeta(prefix+"/ns/"+namespace+"/dc/") + "[^/,]+" + regexp.QuoteMeta("/svc/") + "(?:" + name + ")$"
}
