package wire

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// mesh is a good instance of the mesh form; change spoils it.
func mesh(change ...func(*CheckServiceNode)) *CheckServiceNode {
	node := &CheckServiceNode{
		Node: &Node{Node: "node-1", Address: "10.0.0.1"},
		Service: &NodeService{
			Kind: "connect-proxy", ID: "db-sidecar-proxy-instance-0", Service: "db-sidecar-proxy", Port: 8443,
			Proxy:   &ConnectProxyConfig{DestinationServiceName: "db"},
			Connect: &ServiceConnect{PeerMeta: &PeeringServiceMeta{SNI: []string{"sni"}, SpiffeID: []string{"id"}, Protocol: "tcp"}},
		},
		Checks: []*HealthCheck{{Node: "node-1", CheckID: "c", ServiceID: "db-sidecar-proxy-instance-0"}},
	}
	for _, f := range change {
		f(node)
	}
	return node
}

// Each of these has ended, or hung, some partner's server.
func TestInstancesThatCannotBeMade(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*CheckServiceNode)
		text   string
	}{
		"no node":          {func(n *CheckServiceNode) { n.Node = nil }, "the node has no name"},
		"no node name":     {func(n *CheckServiceNode) { n.Node.Node = "" }, "the node has no name"},
		"no node address":  {func(n *CheckServiceNode) { n.Node.Address = "" }, "node node-1 has no address"},
		"no service":       {func(n *CheckServiceNode) { n.Service = nil }, "the service has no ID"},
		"no service ID":    {func(n *CheckServiceNode) { n.Service.ID = "" }, "the service has no ID"},
		"no service name":  {func(n *CheckServiceNode) { n.Service.Service = "" }, "service name is empty"},
		"odd service name": {func(n *CheckServiceNode) { n.Service.Service = "a b" }, "want letters, digits, - and _"},
		"port":             {func(n *CheckServiceNode) { n.Service.Port = -1 }, "port -1: want 0 to 65535"},
		"tagged port": {func(n *CheckServiceNode) {
			n.Service.TaggedAddresses = map[string]*ServiceAddress{"wan": {Address: "a", Port: 70000}}
		}, "tagged address wan"},
		"empty tagged":       {func(n *CheckServiceNode) { n.Service.TaggedAddresses = map[string]*ServiceAddress{"wan": nil} }, "tagged address wan"},
		"no check ID":        {func(n *CheckServiceNode) { n.Checks[0].CheckID = "" }, `check ""`},
		"nil check":          {func(n *CheckServiceNode) { n.Checks[0] = nil }, `check ""`},
		"check of another":   {func(n *CheckServiceNode) { n.Checks[0].ServiceID = "x" }, `of "x"`},
		"check elsewhere":    {func(n *CheckServiceNode) { n.Checks[0].Node = "x" }, `on "x"`},
		"kind":               {func(n *CheckServiceNode) { n.Service.Kind = "mesh-gateway" }, `kind "mesh-gateway"`},
		"no destination":     {func(n *CheckServiceNode) { n.Service.Proxy = nil }, `stands for ""`},
		"other destination":  {func(n *CheckServiceNode) { n.Service.Proxy.DestinationServiceName = "web" }, `want "web-sidecar-proxy"`},
		"no meta":            {func(n *CheckServiceNode) { n.Service.Connect = nil }, "no server name"},
		"empty server name":  {func(n *CheckServiceNode) { n.Service.Connect.PeerMeta.SNI = []string{""} }, "no server name"},
		"no identity":        {func(n *CheckServiceNode) { n.Service.Connect.PeerMeta.SpiffeID = nil }, "no SPIFFE ID"},
		"no protocol":        {func(n *CheckServiceNode) { n.Service.Connect.PeerMeta.Protocol = "" }, "no protocol"},
		"no port":            {func(n *CheckServiceNode) { n.Service.Port = 0 }, "no port"},
		"meta without kind":  {func(n *CheckServiceNode) { n.Service.Kind = "" }, `kind ""`},
		"nothing whatsoever": {func(n *CheckServiceNode) { proto.Reset(n) }, "the node has no name"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewInstance(mesh(tc.change))
			require.ErrorContains(t, err, tc.text)
		})
	}
	_, err := NewInstance(nil)
	require.Error(t, err)
}

func TestInstancesAreCopied(t *testing.T) {
	given := mesh()
	instance, err := NewInstance(given)
	require.NoError(t, err)
	given.Node.Node = ""
	r, err := NewService("db-sidecar-proxy", []Instance{instance})
	require.NoError(t, err)
	var set ExportedService
	require.NoError(t, r.Response("n", false).Resource.UnmarshalTo(&set))
	require.Equal(t, "node-1", set.Nodes[0].Node.Node)
}

