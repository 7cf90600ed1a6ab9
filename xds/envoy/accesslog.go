package envoy

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// FlagNoRoute is the response flag of a connection that no filter chain wanted. There is no chain to log it, so only a
// listener's own log can show it.
const FlagNoRoute = "NR"

// JSONLog returns an access log that writes one JSON object per line to Envoy's standard output. format maps each key to a
// command operator (https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage). With flags,
// only connections that have one of them are written.
//
// It is the stream logger and not a file logger on /dev/stdout: under systemd stdout is a socket, which cannot be opened
// by that path, and Envoy would refuse the listener.
func (b *Builder) JSONLog(format map[string]string, flags ...string) *accesslogv3.AccessLog {
	fields := make(map[string]*structpb.Value, len(format))
	for key, operator := range format {
		fields[key] = structpb.NewStringValue(operator)
	}
	log := &accesslogv3.AccessLog{
		Name: "envoy.access_loggers.stdout",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: b.pack("access log", &streamv3.StdoutAccessLog{
			AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
				Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: &structpb.Struct{Fields: fields}},
				// An unknown value is left out instead of being written as null.
				OmitEmptyValues: true,
			}},
		})},
	}
	if len(flags) > 0 {
		log.Filter = &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
			ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: flags},
		}}
	}
	return log
}
