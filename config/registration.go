package config

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseServices reads the service definitions of one file: `service { … }` blocks, `services = [ … ]`, or one service
// alone. All errors of the file are returned together, each an *Error, and then no service.
func ParseServices(file string, data []byte) ([]*Service, error) {
	roots, err := parseFile(file, data)
	if err != nil {
		return nil, err
	}
	if len(roots) == 1 && roots[0].kind == isObject && len(roots[0].fields) == 0 {
		roots = nil
	}
	errs := &errorList{}
	var services []*Service
	seen := map[string]int{}
	for _, root := range serviceNodes(roots) {
		service, r := parseService(file, root)
		if line, twice := seen[service.ID]; twice && service.ID != "" {
			r.errorf("ID", "%s is in this file twice, also on line %d", quote(service.ID), line)
		}
		seen[service.ID] = r.line
		services = append(services, service)
		errs.add(r)
	}
	if err := errs.join(); err != nil {
		return nil, err
	}
	if len(services) == 0 {
		return nil, &Error{File: file, Msg: "holds no service"}
	}
	return services, nil
}

// ParseRegistration reads the body of PUT /v1/agent/service/register.
func ParseRegistration(data []byte) (*Service, error) {
	services, err := ParseServices("", data)
	if err != nil {
		return nil, err
	}
	if len(services) != 1 {
		return nil, &Error{Kind: "service", Msg: fmt.Sprintf("have %d of them: want one", len(services))}
	}
	return services[0], nil
}

// serviceNodes returns the objects of a file that are one service each.
func serviceNodes(roots []*node) []*node {
	var found []*node
	for _, root := range roots {
		if root.kind == isList {
			found = append(found, root.items...)
			continue
		}
		wrapped := len(root.fields) > 0
		var inner []*node
		for _, m := range root.fields {
			// "Service" with text is how some of Consul's answers call a service's name.
			if !spells(m.key, "Service") && !spells(m.key, "Services") || m.value.kind == isScalar {
				wrapped = false
				break
			}
			if m.value.kind == isList {
				inner = append(inner, m.value.items...)
			} else {
				inner = append(inner, m.value)
			}
		}
		if !wrapped {
			inner = []*node{root}
		}
		found = append(found, inner...)
	}
	return found
}

// parseService reads one service. It is of use only when the report is empty.
func parseService(file string, root *node) (*Service, *report) {
	r := newReport(file, root)
	r.kind = "service"
	root = root.unwrap()
	if root.kind != isObject {
		r.errorf("", "want an object, have %s", root.kind)
		return &Service{}, r
	}
	r.name, _ = root.text("Name")
	if kind, line := root.text("Kind"); isEntryKind(kind) {
		r.lines["Kind"] = line
		r.errorf("Kind", "is %q: this is a config entry, which `config write` takes; want a service", kind)
		return &Service{}, r
	}
	d := newDecoder(r)
	values := d.object(root, serviceFields, "")
	connect, _ := values["Connect"].(map[string]any)
	service := d.service(values, "")
	native, _ := connect["Native"].(bool)
	service.ConnectNative = native
	if inner, ok := connect["SidecarService"].(map[string]any); ok {
		d.sidecar(service, inner)
	}
	service.Kept = d.takeKept("")
	return service, r
}

// service makes a service of the values at a path.
func (d *decoder) service(values map[string]any, at string) *Service {
	d.moveChecks(values, at)
	delete(values, "Connect")
	service := &Service{}
	d.fill(values, service)
	service.finish(d, at)
	return service
}

// moveChecks appends what is in Check to what is in Checks, and with it what is kept of it.
func (d *decoder) moveChecks(values map[string]any, at string) {
	more, _ := values["Check"].([]any)
	if len(more) == 1 && isEmptyObject(more[0]) {
		more = nil // Consul's CLI writes "Check": {} into every sidecar
	}
	checks, _ := values["Checks"].([]any)
	from, to := join(at, "Check")+"[", join(at, "Checks")+"["
	for i := range more {
		d.lines[fmt.Sprintf("%s%d]", to, len(checks)+i)] = d.lines[fmt.Sprintf("%s%d]", from, i)]
	}
	for path, value := range d.kept {
		if rest, ok := strings.CutPrefix(path, from); ok {
			index, rest, _ := strings.Cut(rest, "]")
			i, _ := strconv.Atoi(index) // listed by the decoder
			d.kept[fmt.Sprintf("%s%d]%s", to, len(checks)+i, rest)] = value
			delete(d.kept, path)
		}
	}
	delete(values, "Check")
	if checks = append(checks, more...); len(checks) > 0 {
		values["Checks"] = checks
	}
}

