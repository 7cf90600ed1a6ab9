package snapshot

import (
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
)

// An Explanation says of one call, step by step along its way, what lets it through or stops it. It asks the functions
// that derive the views, so it cannot disagree with what proxies are told.
type Explanation struct {
	Source          string `json:"source"`
	SourcePeer      string `json:"source_peer,omitempty"` // empty: a service of the local cluster
	Destination     string `json:"destination"`
	DestinationPeer string `json:"destination_peer,omitempty"` // empty: a service of the local cluster
	Allowed         bool   `json:"allowed"`                    // no step failed
	Steps           []Step `json:"steps"`
}

// A Step is one thing that a call needs.
type Step struct {
	Check   string  `json:"check"` // what was looked at: sidecar, upstream, peer, import, export, endpoints, gateway, intention, chain
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason"`
	Fix     string  `json:"fix,omitempty"` // the entry or command that would change it, when it failed
}

// A Verdict is the outcome of a step.
type Verdict string

// The verdicts. Unknown is what only the peer can tell; a warning does not stop the call, or not for everybody.
const (
	Passed  Verdict = "pass"
	Failed  Verdict = "fail"
	Warned  Verdict = "warn"
	Unknown Verdict = "unknown"
)

// Why explains a call of src, a service of ours, to dst: a service of a peer, or with an empty peer of our own. Of a
// peer's service it tells our half of the way; the peer decides on the rest.
func Why(w *World, src, dst, peer string) Explanation {
	x := newExplainer(w)
	x.Source, x.Destination, x.DestinationPeer = src, dst, peer
	x.upstream()
	if peer == "" {
		x.intention()
		x.chain()
		return x.done()
	}
	x.add("intention", Unknown, fmt.Sprintf("peer %s decides whether %s may call %s: want an intention there whose source is %s of the peer that stands for us",
		peer, src, dst, src), "")
	return x.done()
}

// WhyFrom explains a call of src, a service of a peer, to dst, a service of ours that is exported to that peer.
func WhyFrom(w *World, peer, src, dst string) Explanation {
	x := newExplainer(w)
	x.Source, x.SourcePeer, x.Destination = src, peer, dst
	x.peer(peer)
	x.export()
	x.gateway()
	x.endpoints(setKey{service: dst}, "register a sidecar for "+dst+", or see why its checks fail")
	x.intention()
	x.chain()
	return x.done()
}

type explainer struct {
	Explanation
	r *reader
	v *Views
}

func newExplainer(w *World) *explainer { return &explainer{r: plain(w), v: NewViews()} }

func (x *explainer) add(check string, verdict Verdict, reason, fix string) {
	if verdict == Passed {
		fix = ""
	}
	x.Steps = append(x.Steps, Step{check, verdict, reason, fix})
}

// judge adds a step that fails for a reason, and passes when there is none.
func (x *explainer) judge(check, reason, passed, fix string) {
	if reason != "" {
		x.add(check, Failed, reason, fix)
		return
	}
	x.add(check, Passed, passed, "")
}

func (x *explainer) done() Explanation {
	x.Allowed = true
	for _, step := range x.Steps {
		x.Allowed = x.Allowed && step.Verdict != Failed
	}
	return x.Explanation
}

func (x *explainer) peer(name string) {
	x.judge("peer", use(x.r, x.v.states, name).Reason, "peer "+name+" is established",
		fmt.Sprintf("isthmus peering generate-token --name %s, or isthmus peering establish --name %s", name, name))
}

// upstream explains the way from the caller's sidecar to where it dials.
func (x *explainer) upstream() {
	target := x.Destination
	if x.DestinationPeer != "" {
		target += " of peer " + x.DestinationPeer
	}
	spec, found := upstreamSpec{peer: x.DestinationPeer, service: x.Destination, bind: Bind{"127.0.0.1", 1}, mode: config.ModeRemote}, false
	sidecars, problem := 0, ""
	for _, instance := range x.r.proxies(x.Source) {
		proxy := instance.Service.Proxy
		if proxy == nil {
			continue
		}
		sidecars++
		for i := range proxy.Upstreams {
			upstream := &proxy.Upstreams[i]
			if upstream.DestinationName != x.Destination || upstream.DestinationPeer != x.DestinationPeer {
				continue
			}
			decided, reason := specOf(x.r, x.Source, proxy, upstream)
			if problem = reason; reason == "" {
				spec, found = decided, true
			}
		}
	}
	if sidecars == 0 {
		x.add("sidecar", Failed, x.Source+" has no sidecar", "register "+x.Source+" with connect { sidecar_service {} }")
	}
	switch {
	case found:
		x.add("upstream", Passed, fmt.Sprintf("%s dials %s at %s", x.Source, target, spec.bind), "")
	case problem != "":
		x.add("upstream", Failed, problem, "")
	default:
		x.add("upstream", Failed, fmt.Sprintf("no sidecar of %s has %s as an upstream", x.Source, target), upstreamFix(x.Destination, x.DestinationPeer))
	}
	if x.DestinationPeer != "" {
		x.imported(spec)
		return
	}
	x.endpoints(setKey{service: x.Destination}, "register a sidecar for "+x.Destination+", or see why its checks fail")
}

