package main

import (
	"cmp"
	"fmt"
	"strings"
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
	for _, e := range seen.status.Exports {
		found.export(e, seen.status.Peers)
	}
	found.imports(seen.status.Imports)
	for _, p := range seen.proxies {
		found.proxy(p)
		found.leftOut(p, seen.status)
	}
	return found
}

func (f *findings) server(s api.Status) {
	if s.HTTPOpen {
		f.warn("writes need a token", "whoever is on this machine may write", "start isthmus serve without --http-open")
	} else {
		f.is("writes need a token", "", "")
	}
	const check = "calls need an intention"
	if s.DefaultPolicy != string(config.Deny) {
		f.warn(check, "the default policy is "+s.DefaultPolicy, "start isthmus serve with --default-intention-policy deny")
	}
	if len(s.AllowAll) > 0 {
		f.warn(check, "service-intentions *: everybody of "+strings.Join(s.AllowAll, ", ")+" may call every service",
			"isthmus config read --kind service-intentions --name '*': without the source * that allows")
	}
	if s.DefaultPolicy == string(config.Deny) && len(s.AllowAll) == 0 {
		f.is(check, "", "")
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
	fix := cmp.Or(p.Fix, "isthmus peering read --name "+p.Name)
	switch {
	case p.State == snapshot.Pending:
		f.warn(check, cmp.Or(peerReason(p), "nobody has used its token yet"), fix)
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
	problem := "none is registered"
	for _, p := range seen.proxies {
		switch {
		case p.Kind != config.KindMeshGateway || problem == "":
		case p.NotListening != "":
			problem = fmt.Sprintf("%s has nowhere to listen: %s", p.ID, p.NotListening)
		case !p.Connected:
			problem = fmt.Sprintf("%s is not connected", p.ID)
		default:
			problem = ""
		}
	}
	if problem != "" {
		problem += ": peers have no way in"
	}
	f.is("exports have a mesh gateway", problem, snapshot.GatewayFix)
}

// proxy judges one proxy by what its Envoy does. What it warns of stops nobody else: it is worth knowing.
func (f *findings) proxy(p api.Proxy) {
	check := fmt.Sprintf("proxy %s follows", p.ID)
	switch {
	case p.Kind == config.KindMeshGateway && p.NotListening != "":
		f.is(check, "it has nowhere to listen: "+p.NotListening, snapshot.ListenFix(p.ID))
	case !p.Connected:
		f.is(check, "it is not connected", snapshot.StartFix(p.ID))
	case len(p.Rejected) > 0:
		f.is(check, "it refused "+p.Rejected[0].Name+": "+p.Rejected[0].Error, "mend what Envoy says; isthmus proxies shows whether it has taken it")
	case !p.Synced:
		f.is(check, "it has not acknowledged all that it was sent", "isthmus proxies, in a moment")
	default:
		f.is(check, "", "")
	}
	for _, warning := range p.Warnings {
		f.warn(check, warning, warningFix(p))
	}
}

// warningFix returns what would end what is worth knowing of a proxy.
func warningFix(p api.Proxy) string {
	if p.Kind == "" {
		return fmt.Sprintf("isthmus services register FILE, with %s, or end its Envoy", p.ID)
	}
	return "start its Envoy anew: " + snapshot.StartFix(p.ID)
}