func isEmptyObject(value any) bool {
	fields, ok := value.(map[string]any)
	return ok && len(fields) == 0
}

// sidecarSuffix makes the name and ID of a sidecar out of those of its service. Whoever removes a service finds its
// sidecar by it.
const sidecarSuffix = "-sidecar-proxy"

// sidecar reads the block that asks for a sidecar, and fills in what it leaves open.
func (d *decoder) sidecar(parent *Service, values map[string]any) {
	const at = "Connect.SidecarService"
	if parent.Kind != KindTypical {
		d.errorf(at, "a %s has no sidecar", parent.Kind)
	}
	if parent.ConnectNative {
		d.errorf(at, "the service is Native: want one of both")
	}
	if kind, ok := values["Kind"]; ok && kind != string(KindSidecar) {
		d.errorf(at+".Kind", "is %s: want connect-proxy", quote(fmt.Sprint(kind)))
	}
	id := parent.ID + sidecarSuffix
	if own, ok := values["ID"]; ok && own != id {
		d.errorf(at+".ID", "is %s: want none, it is %s", quote(fmt.Sprint(own)), quote(id))
	}
	values["Kind"], values["ID"] = string(KindSidecar), id
	inherit(values, "Name", parent.Name+sidecarSuffix)
	proxy, _ := values["Proxy"].(map[string]any)
	if proxy == nil {
		proxy = map[string]any{}
		values["Proxy"] = proxy
	}
	for _, own := range []struct{ name, value string }{{"DestinationServiceName", parent.Name}, {"DestinationServiceID", parent.ID}} {
		if given, ok := proxy[own.name]; ok && given != own.value {
			d.errorf(at+".Proxy."+own.name, "is %s: want none, it is %s", quote(fmt.Sprint(given)), quote(own.value))
		}
		proxy[own.name] = own.value
	}
	if _, ok := proxy["LocalServicePort"]; !ok && parent.Port > 0 {
		proxy["LocalServicePort"] = parent.Port
	}
	parent.Sidecar = d.service(values, at)
	parent.Sidecar.inherit(parent)
	parent.Sidecar.Kept = d.takeKept(at + ".")
}

func inherit(values map[string]any, name string, from any) {
	if _, ok := values[name]; !ok {
		values[name] = from
	}
}

// inherit fills in what a sidecar has of its service. An address on loopback is the application's alone: nobody could
// reach the sidecar there.
func (s *Service) inherit(parent *Service) {
	if s.Address == "" && !isLoopback(parent.Address) {
		s.Address = parent.Address
	}
	if s.Tags == nil {
		s.Tags = parent.Tags
	}
	if s.Meta == nil {
		s.Meta = parent.Meta
	}
}

// ParseCheck reads the body of PUT /v1/agent/check/register: the check, and the ID of the service that it is of, empty
// for a check of the node.
func ParseCheck(data []byte) (CheckDefinition, string, error) {
	root, r, err := parseBody("check", data)
	if err != nil {
		return CheckDefinition{}, "", err
	}
	d := newDecoder(r)
	r.name, _ = root.text("Name")
	values := d.object(root, checkRequestFields, "")
	serviceID, _ := values["ServiceID"].(string)
	delete(values, "ServiceID")
	var check CheckDefinition
	d.fill(values, &check)
	check.finish(d, "")
	if check.Name == "" {
		d.missing("Name", "the name of the check")
	}
	if check.CheckID == "" {
		check.CheckID = check.Name
	}
	d.check("CheckID", checkCheckID(check.CheckID))
	errs := &errorList{}
	errs.add(r)
	if err := errs.join(); err != nil {
		return CheckDefinition{}, "", err
	}
	return check, serviceID, nil
}

// parseBody reads the one object that a request holds.
func parseBody(kind string, data []byte) (*node, *report, error) {
	roots, err := parseFile("", data)
	if err != nil {
		return nil, nil, err
	}
	if len(roots) != 1 || roots[0].kind != isObject {
		return nil, nil, &Error{Kind: kind, Msg: "want one object"}
	}
	r := newReport("", roots[0])
	r.kind = kind
	return roots[0], r, nil
}
