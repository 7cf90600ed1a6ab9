package peering

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// fields is a message as it is on the wire, decoded without the code that made it: by number, in order.
type fields map[protowire.Number][]field

type field struct {
	bytes  []byte
	number uint64
}

func decoded(t fataler, raw []byte) fields {
	found := fields{}
	for len(raw) > 0 {
		number, kind, size := protowire.ConsumeTag(raw)
		if size < 0 {
			t.Fatalf("a tag cannot be read")
		}
		raw = raw[size:]
		var f field
		switch kind {
		case protowire.VarintType:
			f.number, size = protowire.ConsumeVarint(raw)
		case protowire.BytesType:
			f.bytes, size = protowire.ConsumeBytes(raw)
		default:
			t.Fatalf("field %d is of wire type %d", number, kind)
		}
		if size < 0 {
			t.Fatalf("field %d cannot be read", number)
		}
		found[number] = append(found[number], f)
		raw = raw[size:]
	}
	return found
}

type fataler interface {
	Fatalf(format string, args ...any)
}

func (f fields) text(n protowire.Number) string {
	if len(f[n]) == 0 {
		return ""
	}
	return string(f[n][len(f[n])-1].bytes)
}

func (f fields) int(n protowire.Number) int64 {
	if len(f[n]) == 0 {
		return 0
	}
	return int64(f[n][len(f[n])-1].number)
}

// takable checks what a partner is sent for one name against what a partner needs to take it: the facts, not our code.
func takable(t fataler, name string, raw []byte) (instances int) {
	want := func(holds bool, what string, args ...any) {
		if !holds {
			t.Fatalf("%s: "+what, append([]any{name}, args...)...)
		}
	}
	want(len(raw) < 4<<20-500, "%d bytes do not fit into a message of 4 MiB", len(raw))
	mesh := strings.HasSuffix(name, "-sidecar-proxy")
	ids, nodes := map[string]bool{}, map[string]string{}
	set := decoded(t, raw)
	want(len(raw) == 0 || len(set) == 1, "fields besides Nodes")
	for _, entry := range set[1] {
		instances++
		all := decoded(t, entry.bytes)
		want(len(all[1]) == 1 && len(all[2]) == 1, "an instance without node or service")
		node, service := decoded(t, all[1][0].bytes), decoded(t, all[2][0].bytes)
		nodeName, id := node.text(2), service.text(2)
		want(nodeName != "" && id != "" && service.text(3) == name, "node %q, ID %q, service %q", nodeName, id, service.text(3))
		_, err := netip.ParseAddr(node.text(3))
		want(err == nil, "node address %q", node.text(3))
		want(node.text(1) == "" && node.text(8) == "" && node.text(9) == "" && service.text(18) == "", "ID, partition or peer of a node or service")
		want(service.int(7) >= 0 && service.int(7) <= 65535, "port %d", service.int(7))
		key := strings.ToLower(nodeName) + "\x00" + strings.ToLower(id)
		want(!ids[key], "%s on %s comes twice", id, nodeName)
		ids[key] = true
		former, seen := nodes[strings.ToLower(nodeName)]
		want(!seen || former == nodeName, "nodes %q and %q", former, nodeName)
		nodes[strings.ToLower(nodeName)] = nodeName
		for _, check := range all[3] {
			c := decoded(t, check.bytes)
			want(c.text(1) == nodeName && c.text(2) != "" && c.text(7) == id, "check %q of %q on %q", c.text(2), c.text(7), c.text(1))
			want(slices.Contains([]string{"passing", "warning", "critical", "maintenance"}, c.text(4)), "check is %q", c.text(4))
		}
		meshParts(want, service, strings.TrimSuffix(name, "-sidecar-proxy"), mesh)
		want(utf8.Valid(entry.bytes) || len(entry.bytes) > 0, "nothing")
	}
	return instances
}

// meshParts checks what only instances of the mesh form have.
func meshParts(want func(bool, string, ...any), service fields, destination string, mesh bool) {
	if !mesh {
		want(service.text(1) == "" && len(service[11]) == 0 && len(service[12]) == 0, "mesh parts in the normal form")
		return
	}
	want(service.text(1) == "connect-proxy", "kind %q", service.text(1))
	want(len(service[11]) == 1 && len(service[12]) == 1, "no proxy or no metadata")
	proxy := decoded(panicking{}, service[11][0].bytes)
	want(proxy.text(1) == destination, "stands for %q", proxy.text(1))
	connect := decoded(panicking{}, service[12][0].bytes)
	want(len(connect[4]) == 1, "no peer metadata")
	meta := decoded(panicking{}, connect[4][0].bytes)
	want(len(meta[1]) > 0 && len(meta[2]) > 0 && meta.text(3) == "tcp", "metadata %v", meta)
	for _, name := range meta[1] {
		want(strings.HasPrefix(string(name.bytes), strings.ToLower(destination)+"."), "server name %q", name.bytes)
	}
	for _, id := range meta[2] {
		want(strings.HasPrefix(string(id.bytes), "spiffe://"), "identity %q", id.bytes)
	}
	usable := service.int(7) > 0
	for _, tagged := range service[15] {
		pair := decoded(panicking{}, tagged.bytes)
		want(pair.text(1) != "" || len(pair[1]) == 0, "tagged address without name")
		address := decoded(panicking{}, pair[2][0].bytes)
		want(address.text(1) != "" && address.int(2) >= 0 && address.int(2) <= 65535, "tagged address %q port %d", address.text(1), address.int(2))
		usable = usable || pair.text(1) == "wan" && address.int(2) > 0
	}
	want(usable, "no port")
}

