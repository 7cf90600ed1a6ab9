package api

import (
	"errors"
	"net/http"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

func (s *server) configRoutes() []route {
	return []route{
		{method: "PUT", pattern: "/v1/config", access: operate, do: func(c *call) (any, error) { return s.writeEntry(c, consulKind) }},
		{method: "GET", pattern: "/v1/config/{kind}", access: read, read: func(c *call) (query, error) { return listEntries(c, consulKind) }},
		{method: "GET", pattern: "/v1/config/{kind}/{name}", access: read, read: func(c *call) (query, error) { return readEntry(c, consulKind) }},
		{method: "DELETE", pattern: "/v1/config/{kind}/{name}", access: operate, do: func(c *call) (any, error) { return s.deleteEntry(c, consulKind) }},
	}
}

// refusedKinds are config entries that Consul has and that there never are here.
var refusedKinds = map[string]bool{
	"service-router": true, "service-splitter": true, "service-resolver": true, "ingress-gateway": true,
	"terminating-gateway": true, "api-gateway": true, "bound-api-gateway": true, "http-route": true, "tcp-route": true,
	"inline-certificate": true, "file-system-certificate": true, "sameness-group": true, "jwt-provider": true,
	"control-plane-request-limit": true,
}

// acceptedKinds are those that there may be.
var acceptedKinds = map[string]bool{
	config.KindExportedServices: true, config.KindServiceIntentions: true, config.KindServiceDefaults: true,
	config.KindProxyDefaults: true, config.KindMesh: true, config.KindPeerPolicy: true,
}

// consulKind refuses what Consul's tools do not know, and ourKind only what nobody knows. A kind that is refused when
// it is written can still be asked for: there is none.
func consulKind(kind string) error {
	if kind == config.KindPeerPolicy {
		return refuse(http.StatusBadRequest, "kind", "invalid config entry kind: %s", kind).
			hint("it is ours and not Consul's: use /isthmus/v1/config or isthmus config")
	}
	return ourKind(kind)
}

func ourKind(kind string) error {
	if !acceptedKinds[kind] && !refusedKinds[kind] {
		return refuse(http.StatusBadRequest, "kind", "invalid config entry kind: %s", kind)
	}
	return nil
}

// writeEntry stores one entry, and answers whether it did: false only when ?cas= named another index.
func (s *server) writeEntry(c *call, allowed func(kind string) error) (any, error) {
	data, err := body(c)
	if err != nil {
		return nil, err
	}
	entry, err := config.ParseEntry("", data)
	if err != nil {
		return nil, err
	}
	if err := allowed(entry.EntryKind()); err != nil {
		return nil, err
	}
	index, check, err := cas(c)
	if err != nil {
		return nil, err
	}
	event := entryEvent(entry)
	if check {
		event.Check = both(event.Check, unchanged(entry.EntryKind(), entry.EntryName(), index))
	}
	return wasStored(s.commit(c, event))
}

// deleteEntry removes one entry. With ?cas= it answers whether it did, else {} as Consul does, also for none.
func (s *server) deleteEntry(c *call, allowed func(kind string) error) (any, error) {
	kind, name := c.PathValue("kind"), c.PathValue("name")
	if err := allowed(kind); err != nil {
		return nil, err
	}
	index, check, err := cas(c)
	if err != nil {
		return nil, err
	}
	event := snapshot.Event{Key: entryKey(kind, name)}
	if check {
		event.Check = unchanged(kind, name, index)
		return wasStored(s.commit(c, event))
	}
	if c.world.Entry(kind, name) == nil {
		return struct{}{}, nil
	}
	return struct{}{}, s.commit(c, event)
}

func readEntry(c *call, allowed func(kind string) error) (query, error) {
	kind, name := c.PathValue("kind"), c.PathValue("name")
	if err := allowed(kind); err != nil {
		return query{}, err
	}
	return query{index: modified(snapshot.TableEntries, kind, name), answer: func(w *snapshot.World) (any, error) {
		entry := w.Entry(kind, name)
		if entry == nil {
			return nil, refuse(http.StatusNotFound, "not-found", "Config entry not found for %q / %q", kind, name).about(kind + "/" + name)
		}
		return configShape(entry), nil
	}}, nil
}

func listEntries(c *call, allowed func(kind string) error) (query, error) {
	kind := c.PathValue("kind")
	if err := allowed(kind); err != nil {
		return query{}, err
	}
	f, err := filterParam(c)
	if err != nil {
		return query{}, err
	}
	return query{index: modified(snapshot.TableEntries, kind), answer: func(w *snapshot.World) (any, error) {
		return filtered(f, entryShapes(w.Entries(kind)))
	}}, nil
}

func entryShapes(entries []*snapshot.Entry) []map[string]any {
	shapes := make([]map[string]any, 0, len(entries))
	for _, entry := range entries {
		shapes = append(shapes, configShape(entry))
	}
	return shapes
}

// configShape returns an entry as Consul answers it, with its indexes.
func configShape(entry *snapshot.Entry) map[string]any {
	shape := config.EncodeEntry(entry.Value)
	shape["CreateIndex"], shape["ModifyIndex"] = entry.CreateIndex, entry.ModifyIndex
	return shape
}

func entryKey(kind, name string) snapshot.Key {
	return snapshot.NewKey(snapshot.TableEntries, kind, name)
}

// entryEvent stores an entry, once the World agrees that it can be compiled.
func entryEvent(entry config.Entry) snapshot.Event {
	event := snapshot.Event{Key: entryKey(entry.EntryKind(), entry.EntryName()), Object: &snapshot.Entry{Value: entry}}
	if intentions, ok := entry.(*config.ServiceIntentions); ok {
		event.Check = func(w *snapshot.World) error {
			if err := snapshot.CheckIntentions(w, intentions); err != nil {
				return refuse(http.StatusBadRequest, "invalid", "%v", err).about(entry.EntryKind() + "/" + entry.EntryName())
			}
			return nil
		}
	}
	return event
}

// errStale says that the object is not the one that the caller saw.
var errStale = errors.New("changed since it was read")

// unchanged refuses a write unless the entry is at index, or with 0 unless there is none.
func unchanged(kind, name string, index uint64) func(*snapshot.World) error {
	return func(w *snapshot.World) error {
		var current uint64
		if entry := w.Entry(kind, name); entry != nil {
			current = entry.ModifyIndex
		}
		if current != index {
			return errStale
		}
		return nil
	}
}

// wasStored turns the fate of a compare-and-set write into Consul's answer.
func wasStored(err error) (any, error) {
	if errors.Is(err, errStale) {
		return false, nil
	}
	return err == nil, err
}

// both runs a and then b; either may be nil.
func both(a, b func(*snapshot.World) error) func(*snapshot.World) error {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(w *snapshot.World) error {
		if err := a(w); err != nil {
			return err
		}
		return b(w)
	}
}
