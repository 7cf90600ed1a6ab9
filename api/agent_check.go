package api

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// maxOutput is how much of a check's output is kept, in bytes, as Consul keeps it.
const maxOutput = 4 << 10

func (s *server) agentCheckRoutes() []route {
	set := func(status string) func(*call) (any, error) {
		return func(c *call) (any, error) { return s.updateCheck(c, status, c.URL.Query().Get("note")) }
	}
	return []route{
		{method: "GET", pattern: "/v1/agent/checks", access: read, do: agentChecks},
		{method: "PUT", pattern: "/v1/agent/check/register", access: operate, do: s.registerCheck},
		{method: "PUT", pattern: "/v1/agent/check/deregister/{id}", access: operate, do: s.deregisterCheck},
		{method: "PUT", pattern: "/v1/agent/check/pass/{id}", access: operate, do: set(config.HealthPassing)},
		{method: "PUT", pattern: "/v1/agent/check/warn/{id}", access: operate, do: set(config.HealthWarning)},
		{method: "PUT", pattern: "/v1/agent/check/fail/{id}", access: operate, do: set(config.HealthCritical)},
		{method: "PUT", pattern: "/v1/agent/check/update/{id}", access: operate, do: s.putCheck},
	}
}

func agentChecks(c *call) (any, error) {
	f, err := filterParam(c)
	if err != nil {
		return nil, err
	}
	checks := map[string]checkJSON{}
	for _, shape := range checkShapes(c.world, c.world.ChecksOn(c.world.Cluster().NodeName)) {
		keep, err := f.keep(shape)
		if err != nil {
			return nil, err
		}
		if keep {
			checks[shape.CheckID] = shape
		}
	}
	return checks, nil
}

func (s *server) registerCheck(c *call) (any, error) {
	data, err := body(c)
	if err != nil {
		return nil, err
	}
	definition, serviceID, err := config.ParseCheck(data)
	if err != nil {
		return nil, err
	}
	r := registration{world: c.world, node: c.world.Cluster().NodeName}
	serviceName := ""
	if serviceID != "" {
		i := local(c.world, serviceID)
		if i == nil {
			return nil, refuse(http.StatusNotFound, "not-found", "ServiceID %q does not exist", serviceID).about("service/" + serviceID)
		}
		serviceName = i.Service.Name
	}
	r.check(serviceID, serviceName, definition)
	r.events[0].Check = registered(r.node, serviceID)
	return nil, s.commit(c, r.events...)
}

func (s *server) deregisterCheck(c *call) (any, error) {
	id := c.PathValue("id")
	check := localCheck(c.world, id)
	if check == nil {
		return nil, unknownCheck(id)
	}
	return nil, s.commit(c, snapshot.Event{Key: checkKey(check)})
}

// putCheck is the form of an update whose output is too large for a URL.
func (s *server) putCheck(c *call) (any, error) {
	data, err := body(c)
	if err != nil {
		return nil, err
	}
	var update struct{ Status, Output string }
	if err := json.Unmarshal(data, &update); err != nil {
		return nil, refuse(http.StatusBadRequest, "invalid", "Request decode failed: %v", err)
	}
	if !slices.Contains([]string{config.HealthPassing, config.HealthWarning, config.HealthCritical}, update.Status) {
		return nil, refuse(http.StatusBadRequest, "invalid", "Invalid check status: '%s'", update.Status)
	}
	return s.updateCheck(c, update.Status, update.Output)
}

// updateCheck sets the state of a TTL check. The health checker is told even of an update that changes nothing.
func (s *server) updateCheck(c *call, status, output string) (any, error) {
	id := c.PathValue("id")
	check := localCheck(c.world, id)
	if check == nil {
		return nil, unknownCheck(id)
	}
	if check.Definition.TTL == 0 {
		return nil, refuse(http.StatusBadRequest, "not-ttl", "CheckID %q does not have associated TTL", id).about("check/" + id)
	}
	if len(output) > maxOutput {
		output = output[:maxOutput]
	}
	if check.Status != status || check.Output != output {
		changed := *check
		changed.Status, changed.Output = status, output
		// Deregistered in between, it must not come back.
		present := func(w *snapshot.World) error {
			if findCheck(w.Checks(check.Node, check.ServiceID), id) == nil {
				return unknownCheck(id)
			}
			return nil
		}
		if err := s.commit(c, snapshot.Event{Key: checkKey(check), Object: &changed, Check: present}); err != nil {
			return nil, err
		}
	}
	if s.Runtime.Heartbeat != nil {
		s.Runtime.Heartbeat(check.Node, check.ServiceID, check.CheckID)
	}
	return nil, nil
}

// localCheck finds a check of our own node, or of a service on it, by its ID.
func localCheck(w *snapshot.World, id string) *snapshot.Check {
	return findCheck(w.ChecksOn(w.Cluster().NodeName), id)
}

func unknownCheck(id string) error {
	return refuse(http.StatusNotFound, "not-found",
		"Unknown check ID %q. Ensure that the check ID is passed, not the check name.", id).about("check/" + id)
}
