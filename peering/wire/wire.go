// Package wire holds the messages that two peers exchange, generated from the .proto files beside it, and the only way
// to make one that carries a resource: Resource values, whose constructors refuse what a partner could not take. It
// never sends, stores or decides anything.
package wire

// The well-known types that the .proto files import come with protoc.
//go:generate protoc -I ../.. --go_out=../.. --go_opt=paths=source_relative --go-grpc_out=../.. --go-grpc_opt=paths=source_relative peering/wire/common.proto peering/wire/peering.proto peering/wire/peerstream.proto peering/wire/service.proto peering/wire/status.proto

// The type URLs of the resources that peers subscribe to.
const (
	TypeService     = "type.googleapis.com/hashicorp.consul.internal.peerstream.ExportedService"
	TypeServiceList = "type.googleapis.com/hashicorp.consul.internal.peerstream.ExportedServiceList"
	TypeTrustBundle = "type.googleapis.com/hashicorp.consul.internal.peering.PeeringTrustBundle"
	TypeAddresses   = "type.googleapis.com/hashicorp.consul.internal.peering.PeeringServerAddresses"
)

// The resource IDs of the types of which there is one.
const (
	ServiceListID = "exported-service-list"
	TrustBundleID = "roots"
	AddressesID   = "server-addrs"
)

// ProxySuffix ends the name of a service's mesh form.
const ProxySuffix = "-sidecar-proxy"

// MaxResource is the largest resource that peers exchange, in bytes.
const MaxResource = 4 << 20

// The codes of Request.Error, from google.rpc.Code.
const (
	CodeInvalidArgument   = 3
	CodeResourceExhausted = 8
	CodeInternal          = 13
)
