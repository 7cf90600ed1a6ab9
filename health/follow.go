package health

import (
	"time"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// follow takes up a World: the checks that came, changed and went.
func (r *runner) follow(u snapshot.Update) {
	r.world = u.World
	now := time.Now()
	node := ""
	if cluster := u.World.Cluster(); cluster != nil {
		node = cluster.NodeName
	}
	if u.All || node != r.node {
		r.node = node
		r.followAll(now)
		return
	}
	for _, key := range u.Changed {
		parts := key.Parts()
		switch {
		case key.Table == snapshot.TableChecks && parts[0] == node:
			r.refresh(key, now)
			r.lookAtAliases(parts[1], now)
		case key.Table == snapshot.TableInstances && parts[1] == node:
			r.lookAtAliases(parts[2], now)
		}
	}
}

func (r *runner) followAll(now time.Time) {
	keys := map[snapshot.Key]bool{}
	for key := range r.checks {
		keys[key] = true
	}
	if r.node != "" {
		for _, c := range r.world.ChecksOn(r.node) {
			keys[snapshot.NewKey(snapshot.TableChecks, c.Node, c.ServiceID, c.CheckID)] = true
		}
	}
	for key := range keys {
		r.refresh(key, now)
	}
	for service := range r.aliases {
		r.lookAtAliases(service, now)
	}
}

// refresh makes what is known of one check what the World says.
func (r *runner) refresh(key snapshot.Key, now time.Time) {
	parts := key.Parts()
	var check *snapshot.Check
	if parts[0] == r.node {
		check = find(r.world, parts[0], parts[1], parts[2])
	}
	w := r.checks[key]
	switch {
	case check == nil:
		r.forget(w)
		return
	case w == nil || !w.sameJob(check):
		r.forget(w)
		if w = newWatched(key, check, now); w == nil {
			return
		}
		r.checks[key] = w
		if service := check.Definition.AliasService; service != "" {
			if r.aliases[service] == nil {
				r.aliases[service] = map[snapshot.Key]bool{}
			}
			r.aliases[service][key] = true
		}
	case check != w.check:
		w.see(check, now)
		if class(check.Output) != class(w.expired().output) {
			w.reported(now)
		}
	}
	r.plan(w)
}

func (r *runner) forget(w *watched) {
	if w == nil {
		return
	}
	delete(r.checks, w.key)
	r.agenda.set(w.key, time.Time{})
	service := w.check.Definition.AliasService
	if delete(r.aliases[service], w.key); len(r.aliases[service]) == 0 {
		delete(r.aliases, service)
	}
}

// lookAtAliases has the checks that stand for a service's look at them again.
func (r *runner) lookAtAliases(service string, now time.Time) {
	for key := range r.aliases[service] {
		w := r.checks[key]
		w.due = now
		r.plan(w)
	}
}

// heard takes up the reports of owners of TTL checks, those that changed nothing included.
func (r *runner) heard() {
	now := time.Now()
	for key := range r.takeBeats() {
		if w := r.checks[key]; w != nil {
			w.reported(now)
			r.plan(w)
		}
	}
}