type panicking struct{}

func (panicking) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// odd is text as nobody should register it, and sometimes as people do.
func odd(label string) *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{
			"", "db", "DB", "db-1", "node-1", "Node-1", "10.0.0.1", "::1", "host.example", "0x7f.1", "a b", "a\x00b", "a\nb", "\xff", "é", "..", "db-sidecar-proxy", "consul", "wan", "lan",
			strings.Repeat("x", 64), strings.Repeat("y", 300),
		}), rapid.String())
}

// drawnService is a registration as no API would take it: a source may still hold it.
func drawnService(t *rapid.T, name string) *config.Service {
	port := rapid.OneOf(rapid.IntRange(-2, 70_000), rapid.SampledFrom([]int{0, 1, 65535, 65536, -1, 1 << 32, 1<<32 + 80, -1 << 40}))
	s := &config.Service{
		ID: odd("id").Draw(t, "id"), Name: name, Address: odd("address").Draw(t, "address"), Port: port.Draw(t, "port"),
		Tags: rapid.SliceOfN(odd("tag"), 0, 3).Draw(t, "tags"), Meta: rapid.MapOfN(odd("key"), odd("value"), 0, 2).Draw(t, "meta"),
		Weights: config.Weights{Passing: port.Draw(t, "passing"), Warning: port.Draw(t, "warning")},
	}
	for _, tag := range rapid.SliceOfN(odd("tagged"), 0, 2).Draw(t, "tagged") {
		if s.TaggedAddresses == nil {
			s.TaggedAddresses = map[string]config.Address{}
		}
		s.TaggedAddresses[tag] = config.Address{Address: odd("at").Draw(t, "at"), Port: port.Draw(t, "tagged port")}
	}
	return s
}

// acceptedServices is a registration as the API takes it, and the sidecar that it asks for; nil when it does not take it.
func acceptedServices(t *rapid.T, name string) []*config.Service {
	drawn := drawnService(t, name)
	body := map[string]any{"Name": drawn.Name, "ID": drawn.ID, "Port": drawn.Port, "Address": drawn.Address, "Tags": drawn.Tags, "Meta": drawn.Meta}
	if rapid.Bool().Draw(t, "tame") {
		body = map[string]any{"Name": name, "ID": fmt.Sprintf("%s-%d", name, rapid.IntRange(0, 3).Draw(t, "n")), "Port": rapid.IntRange(0, 65535).Draw(t, "good port")}
	}
	if rapid.Bool().Draw(t, "sidecar") {
		body["Connect"] = map[string]any{"SidecarService": map[string]any{"Port": 21000}}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil
	}
	service, err := config.ParseRegistration(text)
	switch {
	case err != nil:
		return nil
	case service.Sidecar != nil:
		return []*config.Service{service, service.Sidecar}
	}
	return []*config.Service{service}
}

