package api

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// Sidecars without a port of their own get one from this range, both ends included, as Consul gives them.
const (
	firstSidecarPort = 21000
	lastSidecarPort  = 21255
)

// registration collects the events that put services, their sidecars and checks on one node.
type registration struct {
	world         *snapshot.World
	node, address string
	// replace drops the checks that the registration does not name.
	replace bool
	events  []snapshot.Event
}

// service registers one instance, the sidecar that it asks for, and the checks of both.
func (r *registration) service(service *config.Service) error {
	r.instance(service)
	r.checks(service, service.Checks)
	if service.Sidecar == nil {
		return nil
	}
	sidecar := *service.Sidecar
	check, err := r.sidecarPort(&sidecar)
	if err != nil {
		return err
	}
	r.instance(&sidecar)
	last := &r.events[len(r.events)-1]
	last.Check = both(last.Check, check)
	checks := sidecar.Checks
	if len(checks) == 0 {
		checks = []config.CheckDefinition{{
			Name: "Connect Sidecar Aliasing " + service.ID, AliasService: service.ID, Status: worstInitial(service.Checks),
		}}
	}
	r.checks(&sidecar, checks)
	return nil
}

// instance registers one instance in place of the one with its ID on the node, whatever that one's name was.
func (r *registration) instance(service *config.Service) {
	old := r.world.InstanceByID(r.node, service.ID)
	if old != nil && old.Service.Name != service.Name {
		r.events = append(r.events, snapshot.Event{Key: instanceKey(old)})
	}
	stored := *service
	stored.Sidecar = nil // it is registered beside the service
	instance := &snapshot.Instance{Node: r.node, NodeAddress: r.address, Service: &stored}
	// No other name may have taken the ID since.
	check := func(w *snapshot.World) error {
		if now := w.InstanceByID(r.node, service.ID); now != nil && (old == nil || now.Service.Name != old.Service.Name) && now.Service.Name != service.Name {
			return errStale
		}
		return nil
	}
	r.events = append(r.events, snapshot.Event{Key: instanceKey(instance), Object: instance, Check: check})
}

// sidecarPort gives a sidecar without a port the one it has, or the first that is free, and returns the check that it
// still is when the registration is written.
func (r *registration) sidecarPort(sidecar *config.Service) (func(*snapshot.World) error, error) {
	if sidecar.Port != 0 {
		return nil, nil
	}
	used := map[int]bool{}
	for _, other := range r.world.OnNode(r.node) {
		if other.Service.ID == sidecar.ID && other.Service.Port >= firstSidecarPort && other.Service.Port <= lastSidecarPort {
			sidecar.Port = other.Service.Port
			return nil, nil
		}
		used[other.Service.Port] = true
	}
	for port := firstSidecarPort; port <= lastSidecarPort; port++ {
		if !used[port] {
			sidecar.Port = port
			return portFree(r.node, sidecar.ID, port), nil
		}
	}
	return nil, refuse(http.StatusBadRequest, "ports", "service %s: none of the sidecar ports %d to %d is free: give it one",
		sidecar.ID, firstSidecarPort, lastSidecarPort)
}

func portFree(node, id string, port int) func(*snapshot.World) error {
	return func(w *snapshot.World) error {
		for _, other := range w.OnNode(node) {
			if other.Service.Port == port && other.Service.ID != id {
				return fmt.Errorf("sidecar port %d: %w", port, errStale)
			}
		}
		return nil
	}
}

// checks registers the checks of a service. One that is there already keeps its state.
func (r *registration) checks(service *config.Service, definitions []config.CheckDefinition) {
	named := map[string]bool{}
	for i, definition := range definitions {
		if definition.CheckID == "" {
			definition.CheckID = "service:" + service.ID
			if len(definitions) > 1 {
				definition.CheckID += fmt.Sprintf(":%d", i+1)
			}
		}
		if definition.Name == "" {
			definition.Name = fmt.Sprintf("Service '%s' check", service.Name)
		}
		named[definition.CheckID] = true
		r.check(service.ID, service.Name, definition)
	}
	if !r.replace {
		return
	}
	for _, old := range r.world.Checks(r.node, service.ID) {
		if !named[old.CheckID] {
			r.events = append(r.events, snapshot.Event{Key: checkKey(old)})
		}
	}
}

