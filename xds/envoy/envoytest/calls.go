package envoytest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// Calls walks the generated configuration as a connection would, and says in words which ones reach what.
func Calls(t TB, set *envoy.Set) string {
	t.Helper()
	clusters := map[string]*clusterv3.Cluster{}
	for _, c := range Clusters(t, set) {
		clusters[c.Name] = c
	}
	var lines []string
	for _, l := range Listeners(t, set) {
		closed := true
		for _, chain := range l.FilterChains {
			if len(chain.Filters) == 0 {
				continue // the chain none: closed, as any other
			}
			who := "sni " + strings.Join(chain.GetFilterChainMatch().GetServerNames(), " or ")
			if who == "sni " {
				who, closed = "every connection", false
			}
			lines = append(lines, fmt.Sprintf("%s: %s%s -> %s", l.Name, who, doors(t, chain), target(t, chain, clusters)))
		}
		if closed {
			lines = append(lines, l.Name+": any other sni -> connection closed")
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// doors says what a connection must pass inside its chain.
func doors(t TB, chain *listenerv3.FilterChain) string {
	var passed []string
	if socket := chain.TransportSocket; socket != nil {
		tls := held[*tlsv3.DownstreamTlsContext](t, socket.GetTypedConfig())
		if !tls.RequireClientCertificate.GetValue() {
			t.Errorf("chain %s: no client certificate is asked for", chain.Name)
		}
		passed = append(passed, tls.CommonTlsContext.GetValidationContextSdsSecretConfig().GetName())
	}
	for _, filter := range chain.Filters {
		if filter.GetConfigDiscovery() != nil {
			passed = append(passed, filter.Name)
		}
	}
	if len(passed) == 0 {
		return ""
	}
	return ", admitted by " + strings.Join(passed, " and ")
}

// target says where a chain's last filter leads.
func target(t TB, chain *listenerv3.FilterChain, clusters map[string]*clusterv3.Cluster) string {
	t.Helper()
	last := chain.Filters[len(chain.Filters)-1]
	name := held[*tcpproxyv3.TcpProxy](t, last.GetTypedConfig()).GetCluster()
	cluster := clusters[name]
	if cluster == nil {
		return "no cluster " + name
	}
	text := "cluster " + name
	if socket := cluster.TransportSocket; socket != nil {
		tls := held[*tlsv3.UpstreamTlsContext](t, socket.GetTypedConfig())
		validation := tls.CommonTlsContext.GetCombinedValidationContext()
		var servers []string
		for _, san := range validation.GetDefaultValidationContext().GetMatchTypedSubjectAltNames() {
			servers = append(servers, san.Matcher.GetExact()+san.Matcher.GetSafeRegex().GetRegex())
		}
		text += fmt.Sprintf(" -> tls sni %s, trusts %s for %s", tls.Sni,
			validation.GetValidationContextSdsSecretConfig().GetName(), strings.Join(servers, " or "))
	}
	if set := cluster.GetEdsClusterConfig().GetServiceName(); set != "" {
		return text + " -> endpoints " + set
	}
	address := cluster.LoadAssignment.Endpoints[0].LbEndpoints[0].GetEndpoint().GetAddress().GetSocketAddress()
	return fmt.Sprintf("%s -> %s:%d", text, address.Address, address.GetPortValue())
}

// Admitted says of each client which authorization secrets and rules admit it: see Admitting.
func Admitted(t TB, set *envoy.Set, clients string) string {
	t.Helper()
	var text strings.Builder
	for client := range strings.Lines(clients) {
		client = strings.TrimSpace(client)
		by := Admitting(t, set, client)
		if by == nil {
			by = []string{"nothing"}
		}
		fmt.Fprintf(&text, "%s by %s\n", client, strings.Join(by, " and "))
	}
	return text.String()
}

// Admitting returns the authorization secrets and rules that admit a client: its certificate's URI SANs, joined by commas.
// Who signed it is not looked at.
func Admitting(t TB, set *envoy.Set, client string) []string {
	t.Helper()
	var by []string
	for _, secret := range Secrets(t, set) {
		if strings.HasPrefix(secret.Name, "authz~") && handshake(t, secret, client) {
			by = append(by, secret.Name)
		}
	}
	rules := rbac(t, set)
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		if fullMatch(t, rules[name], client) {
			by = append(by, name)
		}
	}
	return by
}

// handshake judges each URI SAN by itself, as TLS does.
func handshake(t TB, secret *tlsv3.Secret, client string) bool {
	matchers := secret.GetValidationContext().GetMatchTypedSubjectAltNames()
	if len(matchers) == 0 {
		return true // what Envoy does with an empty list
	}
	for _, uri := range strings.Split(client, ",") {
		for _, m := range matchers {
			if fullMatch(t, m.GetMatcher().GetSafeRegex().GetRegex(), uri) {
				return true
			}
		}
	}
	return false
}

// rbac returns the one expression that each RBAC rule allows.
func rbac(t TB, set *envoy.Set) map[string]string {
	rules := map[string]string{}
	for _, extension := range Extensions(t, set) {
		filter := held[*rbacv3.RBAC](t, extension.TypedConfig)
		for _, m := range filter.Matcher.GetMatcherList().GetMatchers() {
			rules[extension.Name] = pattern(m)
		}
	}
	return rules
}

func pattern(m *matcherv3.Matcher_MatcherList_FieldMatcher) string {
	return m.GetPredicate().GetSinglePredicate().GetValueMatch().GetSafeRegex().GetRegex()
}

// fullMatch is RE2's, which Envoy uses: Go's syntax is the same.
func fullMatch(t TB, pattern, text string) bool {
	t.Helper()
	re, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
	if err != nil {
		t.Fatal(err)
	}
	return re.MatchString(text)
}
