package snapshot

import (
	"cmp"
	"slices"

	"github.com/isthmus-mesh/isthmus/config"
)

// Policy returns what we let a peer do: field by field what its own policy says, else what that of every peer says, else
// nothing, which is the default. Its Name is that of the policy whose Accept holds, and it has no Meta.
func Policy(w *World, peer string) config.PeerPolicy { return policyOf(plain(w), peer) }

func policyOf(r *reader, peer string) config.PeerPolicy {
	var holds config.PeerPolicy
	for _, name := range []string{peer, config.Wildcard} {
		policy, ok := entryOf[*config.PeerPolicy](r, name)
		if !ok {
			continue
		}
		if len(holds.Accept) == 0 && len(policy.Accept) > 0 {
			holds.Accept, holds.Name = policy.Accept, policy.Name
		}
		if len(holds.AllowAddresses) == 0 {
			holds.AllowAddresses = policy.AllowAddresses
		}
		holds.MaxStale = cmp.Or(holds.MaxStale, policy.MaxStale)
		holds.Quotas = config.Quotas{
			Services:         cmp.Or(holds.Quotas.Services, policy.Quotas.Services),
			Instances:        cmp.Or(holds.Quotas.Instances, policy.Quotas.Instances),
			UpdatesPerSecond: cmp.Or(holds.Quotas.UpdatesPerSecond, policy.Quotas.UpdatesPerSecond),
		}
	}
	return holds
}

// addressPolicy returns what of a peer's addresses may be dialled. Own is the caller's to append to.
func addressPolicy(r *reader, peer string) config.AddressPolicy {
	var policy config.AddressPolicy
	if cluster := r.cluster(); cluster != nil {
		policy = cluster.Addresses
	}
	policy.Allow = policyOf(r, peer).AllowAddresses
	policy.Own = slices.Clone(policy.Own)
	return policy
}
