package xds

import (
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// inShape is a sidecar's set whose listeners have a shape of their own.
func inShape(schema int, shell string) *envoy.Set {
	return sidecar("web", func(set *envoy.Set) {
		set.Schema = schema
		set.Listeners = []*envoy.Listener{listener("in", shell)}
	})
}

// A proxy is told the shape of listeners that its bootstrap noted, also after it connected again and when both change; one
// of a shape that nobody knows the newest, and one that noted none the oldest.
func TestProxyKeepsItsShape(t *testing.T) {
	for _, c := range []struct {
		noted  any
		want   string
		served int
	}{{1, "old", 1}, {2, "new", 2}, {3, "new", 2}, {nil, "old", 1}, {"two", "old", 1}} {
		inBubble(t, Config{}, func(t *testing.T, s *Server) {
			s.SetProxy(inShape(1, "old"), inShape(2, "new"))
			client := newClient(t, s)
			client.notes = map[string]any{"config_schema": c.noted}
			client.connect("web")
			client.settle()
			if got := string(client.body["LDS in"]); got != string(listener("in", c.want).Shell) {
				t.Errorf("schema %v: listener %q, want %s", c.noted, got, c.want)
			}
			if got := s.Proxies()[0].ServedSchema; got != c.served {
				t.Errorf("schema %v: served %d, want %d", c.noted, got, c.served)
			}
			client.disconnect()
			client.log = nil
			client.connect("web")
			client.expect("")
			s.SetProxy(inShape(1, c.want+"er"), inShape(2, c.want+"er"))
			client.expect("LDS +in")
			client.disconnect()
		})
	}
}

// note adds what a bootstrap noted to a first request.
func note(req *request, notes map[string]any) {
	if notes == nil {
		return
	}
	metadata, err := structpb.NewStruct(map[string]any{"isthmus": notes})
	if err != nil {
		panic(err)
	}
	req.Node.Metadata = metadata
}