// Whatever is registered, here or in a source, nothing leaves that a partner's server could not take, and whatever is left
// out for that is named.
func TestNothingHarmfulCanBeExported(t *testing.T) {
	left, sent := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"db", "db", "db", "web-1", "web-1", "consul", "DB", "a b", "db-sidecar-proxy"}).Draw(t, "name")
		events := []snapshot.Event{{Key: snapshot.NewKey(snapshot.TableCluster, ""), Object: &snapshot.Cluster{
			TrustDomain: "ours.consul", Datacenter: "dc1", NodeName: "node-1",
		}}}
		for range rapid.IntRange(0, 5).Draw(t, "instances") {
			services := []*config.Service{drawnService(t, name)}
			if rapid.Bool().Draw(t, "through the API") {
				services = acceptedServices(t, name)
			}
			node, address := rapid.SampledFrom([]string{"node-1", "Node-1", "node-2"}).Draw(t, "good node"), "10.0.0.9"
			if rapid.Bool().Draw(t, "odd node") {
				node, address = odd("node").Draw(t, "node"), odd("node address").Draw(t, "node address")
			}
			for _, s := range services {
				events = append(events, snapshot.Event{
					Key: snapshot.NewKey(snapshot.TableInstances, s.Name, node, s.ID), Object: &snapshot.Instance{Node: node, NodeAddress: address, Service: s},
				}, snapshot.Event{Key: snapshot.NewKey(snapshot.TableChecks, node, s.ID, "c"), Object: &snapshot.Check{
					Node: node, ServiceID: s.ID, CheckID: odd("check").Draw(t, "check"), Status: odd("status").Draw(t, "status"),
				}})
			}
		}
		gateway := drawnService(t, "mesh-gateway")
		gateway.Kind = config.KindMeshGateway
		events = append(events, registration("gateway-node", gateway))
		if rapid.Bool().Draw(t, "good gateway") {
			events = append(events, meshGateway("node-1", "gateway-1", "198.51.100.1", 443))
		}
		world := snapshot.NewWorld().With(1, events)
		resources, err := forms(world, "west", name, true)
		if err != nil {
			left++
		}
		normal := len(typical(world, name))
		for _, resource := range resources {
			message, err := resource.Message("00000001", false)
			if err != nil {
				t.Fatalf("%s: %v", resource.ID(), err)
			}
			count := takable(t, resource.ID(), valueOf(t, message))
			sent += count
			if resource.ID() == name {
				normal -= count
			}
		}
		if normal != 0 && err == nil {
			t.Fatalf("%d instances were left out and nobody was told", normal)
		}
	})
	t.Logf("%d instances sent; in %d cases something was left out", sent, left)
	require.NotZero(t, sent)
	require.NotZero(t, left)
}

// caught is a stream that keeps what is sent on it.
type caught struct{ last *wire.ReplicationMessage }

func (c *caught) Send(message *wire.ReplicationMessage) error {
	c.last = message
	return nil
}

func valueOf(t fataler, message wire.Message) []byte {
	var on caught
	if err := message.Send(&on); err != nil {
		t.Fatalf("%v", err)
	}
	return on.last.GetResponse().GetResource().GetValue()
}

// A Response leaves by wire.Message and in no other way: no code here makes one, and none sends but through it.
func TestNothingIsSentPastTheChecks(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := gotoken.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if made, ok := n.Type.(*ast.SelectorExpr); ok {
					require.NotContains(t, []string{"Response", "ReplicationMessage", "ReplicationMessage_Response", "Resource", "Instance"}, madeOf(made, n), "%s", set.Position(n.Pos()))
				}
			case *ast.CallExpr:
				if called, ok := n.Fun.(*ast.SelectorExpr); ok && called.Sel.Name == "Send" {
					require.Len(t, n.Args, 1)
					on, ok := n.Args[0].(*ast.Ident)
					onField, isField := n.Args[0].(*ast.SelectorExpr)
					require.True(t, ok && on.Name == "stream" || isField && onField.Sel.Name == "stream",
						"%s: a Send of something that is no wire.Message", set.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

// madeOf is the name of what a composite literal of package wire makes, with content.
func madeOf(made *ast.SelectorExpr, literal *ast.CompositeLit) string {
	if from, ok := made.X.(*ast.Ident); ok && from.Name == "wire" && len(literal.Elts) > 0 {
		return made.Sel.Name
	}
	return ""
}

// A service that has grown too large for a message keeps what the peer has of it; its reason is shown, and others go on.
func TestServiceTooLargeForAMessage(t *testing.T) {
	east := newCluster(t, "east")
	east.commit(append(append(reachable("db"), instance("node-1", "web", 80, true)...), exports("west", "db", "web"))...)
	p, _ := importerOf(t, east)
	p.resources("db", "db-sidecar-proxy", "web", "web-sidecar-proxy")
	var events []snapshot.Event
	for i := range 90 {
		events = append(events, registration("node-1", &config.Service{ID: fmt.Sprintf("db-%d", i), Name: "db", Port: 1, Address: "10.0.0.1", Tags: []string{strings.Repeat("x", 50_000)}}))
	}
	east.commit(events...)
	east.awaitStatus("west", "the reason", func(s snapshot.PeerStatus) bool {
		return strings.Contains(s.NotExported["db"], "bytes: want at most 4193280")
	})
	east.commit(instance("node-1", "web", 81, false)...)
	require.Equal(t, int32(81), p.instances(p.next("web", func(m *wire.ReplicationMessage) bool {
		require.NotEqual(t, "db", m.GetResponse().GetResourceID())
		return m.GetResponse().GetResourceID() == "web"
	}).GetResponse())[0].Service.Port)
	require.NotNil(t, east.session("west"), "the stream goes on")
}