func TestResourcesThatCannotBeMade(t *testing.T) {
	instance, err := NewInstance(mesh())
	require.NoError(t, err)
	fail := func(_ Resource, err error) { t.Helper(); require.Error(t, err) }
	fail(NewService("", nil))
	fail(NewService("-a", nil))
	fail(NewService("a.b", nil))
	fail(NewService("db", []Instance{instance}))
	fail(NewService("db-sidecar-proxy", []Instance{{}}))
	fail(NewServiceList([]string{"a", ""}))
	fail(NewTrustBundle("", []string{"pem"}))
	fail(NewTrustBundle("td", nil))
	fail(NewAddresses(nil))
	fail(NewAddresses([]string{""}))
	big := strings.Repeat("x", MaxResource)
	fail(NewTrustBundle("td", []string{big}))
	require.Panics(t, func() { Resource{}.Response("n", false) })
}

func TestResponses(t *testing.T) {
	gone, err := NewService("db", nil)
	require.NoError(t, err)
	require.True(t, gone.Gone())
	r := gone.Response("00000001", false)
	require.Equal(t, Operation_OPERATION_UPSERT, r.Operation)
	require.Equal(t, r.ResourceURL, r.Resource.TypeUrl)
	require.Empty(t, r.Resource.Value)
	r = gone.Response("00000001", true)
	require.Equal(t, Operation_OPERATION_DELETE, r.Operation)
	require.Nil(t, r.Resource)
	list, err := NewServiceList(nil)
	require.NoError(t, err)
	require.Equal(t, Operation_OPERATION_UPSERT, list.Response("1", true).Operation, "an empty list is a list")
	bundle, err := NewTrustBundle("td", []string{"a", "b\n"})
	require.NoError(t, err)
	var read PeeringTrustBundle
	require.NoError(t, bundle.Response("1", false).Resource.UnmarshalTo(&read))
	require.Equal(t, []string{"a\n", "b\n"}, read.RootPEMs)
}

// The numbers of the fields are the protocol. These bytes were written by hand from the tables.
func TestFieldNumbers(t *testing.T) {
	text := func(b []byte, number protowire.Number, value string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), value)
	}
	nested := func(number protowire.Number, inner []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), inner)
	}
	for name, tc := range map[string]struct {
		bytes []byte
		want  proto.Message
	}{
		"open": {nested(1, append(text(text(nil, 1, "id"), 2, "secret"), nested(3, text(text(nil, 1, "p"), 2, "dc"))...)),
			&ReplicationMessage{Payload: &ReplicationMessage_Open{Open: &Open{PeerID: "id", StreamSecretID: "secret", Remote: &RemoteInfo{Partition: "p", Datacenter: "dc"}}}}},
		"nack": {nested(2, append(text(text(text(nil, 1, "id"), 2, "n"), 3, "url"), nested(5, text(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 3), 2, "why"))...)),
			&ReplicationMessage{Payload: &ReplicationMessage_Request{Request: &Request{PeerID: "id", ResponseNonce: "n", ResourceURL: "url", Error: &Status{Code: 3, Message: "why"}}}}},
		"response": {nested(3, protowire.AppendVarint(protowire.AppendTag(text(text(text(nil, 1, "n"), 2, "url"), 3, "id"), 5, protowire.VarintType), 2)),
			&ReplicationMessage{Payload: &ReplicationMessage_Response{Response: &Response{Nonce: "n", ResourceURL: "url", ResourceID: "id", Operation: Operation_OPERATION_DELETE}}}},
		"terminated": {nested(4, nil), &ReplicationMessage{Payload: &ReplicationMessage_Terminated{Terminated: &Terminated{}}}},
		"heartbeat":  {nested(5, nil), &ReplicationMessage{Payload: &ReplicationMessage_Heartbeat{Heartbeat: &Heartbeat{}}}},
		"meta": {nested(12, nested(4, text(text(text(nil, 1, "sni"), 2, "id"), 3, "tcp"))),
			&NodeService{Connect: &ServiceConnect{PeerMeta: &PeeringServiceMeta{SNI: []string{"sni"}, SpiffeID: []string{"id"}, Protocol: "tcp"}}}},
		"bundle": {text(text(text(nil, 1, "td"), 4, "pem"), 5, "default"), &PeeringTrustBundle{TrustDomain: "td", RootPEMs: []string{"pem"}, ExportedPartition: "default"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := tc.want.ProtoReflect().New().Interface()
			require.NoError(t, proto.Unmarshal(tc.bytes, got))
			require.True(t, proto.Equal(tc.want, got), "%v", got)
		})
	}
}

func TestTypeURLsAreTheMessageNames(t *testing.T) {
	const prefix = "type.googleapis.com/"
	for url, message := range map[string]proto.Message{
		TypeService: &ExportedService{}, TypeServiceList: &ExportedServiceList{}, TypeTrustBundle: &PeeringTrustBundle{}, TypeAddresses: &PeeringServerAddresses{},
	} {
		require.Equal(t, url, prefix+string(message.ProtoReflect().Descriptor().FullName()))
	}
	require.Equal(t, "/hashicorp.consul.internal.peerstream.PeerStreamService/StreamResources", PeerStreamService_StreamResources_FullMethodName)
	require.Equal(t, "/hashicorp.consul.internal.peerstream.PeerStreamService/ExchangeSecret", PeerStreamService_ExchangeSecret_FullMethodName)
}