func upstreamFix(service, peer string) string {
	fix := `upstreams = [{ destination_name = "` + service + `"`
	if peer != "" {
		fix += `, destination_peer = "` + peer + `"`
	}
	return fix + `, local_bind_port = 9000 }] in the proxy block of the sidecar`
}

// imported explains what we have of a peer's service, and which gateways are dialled for it.
func (x *explainer) imported(spec upstreamSpec) {
	x.peer(spec.peer)
	_, reason := routable(x.r, spec.service, spec.peer)
	x.judge("import", reason, fmt.Sprintf("peer %s exports %s to us", spec.peer, spec.service),
		fmt.Sprintf("on the side of %s: exported-services, with %s for the peer that stands for us", spec.peer, spec.service))
	if spec.mode == config.ModeLocal {
		x.endpoints(setKey{}, "register a mesh gateway with the tagged address egress, or use gateway mode remote")
		reason := strings.Join(reasons(use(x.r, x.v.imports, spec.peer).Skipped), "; ")
		x.judge("gateway", reason, "mode local: our gateways pass it on", "")
	}
	x.endpoints(setKey{peer: spec.peer}, fmt.Sprintf("see the gateways of %s, and AllowAddresses in peer-policy %s", spec.peer, spec.peer))
}

// endpoints explains a set of addresses: some must be healthy.
func (x *explainer) endpoints(key setKey, fix string) {
	set := use(x.r, x.v.sets, key)
	healthy := 0
	for _, e := range set.Endpoints {
		if e.Healthy {
			healthy++
		}
	}
	reason := fmt.Sprintf("%s: %d of %d addresses are healthy", set.Name, healthy, len(set.Endpoints))
	if left := reasons(set.Skipped); len(left) > 0 {
		reason += "; left out: " + strings.Join(left, "; ")
	}
	verdict := Passed
	switch {
	case healthy == 0:
		verdict = Failed
	case len(set.Skipped) > 0:
		verdict = Warned
	}
	x.add("endpoints", verdict, reason, fix)
}

func reasons(skipped []Skipped) []string {
	var list []string
	for _, s := range skipped {
		list = append(list, s.Reason)
	}
	return list
}

func (x *explainer) export() {
	reason := exportReason(x.r, x.Destination, x.SourcePeer)
	fix := fmt.Sprintf(`exported-services default: services = [{ name = %q, consumers = [{ peer = %q }] }]`, x.Destination, x.SourcePeer)
	if strings.HasPrefix(reason, "protocol") {
		fix = fmt.Sprintf(`service-defaults %s: protocol = "tcp"`, x.Destination)
	}
	x.judge("export", reason, fmt.Sprintf("%s is exported to %s", x.Destination, x.SourcePeer), fix)
}

// gateway explains whether a peer finds a door of ours.
func (x *explainer) gateway() {
	reason := ""
	serving := listening(x.r)
	if serving == 0 {
		reason = "no mesh gateway with an address to listen at is registered"
	}
	x.judge("gateway", reason, fmt.Sprintf("mesh gateways registered: %d", serving), "isthmus envoy-bootstrap --gateway=mesh --register")
}

func (x *explainer) intention() {
	decision := Decide(x.r.world, x.Source, x.SourcePeer, x.Destination)
	reason := fmt.Sprintf("no intention is about it, and the default policy is %s", actionOf(decision.Allowed))
	if by := decision.By; by != nil {
		reason = fmt.Sprintf("service-intentions %s: source %s of %s: %s (precedence %d)",
			decision.Entry, by.Name, scopeName(by.Peer), by.Action, decision.Precedence)
	}
	fix := fmt.Sprintf("isthmus intention create -allow %s %s", x.Source, x.Destination)
	if x.SourcePeer != "" {
		fix = fmt.Sprintf(`service-intentions %s: sources = [{ name = %q, peer = %q, action = "allow" }]`, x.Destination, x.Source, x.SourcePeer)
	}
	verdict := Passed
	if !decision.Allowed {
		verdict = Failed
	}
	x.add("intention", verdict, reason, fix)
}

func actionOf(allowed bool) config.Action {
	if allowed {
		return config.Allow
	}
	return config.Deny
}

// chain explains whether the destination's sidecars take calls of this scope at all.
func (x *explainer) chain() {
	scope := use(x.r, x.v.scopes, route{x.SourcePeer, x.Destination})
	passed := ""
	if scope.Chain != nil {
		passed = "sidecars take server name " + scope.Chain.ServerName
	}
	x.judge("chain", strings.Join(reasons(scope.Skipped), "; "), passed, "")
}
