package bootstrap

import (
	"strings"

	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// ourName matches the part of a stat's name that our control plane chose: <what>~<peer or service>~…, at the start or
// after Envoy's word for the kind of thing. Its parts hold neither a dot nor a tilde.
const ourName = `^(?:(?:tcp|cluster|connection_limit)\.)?`

// statsConfig puts peer, service, namespace and direction into labels, and leaves out what no dashboard of ours shows.
//
// The tags' first group is empty. It is what Envoy cuts out of the name: Envoy's own tags for prefixes cut the whole
// token already, so that the metric is envoy_tcp_downstream_cx_total for all of them.
func statsConfig() *metricsv3.StatsConfig {
	return &metricsv3.StatsConfig{
		UseAllDefaultTags: wrapperspb.Bool(true),
		StatsTags: []*metricsv3.TagSpecifier{
			tag("isthmus.dir", ourName+`()(in|out|exp|imp|svc)~`),
			tag("isthmus.peer", ourName+`(?:in|out|exp|imp)~()([^.~]+)`),
			tag("isthmus.service", ourName+`(?:(?:in|out|exp)~[^.~]+|svc)~()([^.~]+)`),
			tag("isthmus.namespace", ourName+`(?:(?:in|out|exp)~[^.~]+|svc)~[^.~]+~()([^.~]+)`),
			// Envoy has no tag of its own that cuts a secret's name, so this one does.
			tag("isthmus.secret", `^sds\.(([^.]+)\.)`),
		},
		StatsMatcher: &metricsv3.StatsMatcher{StatsMatcher: &metricsv3.StatsMatcher_InclusionList{
			InclusionList: &matcherv3.ListStringMatcher{Patterns: inclusion()},
		}},
	}
}

func tag(name, regex string) *metricsv3.TagSpecifier {
	return &metricsv3.TagSpecifier{TagName: name, TagValue: &metricsv3.TagSpecifier_Regex{Regex: regex}}
}

// inclusion names the statistics that are kept. A cluster has some 150 of which these are a quarter.
func inclusion() []*matcherv3.StringMatcher {
	var patterns []*matcherv3.StringMatcher
	for _, prefix := range []string{
		"cluster_manager.", "connection_limit.", "control_plane.", "dns.", "listener.", "listener_manager.",
		"overload.", "runtime.", "sds.", "server.", "tcp.", "tls_inspector.",
	} {
		patterns = append(patterns, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}})
	}
	cluster := []string{
		`upstream_cx_(total|active|connect_fail|connect_timeout|connect_ms|none_healthy|overflow|rx_bytes_total|tx_bytes_total)`,
		`membership_(total|healthy|degraded|excluded)`,
		`outlier_detection\.ejections_(active|enforced_total|overflow)`,
		`health_check\.(attempt|success|failure|network_failure|healthy)`,
		`ssl\.(handshake|connection_error|fail_verify_.*|versions\..*)`,
		`update_(attempt|success|failure|rejected|empty)`,
		`circuit_breakers\.default\.cx_open`,
		`lb_healthy_panic`,
		`warming_state`,
	}
	for _, regex := range []string{
		`^cluster\.[^.]+\.(` + strings.Join(cluster, "|") + `)$`,
		`^in~[^.]+\.rbac\..*`,
	} {
		patterns = append(patterns, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
			SafeRegex: &matcherv3.RegexMatcher{Regex: regex},
		}})
	}
	return patterns
}
