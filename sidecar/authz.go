package sidecar

import (
	"regexp"
	"strings"

	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/sni"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// onlyNamespace is the only one there is.
const onlyNamespace = "default"

// authz is what snapshot.Authz becomes: the secret that decides in the handshake, and the rules that decide behind it.
type authz struct {
	secret, rules *envoy.Resource
	err           error
}

func addAuthz(set *envoy.Set, view *snapshot.Sidecar) error {
	for _, a := range view.Authz {
		made := a.Do(func() any { return admission(a) }).(authz)
		if made.err != nil {
			return made.err
		}
		set.Secrets = append(set.Secrets, made.secret)
		set.Extensions = append(set.Extensions, made.rules)
	}
	return nil
}

// admission says twice who may come in: to TLS, which sees the certificates' SANs one by one, and to RBAC, which sees them
// joined. Both use the same generated expressions rather than exact names. The datacenter is a segment of a SPIFFE ID that
// whoever owns the CA writes as they like, Consul does not check it, and so an exact ID would admit less than was meant
// and prove nothing more.
func admission(a *snapshot.Authz) authz {
	var b envoy.Builder
	secret := b.Admission(a.Name, a.Roots, patterns(a), envoy.Origin(a.Origin))
	secret.Authz = &envoy.Authz{AllExcept: a.Allowed.AllExcept, Names: a.Allowed.Names, Roots: a.Roots}
	rules := b.RBAC(envoy.RBACName(a.Service, a.Peer), envoy.InStat(a.Peer, a.Service), joined(a), envoy.Origin(a.Origin))
	return authz{secret, rules, b.Err()}
}

// patterns returns one anchored expression for each allowed source, or one for all but the denied. It is never empty: an
// empty list would admit every certificate of the roots.
func patterns(a *snapshot.Authz) []string {
	switch {
	case a.Allowed.Empty():
		return []string{envoy.NoMatch}
	case a.Allowed.AllExcept:
		return []string{identity(a, sni.ComplementPattern(a.Allowed.Names))}
	}
	list := make([]string, len(a.Allowed.Names))
	for i, name := range a.Allowed.Names {
		list[i] = identity(a, regexp.QuoteMeta(name))
	}
	return list
}

// joined returns patterns as one expression. It matches no comma, so that of the joined SANs there must be exactly one.
func joined(a *snapshot.Authz) string {
	if a.Allowed.Empty() || a.Allowed.AllExcept {
		return patterns(a)[0]
	}
	names := make([]string, len(a.Allowed.Names))
	for i, name := range a.Allowed.Names {
		names[i] = regexp.QuoteMeta(name)
	}
	return identity(a, strings.Join(names, "|"))
}

func identity(a *snapshot.Authz, name string) string {
	return sni.ServicePattern(a.TrustDomain, a.Partition, onlyNamespace, name)
}
