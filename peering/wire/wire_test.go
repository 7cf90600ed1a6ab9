package wire

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
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
			Connect: &ServiceConnect{PeerMeta: &PeeringServiceMeta{SNI: []string{"sni"}, SpiffeID: []string{"spiffe://id"}, Protocol: "tcp"}},
		},
		Checks: []*HealthCheck{{Node: "node-1", CheckID: "c", ServiceID: "db-sidecar-proxy-instance-0", Status: "passing"}},
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
		}, `tagged address "wan"`},
		"empty tagged":           {func(n *CheckServiceNode) { n.Service.TaggedAddresses = map[string]*ServiceAddress{"wan": nil} }, `tagged address "wan"`},
		"no check ID":            {func(n *CheckServiceNode) { n.Checks[0].CheckID = "" }, `check ""`},
		"nil check":              {func(n *CheckServiceNode) { n.Checks[0] = nil }, `check ""`},
		"check of another":       {func(n *CheckServiceNode) { n.Checks[0].ServiceID = "x" }, `of "x"`},
		"check elsewhere":        {func(n *CheckServiceNode) { n.Checks[0].Node = "x" }, `on "x"`},
		"kind":                   {func(n *CheckServiceNode) { n.Service.Kind = "mesh-gateway" }, `kind "mesh-gateway"`},
		"no destination":         {func(n *CheckServiceNode) { n.Service.Proxy = nil }, `stands for ""`},
		"other destination":      {func(n *CheckServiceNode) { n.Service.Proxy.DestinationServiceName = "web" }, `want "web-sidecar-proxy"`},
		"no meta":                {func(n *CheckServiceNode) { n.Service.Connect = nil }, "no server name"},
		"empty server name":      {func(n *CheckServiceNode) { n.Service.Connect.PeerMeta.SNI = []string{""} }, "no server name"},
		"no identity":            {func(n *CheckServiceNode) { n.Service.Connect.PeerMeta.SpiffeID = nil }, "no SPIFFE ID"},
		"no protocol":            {func(n *CheckServiceNode) { n.Service.Connect.PeerMeta.Protocol = "" }, "no protocol"},
		"no port":                {func(n *CheckServiceNode) { n.Service.Port = 0 }, "no port"},
		"meta without kind":      {func(n *CheckServiceNode) { n.Service.Kind = "" }, `kind ""`},
		"second name empty":      {func(n *CheckServiceNode) { n.Service.Connect.PeerMeta.SNI = []string{"sni", ""} }, "no server name"},
		"endless name":           {func(n *CheckServiceNode) { n.Service.Connect.PeerMeta.SNI[0] = strings.Repeat("x", 254) }, "no server name"},
		"no SPIFFE":              {func(n *CheckServiceNode) { n.Service.Connect.PeerMeta.SpiffeID = []string{"spiffe://id", "id"} }, "no SPIFFE ID"},
		"many SPIFFE IDs":        {func(n *CheckServiceNode) { n.Service.Connect.PeerMeta.SpiffeID = make([]string, 17) }, "17 SPIFFE IDs"},
		"node ID":                {func(n *CheckServiceNode) { n.Node.ID = "7d4e7b5c" }, "want none"},
		"peer":                   {func(n *CheckServiceNode) { n.Node.PeerName = "x" }, "names a peer"},
		"service of a peer":      {func(n *CheckServiceNode) { n.Service.PeerName = "x" }, "names a peer"},
		"node address is a name": {func(n *CheckServiceNode) { n.Node.Address = "host.example" }, `address "host.example": want an IP address`},
		"odd node name":          {func(n *CheckServiceNode) { n.Node.Node = "a\nb" }, `node name "a\nb": want printable characters only`},
		"endless node name":      {func(n *CheckServiceNode) { n.Node.Node = strings.Repeat("x", 1025) }, "node name of 1025 bytes"},
		"odd service ID":         {func(n *CheckServiceNode) { n.Service.ID = "a\x00b" }, "want printable characters only"},
		"not UTF-8":              {func(n *CheckServiceNode) { n.Service.Tags = []string{"\xff"} }, "invalid UTF-8"},
		"weights":                {func(n *CheckServiceNode) { n.Service.Weights = &Weights{} }, "weights 0 and 0"},
		"check state":            {func(n *CheckServiceNode) { n.Checks[0].Status = "odd" }, `is "odd"`},
		"check twice":            {func(n *CheckServiceNode) { n.Checks = append(n.Checks, n.Checks[0]) }, "comes twice"},
		"check of a service":     {func(n *CheckServiceNode) { n.Checks[0].ServiceName = "web" }, "the instance's own"},
		"native": {func(n *CheckServiceNode) {
			n.Service.Kind, n.Service.Proxy, n.Service.Connect = "", nil, &ServiceConnect{Native: true}
		}, `kind ""`},
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
	require.NoError(t, response(t, r, false).Resource.UnmarshalTo(&set))
	require.Equal(t, "node-1", set.Nodes[0].Node.Node)
}

