package peering

import (
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// A dialect is one of the two ways in which servers speak on the stream. Everything in which they differ is here.
type dialect struct {
	name string // as snapshot.Peer keeps it
	// inventory: exporters send the complete list of names, and a name that is missing in it is gone.
	inventory bool
	// deletes: a name that is gone is a DELETE; otherwise it is an UPSERT of an empty set.
	deletes bool
	// nonces: a Response without a nonce is refused.
	nonces bool
	// rotates: the peer's server certificate follows its trust bundle; otherwise it stays what the token said.
	rotates bool
	// everyName: the mesh form is sent for every exported name, also for one without a sidecar.
	everyName bool
	// dialer and acceptor are the types that each end subscribes to, in this order.
	dialer, acceptor []string
}

// The dialects of servers from 1.14 on, and of 1.13.
var (
	dialect114 = dialect{
		name: "1.14", inventory: true, nonces: true, rotates: true,
		dialer:   []string{wire.TypeService, wire.TypeServiceList, wire.TypeTrustBundle, wire.TypeAddresses},
		acceptor: []string{wire.TypeService, wire.TypeServiceList, wire.TypeTrustBundle},
	}
	dialect113 = dialect{
		name: "1.13", deletes: true, everyName: true,
		dialer:   []string{wire.TypeService, wire.TypeTrustBundle, wire.TypeAddresses},
		acceptor: []string{wire.TypeService, wire.TypeTrustBundle},
	}
)

// dialectNamed returns the dialect that a peer's row remembers, and the newer one when it remembers none.
func dialectNamed(name string) dialect {
	if name == dialect113.name {
		return dialect113
	}
	return dialect114
}

// subscriptions returns the types that we subscribe to.
func (d dialect) subscriptions(role snapshot.PeerRole) []string {
	if role == snapshot.Dialer {
		return d.dialer
	}
	return d.acceptor
}

// known tells whether a peer may subscribe to a type.
func (d dialect) known(url string) bool {
	for _, known := range dialect113.dialer {
		if url == known {
			return true
		}
	}
	return d.inventory && url == wire.TypeServiceList
}
