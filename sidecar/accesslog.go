package sidecar

// inboundLog is written when a connection is established, every logInterval, and when it ends; for a client that the
// handshake refused once, with tls_failure saying why.
var inboundLog = map[string]string{
	"event":            "%ACCESS_LOG_TYPE%",
	"time":             "%START_TIME%",
	"connection":       "%CONNECTION_ID%",
	"sni":              "%REQUESTED_SERVER_NAME%",
	"source":           "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
	"destination":      "%DOWNSTREAM_LOCAL_ADDRESS%",
	"chain":            "%FILTER_CHAIN_NAME%",
	"peer_id":          "%DOWNSTREAM_PEER_URI_SAN%",
	"peer_serial":      "%DOWNSTREAM_PEER_SERIAL%",
	"peer_fingerprint": "%DOWNSTREAM_PEER_FINGERPRINT_256%",
	"own_id":           "%DOWNSTREAM_LOCAL_URI_SAN%",
	"tls":              "%DOWNSTREAM_TLS_VERSION%",
	"tls_failure":      "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
	"received":         "%BYTES_RECEIVED%",
	"sent":             "%BYTES_SENT%",
	"duration_ms":      "%DURATION%",
	"flags":            "%RESPONSE_FLAGS%",
	"termination":      "%CONNECTION_TERMINATION_DETAILS%",
}

// outboundLog is inboundLog for what the application dials.
var outboundLog = map[string]string{
	"event":          "%ACCESS_LOG_TYPE%",
	"time":           "%START_TIME%",
	"connection":     "%CONNECTION_ID%",
	"source":         "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
	"cluster":        "%UPSTREAM_CLUSTER%",
	"upstream":       "%UPSTREAM_HOST%",
	"upstream_local": "%UPSTREAM_LOCAL_ADDRESS%",
	"peer_id":        "%UPSTREAM_PEER_URI_SAN%",
	"tls":            "%UPSTREAM_TLS_VERSION%",
	"tls_failure":    "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
	"received":       "%BYTES_RECEIVED%",
	"sent":           "%BYTES_SENT%",
	"duration_ms":    "%DURATION%",
	"flags":          "%RESPONSE_FLAGS%",
	"termination":    "%CONNECTION_TERMINATION_DETAILS%",
}

// refusedLog is written for a connection whose server name no chain has.
var refusedLog = map[string]string{
	"event":       "refused",
	"time":        "%START_TIME%",
	"connection":  "%CONNECTION_ID%",
	"sni":         "%REQUESTED_SERVER_NAME%",
	"source":      "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
	"destination": "%DOWNSTREAM_LOCAL_ADDRESS%",
	"flags":       "%RESPONSE_FLAGS%",
}
