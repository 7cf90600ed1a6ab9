package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
)

// An Option is one setting of the server: its name in files, and from that its flag and its variable.
type Option struct {
	Name  string // data_dir
	Usage string // what it does, for --help
	// Default is the value when it is not given, as text; with SourceConsul it is DefaultConsul where that is set.
	Default, DefaultConsul string
	is                     shape
	text                   func(*Server) string     // "" when it is not given
	set                    func(*Server, any) error // with a string, bool or []string, by shape
}

// Flag returns the name of the flag: data-dir.
func (o Option) Flag() string { return strings.ReplaceAll(o.Name, "_", "-") }

// Env returns the name of the variable: ISTHMUS_SERVE_DATA_DIR.
func (o Option) Env() string { return "ISTHMUS_SERVE_" + strings.ToUpper(o.Name) }

// IsBool tells whether the flag stands without a value.
func (o Option) IsBool() bool { return o.is == boolean }

// Set puts a value as flags and variables hold it, lists with commas between, into s. An empty one is "not given".
// The error is an *Error that names the option.
func (o Option) Set(s *Server, value string) error {
	var read any = value
	switch {
	case value == "":
		return nil
	case o.is == boolean:
		on, err := strconv.ParseBool(value)
		if err != nil {
			return &Error{Kind: "server", Field: o.Name, Msg: "is " + quote(value) + ": want true or false"}
		}
		read = on
	case o.is == texts:
		list := strings.Split(value, ",")
		for i := range list {
			list[i] = strings.TrimSpace(list[i])
		}
		read = list
	}
	if err := o.set(s, read); err != nil {
		return &Error{Kind: "server", Field: o.Name, Msg: err.Error()}
	}
	return nil
}

func (o Option) defaultFor(source string) string {
	if source == SourceConsul && o.DefaultConsul != "" {
		return strings.TrimSuffix(o.DefaultConsul, none)
	}
	return o.Default
}

// none is the DefaultConsul of an option that has a Default and none with Consul.
const none = "none"

// Options returns all settings of the server, in the order of the help.
func Options() []Option {
	return []Option{
		Option{Name: "source", Default: SourceEmbedded, Usage: "where the cluster's state is: embedded or consul"}.of(
			func(s *Server) *string { return &s.Source }, SourceEmbedded, SourceConsul),
		Option{Name: "data_dir", Default: "/var/lib/isthmus", Usage: "directory of the durable state"}.of(func(s *Server) *string { return &s.DataDir }),
		Option{Name: "datacenter", Default: "dc1", Usage: "name of this cluster's datacenter"}.of(func(s *Server) *string { return &s.Datacenter }),
		Option{Name: "node_name", Usage: "name of this node (default: the host's name)"}.of(func(s *Server) *string { return &s.NodeName }),
		Option{Name: "node_address", Usage: "IP address of this node, for services on it that have none (default: as registered, else 127.0.0.1)"}.checked(
			func(s *Server) *string { return &s.NodeAddress }, checkNodeAddress),
		Option{Name: "http_addr", Default: "127.0.0.1:8500", DefaultConsul: "127.0.0.1:18500", Usage: "ip:port of the HTTP API"}.listen(
			func(s *Server) *string { return &s.HTTPAddr }),
		Option{Name: "xds_addr", Default: "127.0.0.1:8502", DefaultConsul: "127.0.0.1:18502", Usage: "ip:port of xDS"}.listen(
			func(s *Server) *string { return &s.XDSAddr }),
		Option{Name: "peering_addr", Default: "127.0.0.1:8503", DefaultConsul: none, Usage: "ip:port that peers connect to"}.listen(
			func(s *Server) *string { return &s.PeeringAddr }),
		Option{Name: "peering_advertise", Usage: "host:port,… that peering tokens carry (default: peering_addr)"}.list(
			func(s *Server) *[]string { return &s.PeeringAdvertise }, CheckHostPort),
		Option{Name: "metrics_addr", Usage: "ip:port of the metrics (default: at http_addr)"}.listen(func(s *Server) *string { return &s.MetricsAddr }),
		Option{Name: "dns_addr", Usage: "ip:port of DNS, over UDP and TCP: whoever reaches it finds services without a token (default: none)"}.listen(
			func(s *Server) *string { return &s.DNSAddr }),
		Option{Name: "http_tls_cert", Usage: "file of the HTTP API's certificate chain"}.of(func(s *Server) *string { return &s.HTTPTLS.Cert }),
		Option{Name: "http_tls_key", Usage: "file of its key"}.of(func(s *Server) *string { return &s.HTTPTLS.Key }),
		Option{Name: "xds_tls_cert", Usage: "file of xDS's certificate chain (default: one of our own CA)"}.of(func(s *Server) *string { return &s.XDSTLS.Cert }),
		Option{Name: "xds_tls_key", Usage: "file of its key"}.of(func(s *Server) *string { return &s.XDSTLS.Key }),
		flag("http_open", "whoever connects from this machine is an operator: for a lab", func(s *Server) *bool { return &s.HTTPOpen }),
		Option{Name: "log_level", Default: "info", Usage: "trace, debug, info, warn or error"}.of(
			func(s *Server) *string { return &s.LogLevel }, "trace", "debug", "info", "warn", "error"),
		Option{Name: "log_format", Default: "text", Usage: "text or json"}.of(func(s *Server) *string { return &s.LogFormat }, "text", "json"),
		allowPeerAddresses(),
		flag("allow_plaintext_peers", "dial a peer without TLS where its token names no CA, as those of Consul 1.13 do: nobody can tell then who answers",
			func(s *Server) *bool { return &s.AllowPlaintextPeers }),
		Option{Name: "default_intention_policy", Default: string(Deny), DefaultConsul: none, Usage: "allow or deny, where no intention matches"}.of(
			func(s *Server) *string { return (*string)(&s.DefaultIntentionPolicy) }, string(Allow), string(Deny)),
		Option{Name: "mesh_tls_min", Default: "1.2", Usage: "lowest TLS version in the mesh: 1.2 or 1.3"}.of(
			func(s *Server) *string { return &s.MeshTLSMin }, "1.2", "1.3"),
		Option{Name: "consul_http_addr", Usage: "address of Consul's HTTP API (default: from Consul's variables)"}.of(
			func(s *Server) *string { return &s.ConsulHTTPAddr }),
		Option{Name: "consul_grpc_addr", Usage: "address of Consul's gRPC port (default: from Consul's variables)"}.of(
			func(s *Server) *string { return &s.ConsulGRPCAddr }),
	}
}

