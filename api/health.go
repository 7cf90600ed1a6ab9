package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

func (s *server) healthRoutes() []route {
	return []route{
		{method: "GET", pattern: "/v1/health/service/{name}", access: read, read: func(c *call) (query, error) { return healthService(c, false) }},
		{method: "GET", pattern: "/v1/health/connect/{name}", access: read, read: func(c *call) (query, error) { return healthService(c, true) }},
		{method: "GET", pattern: "/v1/health/checks/{name}", access: read, read: healthChecks},
		{method: "GET", pattern: "/v1/health/node/{name}", access: read, read: healthNode},
		{method: "GET", pattern: "/v1/health/state/{state}", access: read, read: healthState},
	}
}

// healthService answers with the instances of a service, or with its proxies for mesh.
func healthService(c *call, mesh bool) (query, error) {
	passing, err := flag(c, "passing")
	if err != nil {
		return query{}, err
	}
	f, err := filterParam(c)
	if err != nil {
		return query{}, err
	}
	tags, meta := c.URL.Query()["tag"], c.URL.Query()["node-meta"]
	index, shapes := instancesQuery(c, mesh)
	return query{index: index, answer: func(w *snapshot.World) (any, error) {
		kept := slices.DeleteFunc(shapes(w), func(i instanceJSON) bool {
			return passing && !isPassing(i.Checks) || !hasTags(i.Service.Tags, tags) || !hasMeta(i.Node.Meta, meta)
		})
		return filtered(f, kept)
	}}, nil
}

// instancesQuery is the question for one service's instances or proxies, here or at the peer that the request names.
func instancesQuery(c *call, mesh bool) (index func(*snapshot.World) uint64, shapes func(*snapshot.World) []instanceJSON) {
	name := c.PathValue("name")
	if peer := peerParam(c); peer != "" {
		return importedQuery(peer, name, mesh)
	}
	find := func(w *snapshot.World) []*snapshot.Instance { return w.Instances(name) }
	index = modified(snapshot.TableInstances, name)
	if mesh {
		find = func(w *snapshot.World) []*snapshot.Instance { return w.Proxies(name) }
		index = func(w *snapshot.World) uint64 { return w.ProxiesModified(name) }
	}
	set := index
	index = func(w *snapshot.World) uint64 { return newest(set(w), healthIndex(w, find(w))) }
	return index, func(w *snapshot.World) []instanceJSON {
		var all []instanceJSON
		for _, i := range find(w) {
			all = append(all, instanceShape(w, i))
		}
		return all
	}
}

// healthIndex is when the health or a node of these instances last changed.
func healthIndex(w *snapshot.World, instances []*snapshot.Instance) uint64 {
	var index uint64
	for _, i := range instances {
		index = newest(index, w.Modified(snapshot.TableNodes, i.Node), w.Modified(snapshot.TableChecks, i.Node, ""),
			w.Modified(snapshot.TableChecks, i.Node, i.Service.ID))
	}
	return index
}

func healthChecks(c *call) (query, error) {
	f, err := filterParam(c)
	if err != nil {
		return query{}, err
	}
	name, meta := c.PathValue("name"), c.URL.Query()["node-meta"]
	if peer := peerParam(c); peer != "" {
		index, shapes := importedQuery(peer, name, false)
		return query{index: index, answer: func(w *snapshot.World) (any, error) {
			return filtered(f, checksOf(shapes(w), meta, anyCheck))
		}}, nil
	}
	return query{
		index: func(w *snapshot.World) uint64 {
			index := w.Modified(snapshot.TableInstances, name)
			for _, i := range w.Instances(name) {
				index = newest(index, w.Modified(snapshot.TableChecks, i.Node, i.Service.ID))
			}
			return index
		},
		answer: func(w *snapshot.World) (any, error) {
			var checks []checkJSON
			for _, i := range w.Instances(name) {
				if !hasMeta(nodeShape(w, i.Node, "").Meta, meta) {
					continue
				}
				for _, check := range w.Checks(i.Node, i.Service.ID) {
					checks = append(checks, checkShape(check, i.Service.Tags))
				}
			}
			return filtered(f, checks)
		},
	}, nil
}

func healthNode(c *call) (query, error) {
	f, err := filterParam(c)
	if err != nil {
		return query{}, err
	}
	node := c.PathValue("name")
	if peer := peerParam(c); peer != "" {
		return importedChecks(peer, f, nil, func(check checkJSON) bool { return check.Node == node }), nil
	}
	return query{index: modified(snapshot.TableChecks, node), answer: func(w *snapshot.World) (any, error) {
		return filtered(f, checkShapes(w, w.ChecksOn(node)))
	}}, nil
}

func healthState(c *call) (query, error) {
	state := c.PathValue("state")
	known := []string{"any", config.HealthPassing, config.HealthWarning, config.HealthCritical}
	if !slices.Contains(known, state) {
		return query{}, refuse(http.StatusBadRequest, "parameter", "check state %q: want one of %s", state, strings.Join(known, ", "))
	}
	f, err := filterParam(c)
	if err != nil {
		return query{}, err
	}
	meta := c.URL.Query()["node-meta"]
	keep := func(check checkJSON) bool { return state == "any" || check.Status == state }
	if peer := peerParam(c); peer != "" {
		return importedChecks(peer, f, meta, keep), nil
	}
	return query{index: modified(snapshot.TableChecks), answer: func(w *snapshot.World) (any, error) {
		checks := slices.DeleteFunc(checkShapes(w, w.ChecksOn("")), func(check checkJSON) bool {
			return !keep(check) || len(meta) > 0 && !hasMeta(nodeShape(w, check.Node, "").Meta, meta)
		})
		return filtered(f, checks)
	}}, nil
}

// checkShapes returns checks with the tags of the services that they are for.
func checkShapes(w *snapshot.World, checks []*snapshot.Check) []checkJSON {
	shapes := make([]checkJSON, 0, len(checks))
	for _, check := range checks {
		var tags []string
		if i := w.InstanceByID(check.Node, check.ServiceID); check.ServiceID != "" && i != nil {
			tags = i.Service.Tags
		}
		shapes = append(shapes, checkShape(check, tags))
	}
	return shapes
}

// peerParam reads ?peer=; peers have lower-case names.
func peerParam(c *call) string { return strings.ToLower(c.URL.Query().Get("peer")) }

func isPassing(checks []checkJSON) bool {
	return !slices.ContainsFunc(checks, func(check checkJSON) bool { return check.Status != config.HealthPassing })
}

// hasTags tells whether each wanted tag is there, in any case.
func hasTags(tags, wanted []string) bool {
	for _, want := range wanted {
		if want != "" && !slices.ContainsFunc(tags, func(tag string) bool { return strings.EqualFold(tag, want) }) {
			return false
		}
	}
	return true
}

// hasMeta tells whether each wanted key:value is there.
func hasMeta(meta map[string]string, wanted []string) bool {
	for _, want := range wanted {
		key, value, _ := strings.Cut(want, ":")
		if found, ok := meta[key]; !ok || found != value {
			return false
		}
	}
	return true
}

// union returns the strings that are in a or b, sorted; never nil, since Consul answers [] for none.
func union(a, b []string) []string {
	all := append(append([]string{}, a...), b...)
	slices.Sort(all)
	return slices.Compact(all)
}
