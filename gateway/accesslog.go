package gateway

// connectionLog is written when a connection is established, every logInterval, and when it ends. A gateway sees no
// identity: its line is joined to the sidecars' by server name and by the pair of addresses between the two Envoys.
var connectionLog = map[string]string{
	"event":            "%ACCESS_LOG_TYPE%",
	"time":             "%START_TIME%",
	"connection":       "%CONNECTION_ID%",
	"sni":              "%REQUESTED_SERVER_NAME%",
	"source":           "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
	"chain":            "%FILTER_CHAIN_NAME%",
	"upstream":         "%UPSTREAM_HOST%",
	"upstream_local":   "%UPSTREAM_LOCAL_ADDRESS%",
	"upstream_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
	"received":         "%BYTES_RECEIVED%",
	"sent":             "%BYTES_SENT%",
	"duration_ms":      "%DURATION%",
	"flags":            "%RESPONSE_FLAGS%",
	"termination":      "%CONNECTION_TERMINATION_DETAILS%",
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
