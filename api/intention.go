package api

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

func (s *server) intentionRoutes() []route {
	return []route{
		{method: "GET", pattern: "/v1/connect/intentions", access: read, read: listIntentions},
		{method: "GET", pattern: "/v1/connect/intentions/match", access: read, read: matchIntentions},
		{method: "GET", pattern: "/v1/connect/intentions/check", access: read, read: checkIntention},
		{method: "GET", pattern: "/v1/connect/intentions/exact", access: read, read: exactIntention},
		{method: "PUT", pattern: "/v1/connect/intentions/exact", access: operate, do: s.putExact},
		{method: "DELETE", pattern: "/v1/connect/intentions/exact", access: operate, do: s.deleteExact},
		{method: "POST", pattern: "/v1/connect/intentions", access: operate, do: s.createIntention},
		{method: "GET", pattern: "/v1/connect/intentions/{id}", access: read, read: intentionByID},
		{method: "PUT", pattern: "/v1/connect/intentions/{id}", access: operate, do: s.updateIntention},
		{method: "DELETE", pattern: "/v1/connect/intentions/{id}", access: operate, do: s.deleteIntention},
	}
}

// A pair names one intention. An empty peer is the local cluster.
type pair struct{ peer, source, destination string }

// intentionJSON is one source of a service-intentions entry, as Consul lists it.
type intentionJSON struct {
	// ID is a hash of the pair: nothing is stored under it, and it stays the same as long as the pair is there.
	ID                             string `json:",omitempty"`
	Description                    string `json:",omitempty"`
	SourceNS, SourceName           string
	DestinationNS, DestinationName string
	SourcePeer                     string `json:",omitempty"`
	SourceType                     string
	Action                         config.Action
	Meta                           map[string]string `json:",omitempty"`
	Precedence                     int
	CreateIndex                    uint64 `bexpr:"-"`
	ModifyIndex                    uint64 `bexpr:"-"`
}

// intentionSpace makes the IDs of intentions ours.
var intentionSpace = uuid.MustParse("5f0b1d4e-4b5e-4c55-9a9b-1a7f9a3d6c11")

func intentionID(p pair) string {
	return uuid.NewSHA1(intentionSpace, []byte(p.peer+"\x00"+p.source+"\x00"+p.destination)).String()
}

func (i intentionJSON) pair() pair { return pair{i.SourcePeer, i.SourceName, i.DestinationName} }

// intentionShape returns one intention as Consul lists it.
func intentionShape(i snapshot.Intention) intentionJSON {
	shape := intentionJSON{
		Description: i.Description, SourceNS: config.DefaultNamespace, SourceName: i.Name, DestinationNS: config.DefaultNamespace,
		DestinationName: i.Destination, SourcePeer: i.Peer, SourceType: "consul", Action: i.Action, Precedence: i.Precedence,
		CreateIndex: i.Entry.CreateIndex, ModifyIndex: i.Entry.ModifyIndex,
	}
	if entry, ok := i.Entry.Value.(*config.ServiceIntentions); ok {
		shape.Meta = entry.Meta
	}
	if i.Peer == "" {
		shape.ID = intentionID(shape.pair())
	}
	return shape
}

func intentionShapes(list []snapshot.Intention) []intentionJSON {
	shapes := make([]intentionJSON, 0, len(list))
	for _, i := range list {
		shapes = append(shapes, intentionShape(i))
	}
	return shapes
}

// intentions returns those that keep says, the most precise first, as they are applied.
func intentions(w *snapshot.World, keep func(intentionJSON) bool) []intentionJSON {
	kept := []intentionJSON{}
	for _, entry := range w.Entries(config.KindServiceIntentions) {
		name := entry.Value.EntryName()
		for _, i := range intentionShapes(snapshot.Match(w, name)) {
			if i.DestinationName == name && keep(i) {
				kept = append(kept, i)
			}
		}
	}
	slices.SortStableFunc(kept, func(a, b intentionJSON) int {
		return cmp.Or(cmp.Compare(b.Precedence, a.Precedence), cmp.Compare(a.SourcePeer, b.SourcePeer),
			cmp.Compare(a.SourceName, b.SourceName), cmp.Compare(a.DestinationName, b.DestinationName))
	})
	return kept
}

func listIntentions(c *call) (query, error) {
	f, err := filterParam(c)
	if err != nil {
		return query{}, err
	}
	return query{index: modified(snapshot.TableEntries, config.KindServiceIntentions), answer: func(w *snapshot.World) (any, error) {
		return filtered(f, intentions(w, func(intentionJSON) bool { return true }))
	}}, nil
}