// Changed returns the names of the options that differ between two configurations, in the order of the help.
func Changed(a, b Server) []string {
	var names []string
	for _, option := range Options() {
		if option.text(&a) != option.text(&b) {
			names = append(names, option.Name)
		}
	}
	if !reflect.DeepEqual(a.PeerPolicies, b.PeerPolicies) {
		names = append(names, "peer_policies")
	}
	return names
}

// of makes o an option of text, of one of values where there are any.
func (o Option) of(place func(*Server) *string, values ...string) Option {
	o.is = text
	o.text = func(s *Server) string { return *place(s) }
	o.set = func(s *Server, value any) error {
		if len(values) > 0 {
			if err := oneOf(value.(string), values...); err != nil {
				return err
			}
		}
		*place(s) = value.(string)
		return nil
	}
	return o
}

// listen makes o an option of an address to listen at.
func (o Option) listen(place func(*Server) *string) Option { return o.checked(place, checkListen) }

// checked makes o an option of text that passes check.
func (o Option) checked(place func(*Server) *string, check func(string) error) Option {
	o = o.of(place)
	set := o.set
	o.set = func(s *Server, value any) error {
		if err := check(value.(string)); err != nil {
			return err
		}
		return set(s, value)
	}
	return o
}

// list makes o an option of several texts, each of which passes check.
func (o Option) list(place func(*Server) *[]string, check func(string) error) Option {
	o.is = texts
	o.text = func(s *Server) string { return strings.Join(*place(s), ",") }
	o.set = func(s *Server, value any) error {
		for _, each := range value.([]string) {
			if err := check(each); err != nil {
				return err
			}
		}
		*place(s) = value.([]string)
		return nil
	}
	return o
}

// flag is an option that is on or off, and off when it is not given.
func flag(name, usage string, place func(*Server) *bool) Option {
	return Option{
		Name: name, Usage: usage, is: boolean,
		text: func(s *Server) string { return strings.TrimPrefix(strconv.FormatBool(*place(s)), "false") },
		set:  func(s *Server, value any) error { *place(s) = value.(bool); return nil },
	}
}

func allowPeerAddresses() Option {
	return Option{
		Name: "allow_peer_addresses", Usage: "CIDR,… that peers may have us dial besides what is allowed anyway", is: texts,
		text: func(s *Server) string { return strings.Trim(fmt.Sprint(s.AllowPeerAddresses), "[]") },
		set: func(s *Server, value any) error {
			var all []netip.Prefix
			for _, each := range value.([]string) {
				read, ok := prefixOf(each)
				if !ok {
					return fmt.Errorf("%s: want %s", quote(each), prefix)
				}
				all = append(all, read.(netip.Prefix))
			}
			s.AllowPeerAddresses = all
			return nil
		},
	}
}

// checkListen returns nil for ip:port, localhost:port and :port. Port 0 is any that is free.
func checkListen(address string) error {
	host, rest, found := strings.Cut(address, ":")
	if found && (host == "" || host == "localhost") {
		if _, err := strconv.ParseUint(rest, 10, 16); err == nil {
			return nil
		}
	}
	if at, err := netip.ParseAddrPort(address); err != nil || at.Addr().Zone() != "" {
		return fmt.Errorf("is %s: want ip:port", quote(address))
	}
	return nil
}

// checkNodeAddress returns nil for an address that others can reach a machine at.
func checkNodeAddress(address string) error {
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() {
		return fmt.Errorf("is %s: want the IP address that others reach this machine at", quote(address))
	}
	return nil
}
