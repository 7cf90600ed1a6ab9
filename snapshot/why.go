package snapshot

import "fmt"

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
	Check   string  `json:"check"` // what was looked at: sidecar, upstream, peer, import, export, endpoints, gateway, proxy, intention, chain
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
// peer's service it tells our half of the way; the peer decides on the rest. live may be nil.
func Why(w *World, live *Live, src, dst, peer string) Explanation {
	x := newExplainer(w, live)
	x.Source, x.Destination, x.DestinationPeer = src, dst, peer
	x.callers()
	spec := x.upstream()
	if peer == "" {
		x.endpoints(setKey{service: dst})
		x.sidecars()
		x.intention()
		x.chain()
		return x.done()
	}
	x.imported(spec)
	x.add("intention", Unknown, fmt.Sprintf("peer %s decides whether %s may call %s: want an intention there whose source is %s of the peer that stands for us",
		peer, src, dst, src), "")
	return x.done()
}

// WhyFrom explains a call of src, a service of a peer, to dst, a service of ours that is exported to that peer. live may
// be nil.
func WhyFrom(w *World, live *Live, peer, src, dst string) Explanation {
	x := newExplainer(w, live)
	x.Source, x.SourcePeer, x.Destination = src, peer, dst
	x.peer(peer)
	x.export()
	x.gateway()
	x.endpoints(setKey{service: dst})
	x.sidecars()
	x.intention()
	x.chain()
	return x.done()
}

type explainer struct {
	Explanation
	r    *reader
	v    *Views
	live *Live
}

func newExplainer(w *World, live *Live) *explainer {
	return &explainer{r: plain(w), v: NewViews(), live: live}
}

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
