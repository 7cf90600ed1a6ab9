package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

func (s *server) agentServiceRoutes() []route {
	return []route{
		{method: "GET", pattern: "/v1/agent/services", access: starts, do: agentServices},
		{method: "GET", pattern: "/v1/agent/service/{id}", access: starts, do: s.agentService},
		{method: "PUT", pattern: "/v1/agent/service/register", access: operate, do: s.registerService},
		{method: "PUT", pattern: "/v1/agent/service/deregister/{id}", access: operate, do: s.deregisterService},
		{method: "PUT", pattern: "/v1/agent/service/maintenance/{id}", access: operate, do: s.serviceMaintenance},
		{method: "PUT", pattern: "/v1/agent/maintenance", access: operate, do: s.nodeMaintenance},
		{method: "GET", pattern: "/v1/agent/health/service/id/{id}", access: read, do: healthByID},
		{method: "GET", pattern: "/v1/agent/health/service/name/{name}", access: read, do: healthByName},
	}
}

// agentJSON is a service as the agent's own endpoints show it: without what is empty, and without indexes.
type agentJSON struct {
	serviceJSON
	Proxy                    *agentProxyJSON `json:",omitempty"` // nil: it is no proxy; tools tell a proxy by it
	Connect                  connectJSON     `json:",omitzero"`
	PeerName                 string          `json:",omitempty"`
	CreateIndex, ModifyIndex *absent         `json:",omitempty"`
}

type agentProxyJSON struct {
	proxyJSON
	Mode      *absent             `json:",omitempty"`
	Upstreams []agentUpstreamJSON `json:",omitempty"`
}

type agentUpstreamJSON struct {
	upstreamJSON
	Datacenter *absent `json:",omitempty"`
}

// absent hides a field of the embedded struct. It is always nil.
type absent struct{}

func agentShape(w *snapshot.World, i *snapshot.Instance) agentJSON {
	shape := agentJSON{serviceJSON: serviceShape(i.Service, i.Raft)}
	shape.Datacenter, shape.Connect = w.Cluster().Datacenter, shape.serviceJSON.Connect
	if i.Service.Kind != config.KindTypical || i.Service.Proxy != nil {
		shape.Proxy = &agentProxyJSON{proxyJSON: shape.serviceJSON.Proxy}
		for _, upstream := range shape.serviceJSON.Proxy.Upstreams {
			shape.Proxy.Upstreams = append(shape.Proxy.Upstreams, agentUpstreamJSON{upstreamJSON: upstream})
		}
	}
	return shape
}

// local returns the instance with an ID on our own node, or nil.
func local(w *snapshot.World, id string) *snapshot.Instance {
	return w.InstanceByID(w.Cluster().NodeName, id)
}

func agentServices(c *call) (any, error) {
	f, err := filterParam(c)
	if err != nil {
		return nil, err
	}
	services := map[string]agentJSON{}
	for _, i := range c.world.OnNode(c.world.Cluster().NodeName) {
		if !c.shows(i) {
			continue
		}
		shape := agentShape(c.world, i)
		keep, err := f.keep(shape.serviceJSON)
		if err != nil {
			return nil, err
		}
		if keep {
			services[shape.ID] = shape
		}
	}
	return services, nil
}

// agentService answers with one instance; with ?hash= not before it differs from what the client saw.
func (s *server) agentService(c *call) (any, error) {
	id := c.PathValue("id")
	if i := local(c.world, id); i != nil && !c.shows(i) {
		return nil, refuse(http.StatusForbidden, "denied", "Permission denied: this token is proxy %s's", c.who.Proxy)
	}
	_, wait, err := waitParams(c)
	if err != nil {
		return nil, err
	}
	shape, err := hashed(c.world, id)
	if seen := c.URL.Query().Get("hash"); err == nil && seen != "" && seen == shape.ContentHash {
		shape, err = s.awaitHash(c, id, seen, wait)
	}
	if err != nil {
		return nil, err
	}
	c.w.Header().Set("X-Consul-Contenthash", shape.ContentHash)
	return shape, nil
}