// check registers one check, of a service or with an empty ID of the node. Its ID is unique on the node: one that moves
// to another service leaves the former one.
func (r *registration) check(serviceID, serviceName string, definition config.CheckDefinition) {
	check := &snapshot.Check{
		Node: r.node, ServiceID: serviceID, ServiceName: serviceName, CheckID: definition.CheckID, Name: definition.Name,
		Notes: definition.Notes, Type: checkType(definition), Status: initialStatus(definition), Definition: definition,
	}
	switch old := findCheck(r.world.ChecksOn(r.node), check.CheckID); {
	case old == nil:
	case old.ServiceID != serviceID:
		r.events = append(r.events, snapshot.Event{Key: checkKey(old)})
	default:
		check.Status, check.Output = old.Status, old.Output
	}
	r.events = append(r.events, snapshot.Event{Key: checkKey(check), Object: check})
}

// unregister returns the events that take an instance away: with its checks, and the sidecar that came with it. They
// are written only while there are no others.
func unregister(w *snapshot.World, i *snapshot.Instance) []snapshot.Event {
	checks := modified(snapshot.TableChecks, i.Node, i.Service.ID)
	same := func(now *snapshot.World) error {
		if checks(now) != checks(w) {
			return errStale
		}
		return nil
	}
	events := []snapshot.Event{{Key: instanceKey(i), Check: same}}
	for _, check := range w.Checks(i.Node, i.Service.ID) {
		events = append(events, snapshot.Event{Key: checkKey(check)})
	}
	if sidecar := w.InstanceByID(i.Node, i.Service.ID+meshSuffix); sidecar != nil && sidecar.Service.Kind == config.KindSidecar &&
		sidecar.Service.Proxy != nil && sidecar.Service.Proxy.DestinationServiceID == i.Service.ID {
		events = append(events, unregister(w, sidecar)...)
	}
	return events
}

func instanceKey(i *snapshot.Instance) snapshot.Key {
	return snapshot.NewKey(snapshot.TableInstances, i.Service.Name, i.Node, i.Service.ID)
}

// registered refuses a write about a service that has gone meanwhile. An empty ID is the node itself.
func registered(node, serviceID string) func(*snapshot.World) error {
	return func(w *snapshot.World) error {
		if serviceID != "" && w.InstanceByID(node, serviceID) == nil {
			return unknownService(serviceID)
		}
		return nil
	}
}

func checkKey(c *snapshot.Check) snapshot.Key {
	return snapshot.NewKey(snapshot.TableChecks, c.Node, c.ServiceID, c.CheckID)
}

func findCheck(checks []*snapshot.Check, id string) *snapshot.Check {
	if i := slices.IndexFunc(checks, func(c *snapshot.Check) bool { return c.CheckID == id }); i >= 0 {
		return checks[i]
	}
	return nil
}

// checkType is what Consul calls the kind of a check.
func checkType(d config.CheckDefinition) string {
	switch {
	case d.TTL > 0:
		return "ttl"
	case d.HTTP != "":
		return "http"
	case d.TCP != "":
		return "tcp"
	case d.AliasService != "":
		return "alias"
	}
	return ""
}

func initialStatus(d config.CheckDefinition) string {
	if d.Status == "" {
		return config.HealthCritical
	}
	return d.Status
}

// worstInitial is the state that an alias of these checks starts with.
func worstInitial(checks []config.CheckDefinition) string {
	worst := config.HealthPassing
	for _, check := range checks {
		worst = worse(worst, initialStatus(check))
	}
	return worst
}

// worse returns the worse of two states.
func worse(a, b string) string {
	order := []string{config.HealthPassing, config.HealthWarning, config.HealthCritical, config.HealthMaintenance}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}
