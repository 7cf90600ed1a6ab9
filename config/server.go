package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Where the server learns of its cluster.
const (
	SourceEmbedded = "embedded" // from its own durable store
	SourceConsul   = "consul"   // from a Consul cluster
)

// Server is the server's own configuration: what `isthmus serve` takes from a file, from its environment and from flags.
// Each field but PeerPolicies has an Option of the same name. The zero value of a field is "not given"; Resolve fills in
// what that means.
type Server struct {
	Source                 string // SourceEmbedded or SourceConsul
	DataDir                string
	Datacenter, NodeName   string
	NodeAddress            string // empty: as it is registered
	HTTPAddr, XDSAddr      string // ip:port; an empty host is every address
	PeeringAddr            string // embedded only
	PeeringAdvertise       []string
	MetricsAddr            string  // empty: metrics are at HTTPAddr
	DNSAddr                string  // empty: no DNS
	HTTPTLS, XDSTLS        KeyPair // XDSTLS empty: a certificate of our own CA
	HTTPOpen               bool
	LogLevel, LogFormat    string
	AllowPeerAddresses     []netip.Prefix
	AllowPlaintextPeers    bool
	DefaultIntentionPolicy Action // with SourceConsul empty: Consul's own
	MeshTLSMin             string // "1.2" or "1.3"
	ConsulHTTPAddr         string // empty: from Consul's variables
	ConsulGRPCAddr         string
	PeerPolicies           []*PeerPolicy // SourceConsul only, where there is no other place for them
}

// KeyPair names the files of a certificate chain and its key, in PEM.
type KeyPair struct{ Cert, Key string }

// LoadServer reads the server's configuration from a file in HCL, JSON or YAML. It holds what the file says and no
// defaults. All errors of the file are returned together, each an *Error.
func LoadServer(file string, data []byte) (Server, error) {
	roots, err := parseFile(file, data)
	if err != nil {
		return Server{}, err
	}
	var server Server
	errs := &errorList{}
	if len(roots) > 1 || len(roots) == 1 && roots[0].kind != isObject {
		return Server{}, &Error{File: file, Kind: "server", Msg: "want one object"}
	}
	for _, root := range roots {
		r := newReport(file, root)
		r.kind = "server"
		d := newDecoder(r)
		values := d.object(root, serverFields(), "")
		for _, option := range Options() {
			if value, ok := values[option.Name]; ok {
				d.check(option.Name, option.set(&server, value))
			}
		}
		policies, _ := values["peer_policies"].([]any)
		for i, policy := range policies {
			server.PeerPolicies = append(server.PeerPolicies, d.peerPolicy(policy, i))
		}
		errs.add(r)
	}
	if err := errs.join(); err != nil {
		return Server{}, err
	}
	return server, nil
}

// peerPolicy reads one policy; what is wrong with it is reported with its own kind and name.
func (d *decoder) peerPolicy(values any, i int) *PeerPolicy {
	at := fmt.Sprintf("peer_policies[%d]", i)
	r := newReport(d.file, &node{line: d.lineOf(at)})
	r.kind = KindPeerPolicy
	for path, line := range d.lines {
		if rest, ok := strings.CutPrefix(path, at+"."); ok {
			r.lines[rest] = line
		}
	}
	policy := &PeerPolicy{}
	inner := newDecoder(r)
	inner.fill(values.(map[string]any), policy)
	r.name = policy.Name
	policy.finish(inner)
	d.errs = append(d.errs, r.errs...)
	return policy
}

func serverFields() []field {
	fields := []field{{name: "peer_policies", also: []string{"peer_policy"}, is: objects, sub: peerPolicyFields}}
	for _, option := range Options() {
		fields = append(fields, field{name: option.Name, is: option.is})
	}
	return fields
}

// Resolve fills in the defaults of what was not given, and checks all of it together. hostname is the machine's, for
// NodeName. Every error is an *Error whose Field is the name of an option.
func (s Server) Resolve(hostname string) (Server, error) {
	for _, option := range Options() {
		if option.text(&s) == "" {
			if err := option.Set(&s, option.defaultFor(s.Source)); err != nil {
				return Server{}, err // a bug: TestDefaults sets them all
			}
		}
	}
	if s.NodeName == "" {
		s.NodeName = strings.ToLower(hostname)
	}
	if len(s.PeeringAdvertise) == 0 && s.PeeringAddr != "" && !everyAddress(s.PeeringAddr) {
		s.PeeringAdvertise = []string{s.PeeringAddr}
	}
	v := &serverCheck{}
	v.names(s)
	v.addresses(s)
	v.source(s)
	if len(v.errs) > 0 {
		return Server{}, errors.Join(v.errs...)
	}
	return s, nil
}

