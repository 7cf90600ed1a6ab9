package xds

import (
	"iter"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/logkey"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// inbound is what a stream knows of who may come in at its proxy. The epochs are the proxy's: it reports them when it
// connects, and nobody else keeps them.
type inbound struct {
	judged   bool                  // the secrets that the proxy reported were compared
	adopted  bool                  // the epochs that the proxy reported are in epochs
	reported map[string]string     // versions of secrets, by the proxy's first request for them
	chains   map[chainKey]struct{} // what it has, by its first request for listeners
	epochs   map[chainKey]uint64
	acked    map[string]*composition // by listener: what the proxy has; missing: unknown
	refused  map[string]string       // by listener: the version that it rejected last
	authz    map[string]*envoy.Authz // by secret: whom the proxy admits; missing: unknown
	revoking map[string]*revocation  // by secret
}

// A revocation is an authorization secret that admits fewer than the proxy does. First the proxy gets the secret, so that
// nobody new comes in; then every chain that asks it gets its next epoch, which ends the connections that were let in before.
// A proxy that does not acknowledge the secret in time loses the chain.
type revocation struct {
	since   time.Time
	applied bool // the secret was acknowledged
	failed  bool // it was rejected, or not acknowledged in time
}

func newInbound() inbound {
	return inbound{
		epochs:   map[chainKey]uint64{},
		acked:    map[string]*composition{},
		refused:  map[string]string{},
		authz:    map[string]*envoy.Authz{},
		revoking: map[string]*revocation{},
	}
}

// secretChanged takes a secret that is not the one of the last set.
func (st *stream) secretChanged(was, is *envoy.Resource) {
	st.subs[secrets].mark(anyName(was, is), false)
	switch {
	case is == nil:
		if was.Authz != nil {
			st.markAuthorized(was.Name)
		}
	case is.Authz != nil:
		if st.inbound.judged {
			st.judge(is)
		}
		if was == nil {
			st.markAuthorized(is.Name)
		}
	}
}

// judge compares whom the proxy admits with whom it shall admit from now on. What the proxy has without our knowing whom it
// admits may admit more.
func (st *stream) judge(is *envoy.Resource) {
	version, has := st.subs[secrets].have[is.Name]
	switch {
	case !has: // it admits nobody: a chain without its secret refuses all
	case version == is.Version:
		st.inbound.authz[is.Name] = is.Authz
		st.callOff(is.Name)
	case st.inbound.authz[is.Name] == nil || st.inbound.authz[is.Name].Shrank(is.Authz):
		st.revoke(is.Name)
	}
}

// judgeReported judges the secrets that a proxy reports when it connects, once there is something to compare them with.
func (st *stream) judgeReported() {
	sds := &st.subs[secrets]
	if st.inbound.judged || !sds.open {
		return
	}
	st.inbound.judged = true
	for name := range sds.have {
		if r := find(st.set.Secrets, name); r != nil && r.Authz != nil {
			st.judge(r)
		}
	}
}

func (st *stream) revoke(secret string) *revocation {
	r := st.inbound.revoking[secret]
	if r == nil {
		r = &revocation{since: st.clock.now}
		st.inbound.revoking[secret] = r
		st.memory.owe(secret)
		st.server.metrics.revocations.WithLabelValues("started").Inc()
	}
	return r
}

// callOff ends a revocation that was taken back before the proxy was told.
func (st *stream) callOff(secret string) {
	if r := st.inbound.revoking[secret]; r != nil && !r.applied {
		delete(st.inbound.revoking, secret)
		st.markAuthorized(secret)
		st.settleDebts()
	}
}

// secretAcked notes whom the proxy admits now.
func (st *stream) secretAcked(it item) {
	if it.resource == nil || it.resource.Authz == nil {
		return
	}
	st.inbound.authz[it.name] = it.resource.Authz
	is := find(st.set.Secrets, it.name)
	if is == nil {
		return
	}
	if is.Version != it.version && it.resource.Authz.Shrank(is.Authz) {
		st.revoke(it.name) // it shrank again meanwhile
		return
	}
	if r := st.inbound.revoking[it.name]; r != nil {
		r.applied = true
	}
	st.markAuthorized(it.name) // a chain may have waited for it
}

// secretRejected notes that nobody can tell whom the proxy admits: Envoy applies the good ones of what it rejects.
func (st *stream) secretRejected(it item) {
	if it.resource == nil || it.resource.Authz == nil {
		return
	}
	delete(st.inbound.authz, it.name)
	if r := st.inbound.revoking[it.name]; r != nil {
		st.leaveOut(it.name, r)
	}
}

// settleRevocations moves each revocation on: to the chains once the secret is applied, or to leaving them out.
func (st *stream) settleRevocations() {
	for _, name := range sorted(st.inbound.revoking) {
		r := st.inbound.revoking[name]
		end := r.since.Add(patience)
		switch {
		case find(st.set.Secrets, name) == nil: // its chains are shut, and what came in ends with them
			if st.endedAll(name) {
				delete(st.inbound.revoking, name)
			}
		case r.applied && st.twinsApplied(name):
			delete(st.inbound.revoking, name)
			st.nextEpoch(name)
		case r.failed:
		case !st.clock.now.Before(end):
			st.leaveOut(name, r)
		default:
			st.clock.at(end)
		}
	}
}

// nextEpoch ends what came in by the chains that ask a secret.
func (st *stream) nextEpoch(secret string) {
	st.server.metrics.revocations.WithLabelValues("applied").Inc()
	for key := range st.authorized(secret) {
		st.inbound.epochs[key]++
	}
	st.markAuthorized(secret)
	st.gates.urgent = true
}

// leaveOut fails closed.
func (st *stream) leaveOut(secret string, r *revocation) {
	if r.failed {
		return
	}
	r.failed = true
	st.server.metrics.revocations.WithLabelValues("left_out").Inc()
	st.log.WithField(logkey.Name, secret).Error("revocation not acknowledged, its chains are left out")
	st.markAuthorized(secret)
	st.gates.urgent = true
}

// shut tells whether a chain must not be served for the sake of the secret that it asks. acked is what the proxy has of its
// listener.
func (st *stream) shut(listener string, chain *envoy.Chain, acked *composition) bool {
	sds, secret := &st.subs[secrets], find(st.set.Secrets, chain.AuthzName)
	if r := st.inbound.revoking[chain.AuthzName]; secret == nil || r != nil && r.failed {
		return true
	}
	version, has := sds.have[chain.AuthzName]
	if !has && st.blocked(sds, part{name: secret.Name, hash: secret.Version}, nil) {
		return true // it would keep the listener waiting for what is never sent
	}
	_, served := acked.find(chain.Name)
	if _, reported := st.inbound.chains[chainKey{listener, chain.Name}]; served || reported {
		return false
	}
	// A chain that is new would ask what the proxy keeps of an earlier one, which may admit anybody.
	return sds.interested(secret.Name) && version != secret.Version
}

// letGo notes that the proxy dropped a secret: whom it admitted by it, it does not admit any more.
func (st *stream) letGo(secret string) {
	delete(st.inbound.authz, secret)
	if r := st.inbound.revoking[secret]; r != nil {
		r.applied = true
	}
	if st.set != nil {
		st.markAuthorized(secret)
	}
}

// authorized yields the chains that ask a secret.
func (st *stream) authorized(secret string) iter.Seq2[chainKey, *envoy.Chain] {
	return func(yield func(chainKey, *envoy.Chain) bool) {
		for _, l := range st.set.Listeners {
			for _, chain := range l.Chains {
				if chain.AuthzName == secret && !yield(chainKey{l.Name, chain.Name}, chain) {
					return
				}
			}
		}
	}
}

func (st *stream) markAuthorized(secret string) {
	for key := range st.authorized(secret) {
		st.subs[listeners].mark(key.listener, false)
	}
}

// twinsApplied tells whether the second fence of every chain that asks a secret is as it should be.
func (st *stream) twinsApplied(secret string) bool {
	ecds := &st.subs[extensions]
	for _, chain := range st.authorized(secret) {
		for _, name := range chain.ExtensionNames {
			r := find(st.set.Extensions, name)
			if r != nil && ecds.interested(name) && ecds.have[name] != r.Version {
				return false
			}
		}
	}
	return true
}

// adoptEpochs takes over the epochs that the proxy reports. It waits for a proxy that has been here before to report its
// secrets as well: they tell whom it admits. It tells whether listeners may be compared.
func (st *stream) adoptEpochs() bool {
	if st.inbound.adopted {
		return true
	}
	lds, sds := &st.subs[listeners], &st.subs[secrets]
	if end := lds.opened.Add(patience); len(lds.have) > 0 && !sds.open && st.authorizes() && st.clock.now.Before(end) {
		st.clock.at(end)
		return false
	}
	st.inbound.adopted = true
	st.inbound.chains = map[chainKey]struct{}{}
	for name, version := range lds.have {
		for chain, epoch := range parseEpochs(version) {
			key := chainKey{name, chain}
			st.inbound.chains[key] = struct{}{}
			st.inbound.epochs[key] += epoch
		}
	}
	st.revokeUnproven()
	return true
}

// authorizes tells whether some chain asks a secret.
func (st *stream) authorizes() bool {
	return slices.ContainsFunc(st.set.Listeners, func(l *envoy.Listener) bool {
		return slices.ContainsFunc(l.Chains, func(c *envoy.Chain) bool { return c.AuthzName != "" })
	})
}

// revokeUnproven revokes what the last stream did not bring to an end, and what no report proves: a chain that admits
// somebody by a secret that the proxy did not report.
func (st *stream) revokeUnproven() {
	for _, l := range st.set.Listeners {
		for _, chain := range l.Chains {
			secret := find(st.set.Secrets, chain.AuthzName)
			if chain.AuthzName == "" || secret == nil {
				continue
			}
			_, proven := st.inbound.reported[chain.AuthzName]
			if _, served := st.inbound.chains[chainKey{l.Name, chain.Name}]; !served || proven && !st.memory.owes(chain.AuthzName) {
				continue
			}
			r := st.revoke(chain.AuthzName)
			r.applied = r.applied || st.subs[secrets].have[chain.AuthzName] == secret.Version
		}
	}
	st.inbound.reported = nil
	st.settleRevocations()
}

// settleDebts notes which revocations the proxy has carried out, so that its next stream need not repeat them.
func (st *stream) settleDebts() {
	for _, secret := range st.memory.debts() {
		if st.endedAll(secret) {
			st.memory.pay(secret)
		}
	}
}

// endedAll tells whether the proxy has acknowledged the end of everything that came in by a secret before its revocation:
// each chain that asks it is gone, or in its present epoch.
func (st *stream) endedAll(secret string) bool {
	revoking := st.inbound.revoking[secret] != nil
	for name := range st.subs[listeners].have {
		c, known := st.inbound.acked[name]
		if !known {
			return false
		}
		for _, cc := range c.chains {
			key := chainKey{name, cc.chain.Name}
			if cc.chain.AuthzName == secret && (revoking || cc.epoch != st.inbound.epochs[key]) {
				return false
			}
		}
	}
	return true
}
