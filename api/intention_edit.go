package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// intentionBody is what Consul's clients send for one intention.
type intentionBody struct {
	ID, Description                       string
	SourceNS, SourceName                  string
	DestinationNS, DestinationName        string
	SourcePartition, DestinationPartition string
	SourcePeer, SourceSamenessGroup       string
	SourceType                            string
	Action                                string
	Permissions                           []json.RawMessage
	DefaultAddr                           string
	DefaultPort                           int
	Meta                                  map[string]string
	Precedence                            int // read-only, as are those below
	CreatedAt, UpdatedAt                  any
	Hash                                  any
	CreateIndex, ModifyIndex              uint64
}

func (s *server) putExact(c *call) (any, error) {
	p, err := pairParams(c)
	if err != nil {
		return nil, err
	}
	var request intentionBody
	if err := decode(c, &request); err != nil {
		return nil, err
	}
	return true, s.putIntention(c, p, &request, false)
}

// createIntention is the way of Consul's CLI to make an intention: by names in the body, and not over another one.
func (s *server) createIntention(c *call) (any, error) {
	var request intentionBody
	if err := decode(c, &request); err != nil {
		return nil, err
	}
	p := pair{request.SourcePeer, request.SourceName, request.DestinationName}
	return struct{ ID string }{intentionID(p)}, s.putIntention(c, p, &request, true)
}

func (s *server) updateIntention(c *call) (any, error) {
	id := c.PathValue("id")
	found := intentions(c.world, func(i intentionJSON) bool { return i.ID == id })
	if len(found) == 0 {
		return nil, errNoIntention
	}
	var request intentionBody
	if err := decode(c, &request); err != nil {
		return nil, err
	}
	p := found[0].pair()
	if request.SourceName != "" && request.SourceName != p.source || request.DestinationName != "" && request.DestinationName != p.destination {
		return nil, refuse(http.StatusBadRequest, "invalid", "Cannot modify Source or Destination fields of an intention").
			hint("delete it and create another")
	}
	return struct{ ID string }{id}, s.putIntention(c, p, &request, false)
}

func (s *server) deleteExact(c *call) (any, error) {
	p, err := pairParams(c)
	if err != nil {
		return nil, err
	}
	return true, s.removeIntention(c, p)
}

func (s *server) deleteIntention(c *call) (any, error) {
	id := c.PathValue("id")
	found := intentions(c.world, func(i intentionJSON) bool { return i.ID == id })
	if len(found) == 0 {
		return nil, errNoIntention
	}
	return true, s.removeIntention(c, found[0].pair())
}

// putIntention adds a local source to the entry of its destination, or changes it there.
func (s *server) putIntention(c *call, p pair, request *intentionBody, onlyNew bool) error {
	if err := request.check(c); err != nil {
		return err
	}
	source := map[string]any{"Name": p.source, "Action": request.Action}
	if request.Description != "" {
		source["Description"] = request.Description
	}
	if p.peer == "" {
		p.peer = request.SourcePeer
	}
	if p.peer != "" {
		source["Peer"] = p.peer
		return peerRefusal(c.world, p.destination, func(sources []map[string]any) []map[string]any { return withSource(sources, source) })
	}
	return s.editIntentions(c, p.destination, func(sources []map[string]any) ([]map[string]any, error) {
		if onlyNew && slices.ContainsFunc(sources, sameSource(source)) {
			return nil, refuse(http.StatusConflict, "duplicate", "duplicate intention found: %s => %s", p.source, p.destination)
		}
		return withSource(sources, source), nil
	})
}

// check refuses what an intention may not say here.
func (b *intentionBody) check(c *call) error {
	switch {
	case len(b.Permissions) > 0:
		return refuse(http.StatusBadRequest, "l7", "Permissions: L7 intentions are not supported: want Action allow or deny")
	case b.SourceSamenessGroup != "":
		return refuse(http.StatusBadRequest, "invalid", "SourceSamenessGroup: not supported")
	case b.SourceType != "" && b.SourceType != "consul":
		return refuse(http.StatusBadRequest, "invalid", "SourceType must be set to 'consul'")
	case len(b.Meta) > 0:
		return refuse(http.StatusBadRequest, "invalid", "Meta must not be specified").hint("it belongs to the service-intentions entry of the destination")
	case b.DefaultAddr != "" || b.DefaultPort != 0:
		return refuse(http.StatusBadRequest, "invalid", "DefaultAddr and DefaultPort are not supported")
	}
	for _, value := range []string{b.SourceNS, b.DestinationNS, b.SourcePartition, b.DestinationPartition} {
		if err := sameScope(c, "", value, ""); err != nil {
			return err
		}
	}
	return nil
}