// A serverCheck collects what is wrong between options, each by itself being right.
type serverCheck struct{ errs []error }

func (v *serverCheck) errorf(option, format string, args ...any) {
	v.errs = append(v.errs, &Error{Kind: "server", Field: option, Msg: fmt.Sprintf(format, args...)})
}

var (
	datacenterName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9_]{0,61}[a-z0-9])?$`)
	nodeName       = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,126}[A-Za-z0-9])?$`)
)

func (v *serverCheck) names(s Server) {
	if !datacenterName.MatchString(s.Datacenter) {
		v.errorf("datacenter", "is %s: want a-z, 0-9, - and _, at most %d", quote(s.Datacenter), maxName)
	}
	if !nodeName.MatchString(s.NodeName) {
		v.errorf("node_name", "is %s: want letters, digits, -, _ and dots, at most 128", quote(s.NodeName))
	}
}

func (v *serverCheck) addresses(s Server) {
	for _, pair := range []struct {
		name string
		KeyPair
	}{{"http_tls", s.HTTPTLS}, {"xds_tls", s.XDSTLS}} {
		if (pair.Cert == "") != (pair.Key == "") {
			v.errorf(pair.name+"_key", "want %s_cert and %s_key, or neither", pair.name, pair.name)
		}
	}
	listeners := []struct{ option, address string }{
		{"http_addr", s.HTTPAddr}, {"metrics_addr", s.MetricsAddr}, {"xds_addr", s.XDSAddr}, {"peering_addr", s.PeeringAddr}, {"dns_addr", s.DNSAddr},
	}
	taken := map[string]string{}
	for i, own := range listeners {
		if onlyHTTP := i < 2; onlyHTTP && own.address != "" && !onLoopback(own.address) && s.HTTPTLS.Cert == "" {
			v.errorf(own.option, "%s is beyond loopback: want http_tls_cert and http_tls_key", own.address)
		}
		if own.address == "" || strings.HasSuffix(own.address, ":0") {
			continue
		}
		if other, ok := taken[own.address]; ok {
			v.errorf(own.option, "%s is that of %s too", own.address, other)
		}
		taken[own.address] = own.option
	}
}

// source checks what only one of the sources has.
func (v *serverCheck) source(s Server) {
	if s.Source == SourceConsul {
		if s.PeeringAddr != "" || len(s.PeeringAdvertise) > 0 {
			v.errorf("peering_addr", "with source consul, Consul is the peer: want no peering_addr and no peering_advertise")
		}
		if s.DefaultIntentionPolicy == Allow {
			v.errorf("default_intention_policy", "with source consul it may only be stricter than Consul's own: want deny or nothing")
		}
		return
	}
	if len(s.PeeringAdvertise) == 0 {
		v.errorf("peering_advertise", "is missing: peering_addr %s is no address to connect to, want host:port as peers reach it", s.PeeringAddr)
	}
	if s.ConsulHTTPAddr != "" || s.ConsulGRPCAddr != "" {
		v.errorf("consul_http_addr", "is of source consul: want no consul_http_addr and no consul_grpc_addr")
	}
	if len(s.PeerPolicies) > 0 {
		v.errorf("peer_policies", "are of source consul: want config entries of kind peer-policy")
	}
}

// listenHost returns the host of a listener's address, and its IP where it is one.
func listenHost(address string) (string, netip.Addr) {
	host := strings.Trim(address[:max(strings.LastIndexByte(address, ':'), 0)], "[]")
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host, netip.Addr{}
	}
	return host, ip.Unmap()
}

// onLoopback tells whether only this machine can connect to a listener.
func onLoopback(address string) bool {
	host, ip := listenHost(address)
	return host == "localhost" || ip.IsLoopback()
}

// everyAddress tells whether a listener is at all addresses of the machine.
func everyAddress(address string) bool {
	host, ip := listenHost(address)
	return host == "" || ip.IsUnspecified()
}

// oneOf returns nil for one of the values that there are.
func oneOf(value string, values ...string) error {
	if slices.Contains(values, value) {
		return nil
	}
	return fmt.Errorf("is %s: want %s", quote(value), strings.Join(values, " or "))
}
