package bootstrap

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// metricsListener answers GET /metrics and GET /ready from the admin interface, and 404 to all else: a scraper must not
// be able to read the configuration, which holds the token, or to stop Envoy.
func metricsListener(at Endpoint) *listenerv3.Listener {
	manager := &hcmv3.HttpConnectionManager{
		StatPrefix:                "metrics",
		RouteSpecifier:            &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: metricsRoutes()},
		HttpFilters:               []*hcmv3.HttpFilter{{Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: mustAny(&routerv3.Router{})}}},
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: seconds(300)},
		RequestHeadersTimeout:     seconds(10),
		StreamIdleTimeout:         seconds(60),
		UseRemoteAddress:          wrapperspb.Bool(true),
		NormalizePath:             wrapperspb.Bool(true),
	}
	return &listenerv3.Listener{
		Name:                          "ISTHMUS/METRICS",
		StatPrefix:                    "metrics",
		Address:                       at.address(),
		IgnoreGlobalConnLimit:         true,
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(64 << 10),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: mustAny(manager)},
		}}}},
	}
}

func metricsRoutes() *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{Name: "metrics", VirtualHosts: []*routev3.VirtualHost{{
		Name:    "metrics",
		Domains: []string{"*"},
		Routes:  []*routev3.Route{adminRoute("/metrics", "/stats/prometheus"), adminRoute("/ready", "/ready")},
	}}}
}

// adminRoute sends GETs of one exact path to one path of the admin interface. The query is dropped: the admin interface
// filters by it with regular expressions of the caller's choice.
func adminRoute(path, adminPath string) *routev3.Route {
	get := &routev3.HeaderMatcher{Name: ":method", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
		StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "GET"}},
	}}
	return &routev3.Route{
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: path}, Headers: []*routev3.HeaderMatcher{get}},
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: adminClusterName},
			Timeout:          seconds(30),
			RegexRewrite: &matcherv3.RegexMatchAndSubstitute{
				Pattern:      &matcherv3.RegexMatcher{Regex: "^.*$"},
				Substitution: adminPath,
			},
		}},
	}
}
