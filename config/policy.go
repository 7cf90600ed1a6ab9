package config

import (
	"fmt"
	"net/netip"
	"time"
)

// PeerPolicy is what we let one peer (Name), or every peer (Wildcard), do to us. A field that the policy of a peer does not
// set is that of every peer's.
type PeerPolicy struct {
	Name           string
	AllowAddresses []AddressRule     `json:",omitempty"` // replaces the defaults of AddressPolicy; empty keeps them
	Accept         []string          `json:",omitempty"` // names of services that may be imported; empty is all
	Quotas         Quotas            `json:",omitzero"`
	MaxStale       time.Duration     `json:",omitempty"` // imports older than this are not served; 0 is for ever
	Meta           map[string]string `json:",omitempty"`
}

// AddressRule allows the addresses of a prefix, on the listed ports or, when there are none, on all.
type AddressRule struct {
	Prefix netip.Prefix
	Ports  []uint16 `json:",omitempty"`
}

// Quotas bounds what one peer may send. Zero is the default of each.
type Quotas struct {
	Services         int `json:",omitempty"` // imported services, default 10,000
	Instances        int `json:",omitempty"` // instances of one service, default 1,000
	UpdatesPerSecond int `json:",omitempty"` // sustained, default 1,000
}

func (e *PeerPolicy) finish(d *decoder) {
	if e.Name != Wildcard {
		d.check("Name", CheckPeerName(e.Name))
	}
	d.checkMeta("Meta", e.Meta)
	for i, name := range e.Accept {
		d.check(fmt.Sprintf("Accept[%d]", i), checkImportedName(name))
	}
	d.checkNumber("Quotas.Services", e.Quotas.Services)
	d.checkNumber("Quotas.Instances", e.Quotas.Instances)
	d.checkNumber("Quotas.UpdatesPerSecond", e.Quotas.UpdatesPerSecond)
}
