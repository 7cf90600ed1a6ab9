// Package wire holds the messages that two peers exchange, generated from the .proto files beside it, and the only way
// to send one: Message values, of which those that carry a resource are made of Resource values, whose constructors
// refuse what a partner could not take. It never stores or decides anything.
package wire

//go:generate ./generate.sh

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
