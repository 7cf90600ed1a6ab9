package api

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

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
