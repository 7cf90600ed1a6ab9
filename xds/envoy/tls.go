package envoy

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// NoMatch is an RE2 expression that no text matches, the empty one included. It stands where a list would otherwise be
// empty: a validation context without SAN matchers admits every certificate of its roots. Envoy reads expressions as
// Latin-1 and refuses escapes beyond it.
const NoMatch = `[^\s\S]`

// cipherSuites are those of TLS 1.2 with ephemeral keys and authenticated encryption. TLS 1.3 has no others.
var cipherSuites = []string{
	"[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]",
	"[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]",
	"ECDHE-ECDSA-AES256-GCM-SHA384",
	"ECDHE-RSA-AES256-GCM-SHA384",
}

// tlsParameters are those of all mesh TLS. The maximum is said because Envoy's default for clients is 1.2.
func tlsParameters(min13 bool) *tlsv3.TlsParameters {
	params := &tlsv3.TlsParameters{
		TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
		TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		CipherSuites:              cipherSuites,
	}
	if min13 {
		params.TlsMinimumProtocolVersion = tlsv3.TlsParameters_TLSv1_3
	}
	return params
}

func sds(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: ads()}
}

// DownstreamTLS returns the server end of mesh TLS: the proxy's own leaf, and a client certificate that the secret authz
// must admit. No session is resumed: each connection is judged by what holds now.
func (b *Builder) DownstreamTLS(authz string, min13 bool) *corev3.TransportSocket {
	return b.transportSocket(authz, &tlsv3.DownstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams:                      tlsParameters(min13),
			TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{sds(LeafName)},
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{
				ValidationContextSdsSecretConfig: sds(authz),
			},
		},
		RequireClientCertificate: wrapperspb.Bool(true),
		SessionTicketKeysType: &tlsv3.DownstreamTlsContext_DisableStatelessSessionResumption{
			DisableStatelessSessionResumption: true,
		},
		DisableStatefulSessionResumption: true,
	})
}

// UpstreamTLS is the client end of mesh TLS.
type UpstreamTLS struct {
	ServerName string   // SNI
	Bundle     string   // name of the secret with the roots
	SpiffeIDs  []string // one of these, exactly, must be the server's; none: no server is right
	Min13      bool
}

// UpstreamTLS returns the transport socket.
func (b *Builder) UpstreamTLS(c UpstreamTLS) *corev3.TransportSocket {
	var servers []*matcherv3.StringMatcher
	for _, id := range c.SpiffeIDs {
		servers = append(servers, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: id}})
	}
	return b.transportSocket(c.ServerName, &tlsv3.UpstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams:                      tlsParameters(c.Min13),
			TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{sds(LeafName)},
			ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
				CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
					DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: uriSANs(servers)},
					ValidationContextSdsSecretConfig: sds(c.Bundle),
				},
			},
		},
		Sni:            c.ServerName,
		MaxSessionKeys: wrapperspb.UInt32(0), // resume no session: the server is judged each time
	})
}

func (b *Builder) transportSocket(owner string, context proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.pack(owner, context)},
	}
}

// uriSANs returns matchers of which one must match a URI SAN. It is never empty.
func uriSANs(matchers []*matcherv3.StringMatcher) []*tlsv3.SubjectAltNameMatcher {
	if len(matchers) == 0 {
		matchers = []*matcherv3.StringMatcher{regex(NoMatch)}
	}
	sans := make([]*tlsv3.SubjectAltNameMatcher, len(matchers))
	for i, matcher := range matchers {
		sans[i] = &tlsv3.SubjectAltNameMatcher{SanType: tlsv3.SubjectAltNameMatcher_URI, Matcher: matcher}
	}
	return sans
}

func regex(pattern string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
		SafeRegex: &matcherv3.RegexMatcher{Regex: pattern},
	}}
}

// Bundle returns the secret that holds roots, in PEM.
func (b *Builder) Bundle(name string, roots []string, origin Origin) *Resource {
	return b.validation(name, &tlsv3.CertificateValidationContext{TrustedCa: pem(roots)}, origin)
}

// Admission returns the secret that admits the certificates that one of roots vouches for and that have a URI SAN which one
// of the anchored RE2 patterns matches. Roots and patterns are one object, so one update changes both or neither.
func (b *Builder) Admission(name string, roots, patterns []string, origin Origin) *Resource {
	matchers := make([]*matcherv3.StringMatcher, len(patterns))
	for i, pattern := range patterns {
		matchers[i] = regex(pattern)
	}
	return b.validation(name, &tlsv3.CertificateValidationContext{
		TrustedCa:                 pem(roots),
		MatchTypedSubjectAltNames: uriSANs(matchers),
	}, origin)
}

func (b *Builder) validation(name string, context *tlsv3.CertificateValidationContext, origin Origin) *Resource {
	return b.Resource(name, &tlsv3.Secret{
		Name: name,
		Type: &tlsv3.Secret_ValidationContext{ValidationContext: context},
	}, origin)
}

// pem is always set, also when empty: Envoy refuses an empty CA, but without one it would verify nothing.
func pem(roots []string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: strings.Join(roots, "\n")}}
}