// hashed returns the instance with an ID on our node, and the hash of its shape in it.
func hashed(w *snapshot.World, id string) (agentJSON, error) {
	i := local(w, id)
	if i == nil {
		return agentJSON{}, refuse(http.StatusNotFound, "not-found", "unknown service ID: %s", id).about("service/" + id)
	}
	shape := agentShape(w, i)
	text, err := json.Marshal(shape)
	sum := sha256.Sum256(text)
	shape.ContentHash = hex.EncodeToString(sum[:8])
	return shape, err
}

func (s *server) awaitHash(c *call, id, seen string, wait time.Duration) (agentJSON, error) {
	index := func(w *snapshot.World) uint64 {
		if shape, err := hashed(w, id); err == nil && shape.ContentHash == seen {
			return 0
		}
		return w.Index
	}
	// The World in which it differs is past the one that the request came with.
	world, err := s.await(c, max(1, c.world.Index), wait, index)
	if err != nil {
		return agentJSON{}, err
	}
	return hashed(world, id)
}

func (s *server) registerService(c *call) (any, error) {
	replace, err := flag(c, "replace-existing-checks")
	if err != nil {
		return nil, err
	}
	data, err := body(c)
	if err != nil {
		return nil, err
	}
	service, err := config.ParseRegistration(data)
	if err != nil {
		return nil, err
	}
	return nil, s.retry(c, func(w *snapshot.World) ([]snapshot.Event, error) {
		node := w.Cluster().NodeName
		r := registration{world: w, node: node, address: nodeShape(w, node, "127.0.0.1").Address, replace: replace}
		err := r.service(service)
		return r.events, err
	})
}

// retry commits what plan makes of the newest World, and again when that World was not the newest any more.
func (s *server) retry(c *call, plan func(*snapshot.World) ([]snapshot.Event, error)) error {
	const attempts = 10
	var err error
	for range attempts {
		var events []snapshot.Event
		if events, err = plan(s.Publisher.World()); err != nil {
			return err
		}
		if err = s.commit(c, events...); !errors.Is(err, errStale) {
			return err
		}
	}
	return refuse(http.StatusConflict, "conflict", "%v: others write at the same time", err)
}

func (s *server) deregisterService(c *call) (any, error) {
	id := c.PathValue("id")
	return nil, s.retry(c, func(w *snapshot.World) ([]snapshot.Event, error) {
		i := local(w, id)
		if i == nil {
			return nil, unknownService(id)
		}
		return unregister(w, i), nil
	})
}

func unknownService(id string) error {
	return refuse(http.StatusNotFound, "not-found",
		"Unknown service ID %q. Ensure that the service ID is passed, not the service name.", id).about("service/" + id)
}

func (s *server) serviceMaintenance(c *call) (any, error) {
	id := c.PathValue("id")
	i := local(c.world, id)
	if i == nil {
		return nil, refuse(http.StatusNotFound, "not-found", "No service registered with ID %q", id).about("service/" + id)
	}
	return s.maintenance(c, &snapshot.Check{
		Node: i.Node, ServiceID: id, ServiceName: i.Service.Name, CheckID: "_service_maintenance:" + id, Name: "Service Maintenance Mode",
		Notes: "Maintenance mode is enabled for this service, but no reason was provided. This is a default message.",
	})
}

func (s *server) nodeMaintenance(c *call) (any, error) {
	return s.maintenance(c, &snapshot.Check{
		Node: c.world.Cluster().NodeName, CheckID: "_node_maintenance", Name: "Node Maintenance Mode",
		Notes: "Maintenance mode is enabled for this node, but no reason was provided. This is a default message.",
	})
}

// maintenance adds a critical check or takes it away, as ?enable= says.
func (s *server) maintenance(c *call, check *snapshot.Check) (any, error) {
	if !c.URL.Query().Has("enable") {
		return nil, refuse(http.StatusBadRequest, "parameter", "Missing value for enable")
	}
	enable, err := flag(c, "enable")
	if err != nil {
		return nil, err
	}
	old := findCheck(c.world.Checks(check.Node, check.ServiceID), check.CheckID)
	if enable == (old != nil) {
		return nil, nil
	}
	if !enable {
		return nil, s.commit(c, snapshot.Event{Key: checkKey(check)})
	}
	check.Status, check.Type = config.HealthCritical, "maintenance"
	if reason := c.URL.Query().Get("reason"); reason != "" {
		check.Notes = reason
	}
	return nil, s.commit(c, snapshot.Event{Key: checkKey(check), Object: check, Check: registered(check.Node, check.ServiceID)})
}
