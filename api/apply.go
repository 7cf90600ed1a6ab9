package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// ApplyRequest asks for entries to be as they are written, all or none.
type ApplyRequest struct {
	Entries []json.RawMessage `json:"entries"`           // each in Consul's shape, with Kind
	Prune   bool              `json:"prune,omitempty"`   // delete every entry that Entries does not name
	DryRun  bool              `json:"dry_run,omitempty"` // change nothing, say what would be changed
}

// ApplyResult says what was changed, or with DryRun would be.
type ApplyResult struct {
	Changes []Change `json:"changes"`
	Applied bool     `json:"applied"` // false for a dry run, and where there was nothing to change
}

// Change is one entry before and after, in Consul's shape. Before is nil for a new one, After for one that goes.
type Change struct {
	Action string         `json:"action"` // create, update or delete
	Kind   string         `json:"kind"`
	Name   string         `json:"name"`
	Before map[string]any `json:"before,omitempty"`
	After  map[string]any `json:"after,omitempty"`
}

func (s *server) applyRoutes() []route {
	return []route{
		{method: "PUT", pattern: "/isthmus/v1/config", access: operate, do: s.writeOurs},
		{method: "GET", pattern: "/isthmus/v1/config", access: read, read: allEntries},
		{method: "POST", pattern: "/isthmus/v1/config/apply", access: operate, do: s.apply},
		{method: "GET", pattern: "/isthmus/v1/config/{kind}", access: read, read: func(c *call) (query, error) { return listEntries(c, ourKind) }},
		{method: "PUT", pattern: "/isthmus/v1/config/{kind}", access: operate, do: s.writeOurs},
		{method: "GET", pattern: "/isthmus/v1/config/{kind}/{name}", access: read, read: func(c *call) (query, error) { return readEntry(c, ourKind) }},
		{method: "DELETE", pattern: "/isthmus/v1/config/{kind}/{name}", access: operate, do: func(c *call) (any, error) { return s.deleteEntry(c, ourKind) }},
	}
}

// allEntries answers with the entries of every kind.
func allEntries(c *call) (query, error) {
	f, err := filterParam(c)
	if err != nil {
		return query{}, err
	}
	return query{index: modified(snapshot.TableEntries), answer: func(w *snapshot.World) (any, error) {
		return filtered(f, entryShapes(w.Entries("")))
	}}, nil
}

// writeOurs stores one entry of any kind; with ?dry-run it says what that would change.
func (s *server) writeOurs(c *call) (any, error) {
	dry, err := flag(c, "dry-run")
	if err != nil {
		return nil, err
	}
	expected := func(kind string) error {
		if want := c.PathValue("kind"); want != "" && kind != want {
			return refuse(http.StatusBadRequest, "kind", "entry of kind %s: want one of kind %s, as the path says", kind, want)
		}
		return ourKind(kind)
	}
	if !dry {
		return s.writeEntry(c, expected)
	}
	data, err := body(c)
	if err != nil {
		return nil, err
	}
	entry, err := config.ParseEntry("", data)
	if err != nil {
		return nil, err
	}
	if err := expected(entry.EntryKind()); err != nil {
		return nil, err
	}
	p := plan{world: c.world}
	if err := p.add(entry); err != nil {
		return nil, err
	}
	return ApplyResult{Changes: p.changes()}, nil
}

// apply makes the entries as the request has them, in one write.
func (s *server) apply(c *call) (any, error) {
	var request ApplyRequest
	if err := decode(c, &request); err != nil {
		return nil, err
	}
	entries, err := parseAll(request.Entries)
	if err != nil {
		return nil, err
	}
	result := ApplyResult{Changes: []Change{}}
	err = s.retry(c, func(w *snapshot.World) ([]snapshot.Event, error) {
		p := plan{world: w}
		for _, entry := range entries {
			if err := p.add(entry); err != nil {
				return nil, err
			}
		}
		if request.Prune {
			p.prune(entries)
		}
		result.Changes = p.changes()
		if request.DryRun || len(p.events) == 0 {
			return nil, nil
		}
		return p.guarded(), nil
	})
	result.Applied = err == nil && !request.DryRun && len(result.Changes) > 0
	return result, err
}

// parseAll reads every entry, and says all that is wrong at once.
func parseAll(texts []json.RawMessage) ([]config.Entry, error) {
	var entries []config.Entry
	var errs []error
	seen := map[snapshot.Key]bool{}
	for i, text := range texts {
		entry, err := config.ParseEntry("", text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		key := entryKey(entry.EntryKind(), entry.EntryName())
		if seen[key] {
			errs = append(errs, refuse(http.StatusBadRequest, "twice", "Entries[%s]: %s %s is written twice", strconv.Itoa(i), entry.EntryKind(), entry.EntryName()))
		}
		seen[key] = true
		entries = append(entries, entry)
	}
	return entries, errors.Join(errs...)
}

// A plan is what must be written so that a World holds certain entries.
type plan struct {
	world  *snapshot.World
	events []snapshot.Event
}

// add plans for an entry unless it is there as it is. What the World says against it, it says here too, for a dry run.
func (p *plan) add(entry config.Entry) error {
	old := p.world.Entry(entry.EntryKind(), entry.EntryName())
	if old != nil && reflect.DeepEqual(config.EncodeEntry(old.Value), config.EncodeEntry(entry)) {
		return nil
	}
	event := entryEvent(entry)
	if event.Check != nil {
		if err := event.Check(p.world); err != nil {
			return err
		}
	}
	p.events = append(p.events, event)
	return nil
}

// prune plans to delete every entry that is not among these.
func (p *plan) prune(entries []config.Entry) {
	for _, old := range p.world.Entries("") {
		kind, name := old.Value.EntryKind(), old.Value.EntryName()
		if !slices.ContainsFunc(entries, func(e config.Entry) bool { return e.EntryKind() == kind && e.EntryName() == name }) {
			p.events = append(p.events, snapshot.Event{Key: entryKey(kind, name)})
		}
	}
}

// guarded returns the events, to be written only while no entry is another than the plan saw.
func (p *plan) guarded() []snapshot.Event {
	seen := p.world.Modified(snapshot.TableEntries)
	p.events[0].Check = both(func(w *snapshot.World) error {
		if w.Modified(snapshot.TableEntries) != seen {
			return errStale
		}
		return nil
	}, p.events[0].Check)
	return p.events
}

// changes describes the plan, sorted by kind and name.
func (p *plan) changes() []Change {
	list := []Change{}
	for _, event := range p.events {
		parts := event.Key.Parts()
		change := Change{Action: "create", Kind: parts[0], Name: parts[1]}
		if old := p.world.Entry(parts[0], parts[1]); old != nil {
			change.Action, change.Before = "update", config.EncodeEntry(old.Value)
		}
		if event.Object == nil {
			change.Action = "delete"
		} else {
			change.After = config.EncodeEntry(event.Object.(*snapshot.Entry).Value)
		}
		list = append(list, change)
	}
	slices.SortFunc(list, func(a, b Change) int { return strings.Compare(a.Kind+"/"+a.Name, b.Kind+"/"+b.Name) })
	return list
}
