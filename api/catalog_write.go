package api

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// registerJSON is the body of PUT /v1/catalog/register: a node, and with it a service and checks.
type registerJSON struct {
	Datacenter, ID, Node, Address string
	TaggedAddresses, NodeMeta     map[string]string
	Service                       map[string]any
	Check                         *catalogCheckJSON
	Checks                        []catalogCheckJSON
	SkipNodeUpdate                bool
	PeerName                      string
	Namespace, Partition          string
}

// catalogCheckJSON is a check whose state somebody else decides.
type catalogCheckJSON struct {
	Node, CheckID, Name, Status, Notes, Output string
	ServiceID, ServiceName, Type               string
	Definition                                 map[string]any
	PeerName, Namespace, Partition             string
	// As a reader got them: they follow from the service, and from what is stored.
	ServiceTags              []string
	Interval, Timeout        string
	ExposedPort              int
	CreateIndex, ModifyIndex uint64
}

func (s *server) catalogRegister(c *call) (any, error) {
	var request registerJSON
	if err := decode(c, &request); err != nil {
		return nil, err
	}
	if err := checkRegister(c, &request); err != nil {
		return nil, err
	}
	if request.Check != nil {
		request.Checks = append(request.Checks, *request.Check)
	}
	var service *config.Service
	if request.Service != nil {
		var err error
		if service, err = catalogServiceOf(request.Service); err != nil {
			return nil, err
		}
	}
	return true, s.retry(c, func(w *snapshot.World) ([]snapshot.Event, error) {
		r := registration{world: w, node: request.Node, address: request.Address}
		r.catalogNode(&request)
		if service != nil {
			r.instance(service)
		}
		for _, check := range request.Checks {
			if err := r.catalogCheck(check); err != nil {
				return nil, err
			}
		}
		return r.events, nil
	})
}

