package api

import (
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
	return nil
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
