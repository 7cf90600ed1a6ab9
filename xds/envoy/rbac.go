package envoy

import (
	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	sslinputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/ssl/v3"
	"google.golang.org/protobuf/proto"
)

// TypeRBAC is the type URL of the network filter in the resource that RBAC returns, for DiscoveredFilter.
const TypeRBAC = typePrefix + "envoy.extensions.filters.network.rbac.v3.RBAC"

// RBAC returns the ECDS resource of a network RBAC filter that allows a connection if pattern, an anchored RE2 expression,
// matches the client's URI SANs, and denies every other.
//
// It uses the matcher API, whose input is all URI SANs joined by commas. The older principals are satisfied by any one
// SAN, a DNS SAN that is spelled like a URI included: whoever owns a CA can add one. A pattern that matches no comma
// therefore also says "exactly one URI SAN".
func (b *Builder) RBAC(name, statPrefix, pattern string, origin Origin) *Resource {
	allow := &matcherv3.Matcher_MatcherList_FieldMatcher{
		Predicate: &matcherv3.Matcher_MatcherList_Predicate{
			MatchType: &matcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{
				SinglePredicate: &matcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
					Input: b.matcherConfig("uri_san", &sslinputsv3.UriSanInput{}),
					Matcher: &matcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{
						ValueMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
							SafeRegex: &matcherv3.RegexMatcher{
								EngineType: &matcherv3.RegexMatcher_GoogleRe2{GoogleRe2: &matcherv3.RegexMatcher_GoogleRE2{}},
								Regex:      pattern,
							},
						}},
					},
				},
			},
		},
		OnMatch: b.rbacAction("allowed", rbacconfigv3.RBAC_ALLOW),
	}
	filter := &rbacv3.RBAC{
		StatPrefix: statPrefix,
		Matcher: &matcherv3.Matcher{
			MatcherType: &matcherv3.Matcher_MatcherList_{MatcherList: &matcherv3.Matcher_MatcherList{
				Matchers: []*matcherv3.Matcher_MatcherList_FieldMatcher{allow},
			}},
			OnNoMatch: b.rbacAction("not allowed", rbacconfigv3.RBAC_DENY),
		},
	}
	return b.Resource(name, &corev3.TypedExtensionConfig{Name: name, TypedConfig: b.pack(name, filter)}, origin)
}

func (b *Builder) rbacAction(name string, action rbacconfigv3.RBAC_Action) *matcherv3.Matcher_OnMatch {
	return &matcherv3.Matcher_OnMatch{OnMatch: &matcherv3.Matcher_OnMatch_Action{
		Action: b.matcherConfig("action", &rbacconfigv3.Action{Name: name, Action: action}),
	}}
}

// matcherConfig is an extension in the cncf/xds spelling, which matchers use.
func (b *Builder) matcherConfig(name string, config proto.Message) *xdscorev3.TypedExtensionConfig {
	return &xdscorev3.TypedExtensionConfig{Name: name, TypedConfig: b.pack(name, config)}
}
