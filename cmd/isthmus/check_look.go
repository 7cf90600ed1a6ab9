package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

const (
	// leafWarning is how long before the first proxy stops `check` says so. Leaves live 72 hours and are renewed before
	// two thirds of that, so one with less than a day left is one whose renewal does not work.
	leafWarning = 24 * time.Hour
	// rootWarning is how long before a root ends it is worth knowing.
	rootWarning = 90 * 24 * time.Hour
	// freshHeartbeat is how old an ACTIVE peer's last heartbeat may be.
	freshHeartbeat = 2 * time.Minute
)

// look judges facts. It asks nobody.
func look(seen facts) findings {
	var found findings
	found.is("server is ready", seen.notReady, "isthmus check --wait 30s")
	if seen.notReady != "" {
		return found
	}
	found.server(seen.status)
	found.itself(seen.status.Checks)
	found.certificates(seen)
	for _, p := range seen.status.Peers {
		found.peer(p, seen.now)
	}
	found.gateways(seen)
	found.services(seen.status)
	for _, p := range seen.proxies {
		found.proxy(p)
	}
	return found
}

func (f *findings) server(s api.Status) {
	if s.HTTPOpen {
		f.warn("writes need a token", "whoever is on this machine may write", "start isthmus serve without --http-open")
	} else {
		f.is("writes need a token", "", "")
	}
	if s.DefaultPolicy != string(config.Deny) {
		f.warn("calls need an intention", "the default policy is "+s.DefaultPolicy, "start isthmus serve with --default-intention-policy deny")
	} else {
		f.is("calls need an intention", "", "")
	}
}

// itself takes over what the server looked at of itself.
func (f *findings) itself(checks []api.SelfCheck) {
	for _, c := range checks {
		if c.Warning != "" && c.Problem == "" {
			f.warn(c.Check, c.Warning, c.Fix)
			continue
		}
		f.is(c.Check, c.Problem, c.Fix)
	}
}

func (f *findings) certificates(seen facts) {
	for _, root := range seen.roots.Roots {
		check := "root " + root.Name + " is valid"
		switch {
		case !seen.now.Before(root.NotAfter):
			f.is(check, "it ended at "+moment(root.NotAfter), "isthmus ca roots")
		case root.NotAfter.Sub(seen.now) < rootWarning:
			f.warn(check, "it ends at "+moment(root.NotAfter), "isthmus ca roots")
		default:
			f.is(check, "", "")
		}
	}
	const check = "certificates are renewed"
	if at := seen.status.Proxies.LeafNotAfter; at != nil && at.Sub(seen.now) < leafWarning {
		f.is(check, fmt.Sprintf("that of %s ends at %s", seen.status.Proxies.LeafOf, moment(*at)), "isthmus proxies")
		return
	}
	f.is(check, "", "")
}

func (f *findings) peer(p api.PeerStatus, now time.Time) {
	check := "peer " + p.Name + " is ACTIVE"
	fix := "isthmus peering read --name " + p.Name
	switch {
	case p.State == snapshot.Pending:
		f.warn(check, cmp.Or(peerReason(p), "nobody has used its token yet"), "in the other cluster: isthmus peering establish")
	case p.State != snapshot.Active:
		f.is(check, string(p.State)+": "+orDash(peerReason(p)), fix)
	case p.Problem != "":
		f.is(check, p.Problem, fix)
	case p.Stale:
		f.warn(check, peerReason(p), fix)
	case p.LastHeartbeat != nil && now.Sub(*p.LastHeartbeat) > freshHeartbeat:
		f.warn(check, "its last heartbeat came at "+moment(*p.LastHeartbeat), fix)
	default:
		f.is(check, "", "")
	}
}

// gateways looks for a gateway where an export needs one. Whether each is connected is looked at with the proxies.
func (f *findings) gateways(seen facts) {
	if len(seen.status.Exports) == 0 {
		return
	}
	problem := "none is registered: peers have no way in"
	for _, p := range seen.proxies {
		if p.Kind == config.KindMeshGateway {
			problem = ""
		}
	}
	f.is("exports have a mesh gateway", problem, "isthmus envoy-bootstrap --gateway=mesh --register --address IP:PORT --")
}

func (f *findings) services(s api.Status) {
	for _, e := range s.Exports {
		f.judge(fmt.Sprintf("%s is exported to %s", e.Service, e.Peer), e.Exported, e.Reason, "isthmus config read --kind exported-services --name default")
	}
	for _, i := range s.Imports {
		reason, routable := i.Reason, i.Routable
		if routable && i.Gateways == 0 {
			reason, routable = "the peer has named no gateway", false
		}
		f.judge(fmt.Sprintf("%s of peer %s is routable", i.Service, i.Peer), routable, reason, "")
	}
}

func (f *findings) judge(check string, ok bool, reason, fix string) {
	if ok {
		reason = ""
	} else if reason == "" {
		reason = "the server does not say why"
	}
	f.is(check, reason, fix)
}

// proxy judges one proxy. What it is not told, and what it warns of, stops nobody else: it is worth knowing.
func (f *findings) proxy(p api.Proxy) {
	check := fmt.Sprintf("proxy %s follows", p.ID)
	switch {
	case !p.Connected:
		f.is(check, "it is not connected", "isthmus envoy-bootstrap --proxy-id "+string(p.ID)+" --")
	case len(p.Rejected) > 0:
		f.is(check, "it refused "+p.Rejected[0].Name+": "+p.Rejected[0].Error, "isthmus proxies")
	case !p.Synced:
		f.is(check, "it has not acknowledged all that it was sent", "isthmus proxies")
	default:
		f.is(check, "", "")
	}
	for _, warning := range p.Warnings {
		f.warn(check, warning, "")
	}
	for _, skipped := range p.Skipped {
		if !skipped.Expected {
			f.warn(check, fmt.Sprintf("without %s/%s: %s", skipped.Kind, skipped.Name, skipped.Reason), "")
		}
	}
}