// checkRegister refuses what is not for this catalog: another datacenter's, a peer's, without a node.
func checkRegister(c *call, request *registerJSON) error {
	for _, check := range append(slices.Clone(request.Checks), deref(request.Check)) {
		if check.PeerName != "" {
			request.PeerName = check.PeerName
		}
	}
	if name, ok := request.Service["PeerName"].(string); ok && name != "" {
		request.PeerName = name
	}
	switch {
	case request.PeerName != "":
		return refuse(http.StatusBadRequest, "imported", "cannot register requests with PeerName in them").
			hint("what peer " + request.PeerName + " exports is read-only here")
	case request.Node == "" || request.Address == "":
		return refuse(http.StatusBadRequest, "invalid", "Must provide node and address")
	}
	if err := checkText("Node", request.Node, ` /\`); err != nil {
		return err
	}
	return sameScope(c, request.Datacenter, request.Namespace, request.Partition)
}

// checkText refuses what cannot stand in a key, and the bytes of besides.
func checkText(what, text, besides string) error {
	const most = 255
	bad := func(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune(besides, r) }
	if len(text) > most || strings.ContainsFunc(text, bad) {
		return refuse(http.StatusBadRequest, "invalid", "%s %.80q: want at most %d printable ASCII characters and none of %q", what, text, most, besides)
	}
	return nil
}

// sameScope refuses what is only written in bodies: another datacenter, namespace or partition.
func sameScope(c *call, datacenter, namespace, partition string) error {
	if datacenter != "" && !strings.EqualFold(datacenter, c.world.Cluster().Datacenter) {
		return refuse(http.StatusBadRequest, "datacenter", "No path to datacenter: Datacenter %q: there is only %q here", datacenter, c.world.Cluster().Datacenter)
	}
	for _, value := range []string{namespace, partition} {
		if value != "" && value != config.DefaultNamespace {
			return refuse(http.StatusBadRequest, "namespace", "namespace or partition %q: not supported: want %q or nothing", value, config.DefaultNamespace)
		}
	}
	return scope(c)
}

// catalogNode registers the node, unless it is there and is not to be changed.
func (r *registration) catalogNode(request *registerJSON) {
	if request.SkipNodeUpdate && r.world.Node(request.Node) != nil {
		return
	}
	node := &snapshot.Node{
		ID: request.ID, Name: request.Node, Address: request.Address, Datacenter: r.world.Cluster().Datacenter,
		TaggedAddresses: request.TaggedAddresses, Meta: request.NodeMeta,
	}
	if old := r.world.Node(node.Name); old != nil && node.ID == "" {
		node.ID = old.ID
	}
	r.events = append(r.events, snapshot.Event{Key: snapshot.NewKey(snapshot.TableNodes, node.Name), Object: node})
}

// catalogServiceOf reads a service in the catalog's spelling, which calls the name Service where the agent's has Name.
func catalogServiceOf(fields map[string]any) (*config.Service, error) {
	agent := map[string]any{}
	for name, value := range fields {
		switch strings.ToLower(name) {
		case "service":
			if _, twice := agent["Name"]; twice {
				return nil, refuse(http.StatusBadRequest, "invalid", "Service.%s: is written twice", name)
			}
			agent["Name"] = value
		case "name", "check", "checks", "token":
			return nil, refuse(http.StatusBadRequest, "invalid", "Service.%s: is no field of the catalog's: the name is Service, and checks are beside it", name)
		case "createindex", "modifyindex", "datacenter":
		default:
			agent[name] = value
		}
	}
	text, err := json.Marshal(agent)
	if err != nil {
		return nil, err
	}
	service, err := config.ParseRegistration(text)
	if err == nil && service.Sidecar != nil {
		err = refuse(http.StatusBadRequest, "invalid", "Service.Connect.SidecarService: is the agent's to register").
			hint("use PUT /v1/agent/service/register, or register the sidecar as a service of kind connect-proxy")
	}
	return service, err
}

// catalogCheck registers one check with the state that the request says.
func (r *registration) catalogCheck(c catalogCheckJSON) error {
	if c.Node != "" && !strings.EqualFold(c.Node, r.node) {
		return refuse(http.StatusBadRequest, "invalid", "Node '%s' for check '%s' doesn't match register request node '%s'", c.Node, c.CheckID, r.node)
	}
	if field := firstSet(c.Definition); field != "" {
		return refuse(http.StatusBadRequest, "invalid", "check '%s': Definition.%s: nobody here runs checks of the catalog", c.CheckID, field).
			hint("register the check with PUT /v1/agent/check/register, or report its Status here")
	}
	if c.CheckID == "" {
		c.CheckID = c.Name
	}
	if c.CheckID == "" {
		return refuse(http.StatusBadRequest, "invalid", "check of node %s: want a CheckID or a Name", r.node)
	}
	if err := checkText("CheckID", c.CheckID, ""); err != nil {
		return err
	}
	if c.Status == "" {
		c.Status = config.HealthCritical
	}
	if !slices.Contains([]string{config.HealthPassing, config.HealthWarning, config.HealthCritical}, c.Status) {
		return refuse(http.StatusBadRequest, "invalid", "Invalid check status: '%s'", c.Status)
	}
	name := ""
	if c.ServiceID != "" {
		if name = r.serviceName(c.ServiceID); name == "" {
			return refuse(http.StatusBadRequest, "invalid", "Unknown service ID '%s' for check ID '%s'", c.ServiceID, c.CheckID)
		}
	}
	check := &snapshot.Check{
		Node: r.node, ServiceID: c.ServiceID, ServiceName: name, CheckID: c.CheckID, Name: c.Name, Notes: c.Notes, Type: c.Type,
		Status: c.Status, Output: c.Output,
	}
	r.events = append(r.events, snapshot.Event{Key: checkKey(check), Object: check})
	return nil
}

// firstSet returns the first field that says something: clients send every one.
func firstSet(fields map[string]any) string {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		switch value := fields[name].(type) {
		case nil:
		case []any:
			if len(value) > 0 {
				return name
			}
		case map[string]any:
			if len(value) > 0 {
				return name
			}
		default:
			if value != "" && value != "0s" && value != false && value != 0.0 {
				return name
			}
		}
	}
	return ""
}

// serviceName finds the name of a service on the node, also of one that this registration adds.
func (r *registration) serviceName(id string) string {
	for _, event := range r.events {
		if i, ok := event.Object.(*snapshot.Instance); ok && i.Service.ID == id {
			return i.Service.Name
		}
	}
	if i := r.world.InstanceByID(r.node, id); i != nil {
		return i.Service.Name
	}
	return ""
}

// catalogDeregister takes away a check, a service, or a node with all that is on it.
func (s *server) catalogDeregister(c *call) (any, error) {
	var request struct{ Datacenter, Node, ServiceID, CheckID, PeerName, Namespace, Partition string }
	if err := decode(c, &request); err != nil {
		return nil, err
	}
	if request.PeerName != "" {
		return nil, refuse(http.StatusBadRequest, "imported", "cannot deregister with PeerName").
			hint("what peer " + request.PeerName + " exports is read-only here")
	}
	if request.Node == "" {
		return nil, refuse(http.StatusBadRequest, "invalid", "Must provide node")
	}
	if err := sameScope(c, request.Datacenter, request.Namespace, request.Partition); err != nil {
		return nil, err
	}
	return true, s.retry(c, func(w *snapshot.World) ([]snapshot.Event, error) {
		switch {
		case request.ServiceID != "":
			if i := w.InstanceByID(request.Node, request.ServiceID); i != nil {
				return unregister(w, i), nil
			}
		case request.CheckID != "":
			if check := findCheck(w.ChecksOn(request.Node), request.CheckID); check != nil {
				return []snapshot.Event{{Key: checkKey(check)}}, nil
			}
		case request.Node == w.Cluster().NodeName:
			return nil, refuse(http.StatusBadRequest, "invalid", "node %s: is this server's own: deregister its services", request.Node)
		default:
			return unregisterNode(w, request.Node), nil
		}
		return nil, nil
	})
}

func unregisterNode(w *snapshot.World, name string) []snapshot.Event {
	var events []snapshot.Event
	for _, i := range w.OnNode(name) {
		events = append(events, snapshot.Event{Key: instanceKey(i)})
	}
	for _, check := range w.ChecksOn(name) {
		events = append(events, snapshot.Event{Key: checkKey(check)})
	}
	if w.Node(name) != nil {
		events = append(events, snapshot.Event{Key: snapshot.NewKey(snapshot.TableNodes, name)})
	}
	return events
}

// decode reads a JSON body into value. A field that it does not know is refused.
func decode(c *call, value any) error {
	data, err := body(c)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value); err != nil {
		return refuse(http.StatusBadRequest, "invalid", "Request decode failed: %v", err)
	}
	return nil
}

// deref returns what p points at, or the zero value.
func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
