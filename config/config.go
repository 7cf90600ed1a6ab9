// Package config turns what people write — config entries, service definitions, peer policies and the server's own
// configuration, in HCL, JSON or YAML — into validated values. No field is accepted and ignored: each is honoured, kept
// for Consul's tools and named as such, or refused with kind, name, field, file and line. It never asks anybody.
package config

import "fmt"

// ParseEntries reads the config entries of one file. The language is HCL, JSON or YAML, by the extension of file and by
// content where that says nothing. One file holds one entry, or several: a JSON array, YAML documents, HCL's
// config_entries { bootstrap = [...] }. All errors of the file are returned together, each an *Error, and then no entry.
func ParseEntries(file string, data []byte) ([]Entry, error) {
	roots, err := parseFile(file, data)
	if err != nil {
		return nil, err
	}
	nodes := entryNodes(roots)
	if len(nodes) == 0 || len(nodes) == 1 && nodes[0].kind == isObject && len(nodes[0].fields) == 0 {
		return nil, &Error{File: file, Msg: "holds no config entry"}
	}
	errs := &errorList{}
	var entries []Entry
	seen := map[string]int{}
	for _, root := range nodes {
		entry, r := parseEntry(file, root)
		key := r.kind + "/" + r.name
		if line, twice := seen[key]; twice && entry != nil {
			r.errorf("", "is in this file twice, also on line %d", line)
		}
		seen[key] = r.line
		entries = append(entries, entry)
		errs.add(r)
	}
	if err := errs.join(); err != nil {
		return nil, err
	}
	return entries, nil
}

// ParseEntry reads a file, or the body of a request, that holds exactly one config entry.
func ParseEntry(file string, data []byte) (Entry, error) {
	entries, err := ParseEntries(file, data)
	if err != nil {
		return nil, err
	}
	if len(entries) != 1 {
		return nil, &Error{File: file, Msg: fmt.Sprintf("holds %d config entries: want one", len(entries))}
	}
	return entries[0], nil
}

// entryNodes returns the objects of a file that are one entry each, whichever way it lists several.
func entryNodes(roots []*node) []*node {
	var found []*node
	for _, root := range roots {
		if root.kind == isList {
			found = append(found, root.items...)
			continue
		}
		if outer := root.only("config_entries"); outer != nil {
			if list := outer.unwrap().only("bootstrap"); list != nil && list.kind == isList {
				found = append(found, list.items...)
				continue
			}
		}
		found = append(found, root)
	}
	return found
}

// parseEntry reads one entry. The report holds what is wrong with it; the entry is nil when that kept it from being read.
func parseEntry(file string, root *node) (Entry, *report) {
	r := newReport(file, root)
	if root.kind != isObject {
		r.errorf("", "want a config entry, have %s", root.kind)
		return nil, r
	}
	root, ok := fromKubernetes(root, r)
	if !ok {
		return nil, r
	}
	name, line := root.text("Kind")
	if name == "" {
		if root.only("Service") != nil || root.only("Services") != nil {
			r.errorf("", "is a service definition, which `services register` takes: want a config entry")
			return nil, r
		}
		r.errorf("Kind", "is missing: want one of %s", kindNames())
		return nil, r
	}
	r.kind = name
	r.name, _ = root.text("Name")
	k := kindNamed(name)
	if k == nil {
		r.lines["Kind"] = line
		r.errorf("Kind", "%s", unknownKind(name))
		return nil, r
	}
	r.kind = k.name
	if r.name == "" {
		r.name = k.fixedName
	}
	d := newDecoder(r)
	d.fixedName = k.fixedName
	values := d.object(root, k.fields, "")
	if k.fixedName != "" && values["Name"] == nil {
		values["Name"] = k.fixedName
	}
	entry := k.make()
	d.fill(values, entry)
	k.finish(entry, d)
	if len(r.errs) > 0 {
		return nil, r
	}
	return entry, r
}