// removeIntention takes a local source out of its entry, and the entry with its last one. None there is no error.
func (s *server) removeIntention(c *call, p pair) error {
	is := sameSource(map[string]any{"Name": p.source, "Peer": p.peer})
	without := func(sources []map[string]any) []map[string]any { return slices.DeleteFunc(sources, is) }
	if p.peer != "" {
		return peerRefusal(c.world, p.destination, without)
	}
	if c.world.Entry(config.KindServiceIntentions, p.destination) == nil {
		return nil
	}
	return s.editIntentions(c, p.destination, func(sources []map[string]any) ([]map[string]any, error) { return without(sources), nil })
}

// editIntentions rewrites the entry of a destination with other sources, unless somebody else did meanwhile: then again.
func (s *server) editIntentions(c *call, destination string, edit func([]map[string]any) ([]map[string]any, error)) error {
	return s.retry(c, func(w *snapshot.World) ([]snapshot.Event, error) {
		entry, sources := intentionsEntry(w, destination)
		sources, err := edit(sources)
		if err != nil {
			return nil, err
		}
		var index uint64
		if old := w.Entry(config.KindServiceIntentions, destination); old != nil {
			index = old.ModifyIndex
		}
		event := snapshot.Event{Key: entryKey(config.KindServiceIntentions, destination)}
		if len(sources) > 0 {
			entry["Sources"] = sources
			value, err := parseShape(entry)
			if err != nil {
				return nil, err
			}
			event = entryEvent(value)
		}
		event.Check = both(event.Check, unchanged(config.KindServiceIntentions, destination, index))
		return []snapshot.Event{event}, nil
	})
}

// intentionsEntry returns the entry of a destination in Consul's shape and its sources, or a new one without any.
func intentionsEntry(w *snapshot.World, destination string) (entry map[string]any, sources []map[string]any) {
	entry = map[string]any{"Kind": config.KindServiceIntentions, "Name": destination}
	old := w.Entry(config.KindServiceIntentions, destination)
	if old == nil {
		return entry, nil
	}
	value, ok := old.Value.(*config.ServiceIntentions)
	if !ok {
		return entry, nil
	}
	if len(value.Meta) > 0 {
		entry["Meta"] = value.Meta
	}
	for _, from := range value.Sources {
		source := map[string]any{"Name": from.Name, "Action": from.Action}
		if from.Peer != "" {
			source["Peer"] = from.Peer
		}
		if from.Description != "" {
			source["Description"] = from.Description
		}
		sources = append(sources, source)
	}
	return entry, sources
}

func parseShape(shape map[string]any) (config.Entry, error) {
	text, err := json.Marshal(shape)
	if err != nil {
		return nil, err
	}
	return config.ParseEntry("", text)
}

// withSource returns sources with source in the place of the one of its name.
func withSource(sources []map[string]any, source map[string]any) []map[string]any {
	if i := slices.IndexFunc(sources, sameSource(source)); i >= 0 {
		sources[i] = source
		return sources
	}
	return append(sources, source)
}

func sameSource(a map[string]any) func(map[string]any) bool {
	peer := func(m map[string]any) string { p, _ := m["Peer"].(string); return p }
	return func(b map[string]any) bool { return a["Name"] == b["Name"] && peer(a) == peer(b) }
}

// peerRefusal says what to write instead: an intention with a peer is made in the entry only, as in Consul.
func peerRefusal(w *snapshot.World, destination string, edit func([]map[string]any) []map[string]any) error {
	entry, sources := intentionsEntry(w, destination)
	if sources = edit(sources); len(sources) == 0 {
		return refuse(http.StatusBadRequest, "peer", "SourcePeer field is not supported on this endpoint").
			hint(fmt.Sprintf("delete the entry: consul config delete -kind service-intentions -name %s", destination))
	}
	entry["Sources"] = sources
	text, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	return refuse(http.StatusBadRequest, "peer", "SourcePeer field is not supported on this endpoint").
		hint("write this entry with consul config write: " + string(text))
}