// matchIntentions answers for each name with what applies to it as a source or as a destination.
func matchIntentions(c *call) (query, error) {
	by, err := required(c, "by")
	if err != nil {
		return query{}, err
	}
	if by != "source" && by != "destination" {
		return query{}, refuse(http.StatusBadRequest, "parameter", "'by' parameter must be one of 'source' or 'destination'")
	}
	names := map[string]pair{} // as written to the service
	for _, text := range c.URL.Query()["name"] {
		peer, name, err := parseSource(text)
		if err != nil {
			return query{}, err
		}
		if peer != "" && by == "destination" {
			return query{}, refuse(http.StatusBadRequest, "parameter", "%q: is of a peer, whose own intentions decide on calls of it: want by=source, or a service of ours", text)
		}
		names[text] = pair{peer: peer, source: name}
	}
	if len(names) == 0 {
		return query{}, refuse(http.StatusBadRequest, "parameter", "required query parameter 'name' not set")
	}
	return query{
		index: func(w *snapshot.World) uint64 {
			if by == "source" {
				return w.Modified(snapshot.TableEntries, config.KindServiceIntentions)
			}
			index := w.Modified(snapshot.TableEntries, config.KindServiceIntentions, config.Wildcard)
			for _, p := range names {
				index = newest(index, w.Modified(snapshot.TableEntries, config.KindServiceIntentions, p.source))
			}
			return index
		},
		answer: func(w *snapshot.World) (any, error) {
			matches := map[string][]intentionJSON{}
			for text, p := range names {
				if by == "source" {
					matches[text] = intentionShapes(snapshot.MatchSource(w, p.source, p.peer))
				} else {
					matches[text] = intentionShapes(snapshot.Match(w, p.source))
				}
			}
			return matches, nil
		},
	}, nil
}

// pairParams reads ?source= and ?destination=.
func pairParams(c *call) (pair, error) {
	source, err := required(c, "source")
	if err != nil {
		return pair{}, err
	}
	destination, err := required(c, "destination")
	if err != nil {
		return pair{}, err
	}
	var p pair
	if p.peer, p.source, err = parseSource(source); err != nil {
		return pair{}, err
	}
	var peer string
	if peer, p.destination, err = parseSource(destination); err == nil && peer != "" {
		err = refuse(http.StatusBadRequest, "parameter", "destination %q: is of a peer: want a service of ours", destination)
	}
	return p, err
}

// parseSource reads [peer:PEER/][[PARTITION/]NAMESPACE/]NAME.
func parseSource(text string) (peer, name string, err error) {
	rest := text
	if after, ok := strings.CutPrefix(text, "peer:"); ok {
		if peer, rest, ok = strings.Cut(after, "/"); !ok || peer == "" {
			return "", "", refuse(http.StatusBadRequest, "parameter", "source %q is invalid: need to specify the service name as well", text)
		}
	}
	parts := strings.Split(rest, "/")
	if len(parts) > 3 || peer != "" && len(parts) > 2 {
		return "", "", refuse(http.StatusBadRequest, "parameter", "source %q is invalid: input can contain at most two '/'", text)
	}
	for _, part := range parts[:len(parts)-1] {
		if part != config.DefaultNamespace {
			return "", "", refuse(http.StatusBadRequest, "namespace", "%q: namespaces and partitions are not supported: want %q or nothing", text, config.DefaultNamespace)
		}
	}
	name = parts[len(parts)-1]
	if name == "" {
		return "", "", refuse(http.StatusBadRequest, "parameter", "%q: want the name of a service", text)
	}
	return peer, name, nil
}

func checkIntention(c *call) (query, error) {
	if kind := c.URL.Query().Get("source-type"); kind != "" && kind != "consul" {
		return query{}, refuse(http.StatusBadRequest, "parameter", "unsupported SourceType: %q", kind)
	}
	p, err := pairParams(c)
	if err != nil {
		return query{}, err
	}
	return query{index: decisionIndex(p.destination), answer: func(w *snapshot.World) (any, error) {
		return struct{ Allowed bool }{snapshot.Decide(w, p.source, p.peer, p.destination).Allowed}, nil
	}}, nil
}

// decisionIndex is when what decides on calls of a destination last changed.
func decisionIndex(destination string) func(*snapshot.World) uint64 {
	return func(w *snapshot.World) uint64 {
		return newest(w.Modified(snapshot.TableEntries, config.KindServiceIntentions, destination),
			w.Modified(snapshot.TableEntries, config.KindServiceIntentions, config.Wildcard), w.Modified(snapshot.TableCluster))
	}
}

func exactIntention(c *call) (query, error) {
	p, err := pairParams(c)
	if err != nil {
		return query{}, err
	}
	return oneIntention(modified(snapshot.TableEntries, config.KindServiceIntentions, p.destination), func(i intentionJSON) bool { return i.pair() == p }), nil
}

func intentionByID(c *call) (query, error) {
	id := c.PathValue("id")
	if _, err := uuid.Parse(id); err != nil {
		return query{}, refuse(http.StatusBadRequest, "parameter", "UUID must be 36 characters: %q", id)
	}
	return oneIntention(modified(snapshot.TableEntries, config.KindServiceIntentions), func(i intentionJSON) bool { return i.ID == id }), nil
}

var errNoIntention = refuse(http.StatusNotFound, "not-found", "Intention not found")

func oneIntention(index func(*snapshot.World) uint64, is func(intentionJSON) bool) query {
	return query{index: index, answer: func(w *snapshot.World) (any, error) {
		if found := intentions(w, is); len(found) > 0 {
			return found[0], nil
		}
		return nil, errNoIntention
	}}
}