// response is what is sent of a resource.
func response(t *testing.T, r Resource, deletes bool) *Response {
	t.Helper()
	message, err := r.Message("00000001", deletes)
	require.NoError(t, err)
	return message.message.GetResponse()
}

// root is the PEM of a certificate.
func root(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	raw, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, key.Public(), key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
}

type sink struct{}

func (sink) Send(*ReplicationMessage) error { return nil }

func TestZeroValuesCannotBeSent(t *testing.T) {
	require.Error(t, Message{}.Send(sink{}))
	_, err := Resource{}.Message("n", false)
	require.Error(t, err)
	_, err = NewService("db", []Instance{{}})
	require.Error(t, err)
	good, err := NewService("db", nil)
	require.NoError(t, err)
	_, err = good.Message("", false)
	require.Error(t, err, "one dialect wants a nonce")
	message, err := good.Message("n", false)
	require.NoError(t, err)
	require.NoError(t, message.Send(sink{}))
}

// What partners cannot keep apart is sent once.
func TestInstancesAreDistinct(t *testing.T) {
	made := func(node, id string) Instance {
		instance, err := NewInstance(&CheckServiceNode{Node: &Node{Node: node, Address: "10.0.0.1"}, Service: &NodeService{ID: id, Service: "db"}})
		require.NoError(t, err)
		return instance
	}
	all := []Instance{made("a", "1"), made("a", "2"), made("A", "3"), made("a", "1"), made("b", "X"), made("b", "x")}
	kept, left := Distinct(all)
	require.Equal(t, []Instance{all[0], all[1], all[4]}, kept)
	require.Equal(t, []string{
		"instance 3: node A differs from node a only in upper and lower case", "instance 1 comes twice on node a", "instance x comes twice on node b",
	}, left)
	_, err := NewService("db", all)
	require.ErrorContains(t, err, "service db: instance 3: node A differs")
	_, err = NewService("db", kept)
	require.NoError(t, err)
	_, err = NewService("db-sidecar-proxy", kept[:1])
	require.Error(t, err)
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
	fail(NewServiceList([]string{"a", "a"}))
	fail(NewServiceList([]string{"b", "a"}))
	fail(NewServiceList([]string{"a-sidecar-proxy"}))
	fail(NewTrustBundle("", []string{root(t)}))
	fail(NewTrustBundle("td", []string{"garbage"}))
	fail(NewTrustBundle("td", []string{root(t), ""}))
	fail(NewAddresses([]string{"host"}))
	fail(NewAddresses([]string{"host:0"}))
	fail(NewAddresses([]string{"10.0.0.1:8503", ":8503"}))
	form, err := NewInstance(&CheckServiceNode{Node: &Node{Node: "n", Address: "::1"}, Service: &NodeService{ID: "1", Service: "db-sidecar-proxy"}})
	require.NoError(t, err)
	fail(NewService("db-sidecar-proxy", []Instance{form}))
	own, err := NewInstance(&CheckServiceNode{Node: &Node{Node: "n", Address: "::1"}, Service: &NodeService{ID: "1", Service: "consul"}})
	require.NoError(t, err)
	fail(NewService("consul", []Instance{own}))
	fail(NewTrustBundle("td", nil))
	fail(NewAddresses(nil))
	fail(NewAddresses([]string{""}))
	names := make([]string, 70_000)
	for i := range names {
		names[i] = fmt.Sprintf("%063d", i)
	}
	fail(NewServiceList(names))
}

func TestResponses(t *testing.T) {
	gone, err := NewService("db", nil)
	require.NoError(t, err)
	require.True(t, gone.Gone())
	r := response(t, gone, false)
	require.Equal(t, Operation_OPERATION_UPSERT, r.Operation)
	require.Equal(t, r.ResourceURL, r.Resource.TypeUrl)
	require.Empty(t, r.Resource.Value)
	r = response(t, gone, true)
	require.Equal(t, Operation_OPERATION_DELETE, r.Operation)
	require.Nil(t, r.Resource)
	list, err := NewServiceList(nil)
	require.NoError(t, err)
	require.Equal(t, Operation_OPERATION_UPSERT, response(t, list, true).Operation, "an empty list is a list")
	one, two := root(t), root(t)
	bundle, err := NewTrustBundle("td", []string{strings.TrimSuffix(one, "\n"), two})
	require.NoError(t, err)
	var read PeeringTrustBundle
	require.NoError(t, response(t, bundle, false).Resource.UnmarshalTo(&read))
	require.Equal(t, []string{one, two}, read.RootPEMs)
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
