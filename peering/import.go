package peering

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/peering/wire"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/sni"
)

// Limits on what one imported service and one instance of it may hold. What the operator may set is in config.Quotas.
const (
	maxSpiffeIDs     = 16
	maxServiceName   = 63
	maxInstanceBytes = 64 << 10
	maxIdentifier    = 1 << 10 // of a node's name and a service ID
)

// quotas returns what a policy lets a peer send, with the defaults filled in.
func quotas(p config.PeerPolicy) config.Quotas {
	q := p.Quotas
	for value, otherwise := range map[*int]int{&q.Services: 10_000, &q.Instances: 1_000, &q.UpdatesPerSecond: 1_000} {
		if *value <= 0 {
			*value = otherwise
		}
	}
	return q
}

// serviceForm splits the ID of an exported service into its name, and whether it is the mesh form. A name that an
// import cannot have is an error.
func serviceForm(id string) (name string, mesh bool, err error) {
	name, mesh = strings.CutSuffix(id, wire.ProxySuffix)
	if err := wire.CheckName(name); err != nil {
		return "", false, err
	}
	if len(name) > maxServiceName {
		return "", false, fmt.Errorf("service name %.40q… is %d bytes: want at most %d", name, len(name), maxServiceName)
	}
	return name, mesh, nil
}

// instances converts the complete set of instances of one form, sorted by node and ID. The error says which instance
// cannot be taken, and what was wanted. ignored counts the fields by which the peer said whose the instances are.
func instances(service string, mesh bool, nodes []*wire.CheckServiceNode) (converted []snapshot.ImportedInstance, ignored uint64, err error) {
	for n, node := range nodes {
		instance, err := convert(node)
		if err != nil {
			return nil, 0, fmt.Errorf("instance %d: %w", n, err)
		}
		if err := fits(instance, service, mesh); err != nil {
			return nil, 0, fmt.Errorf("instance %d: %w", n, err)
		}
		for _, claim := range []string{node.Node.PeerName, node.Node.Partition, node.Service.PeerName} {
			if claim != "" {
				ignored++
			}
		}
		converted = append(converted, instance)
	}
	slices.SortStableFunc(converted, func(a, b snapshot.ImportedInstance) int {
		if c := strings.Compare(a.Node, b.Node); c != 0 {
			return c
		}
		return strings.Compare(a.Service.ID, b.Service.ID)
	})
	for n := 1; n < len(converted); n++ {
		if a, b := converted[n-1], converted[n]; a.Node == b.Node && a.Service.ID == b.Service.ID {
			return nil, 0, fmt.Errorf("instance %s on %s comes twice", a.Service.ID, a.Node)
		}
	}
	return converted, ignored, nil
}

// fits checks that an instance belongs where it was sent.
func fits(i snapshot.ImportedInstance, service string, mesh bool) error {
	want, kind := service, config.KindTypical
	if mesh {
		want, kind = service+wire.ProxySuffix, config.KindSidecar
	}
	switch {
	case i.Service.Name != want:
		return fmt.Errorf("is of service %.100q: want %q", i.Service.Name, want)
	case i.Service.Kind != kind:
		return fmt.Errorf("is of kind %.40q: want %q", i.Service.Kind, kind)
	case mesh && (i.Service.Proxy == nil || i.Service.Proxy.DestinationServiceName != service):
		return fmt.Errorf("does not stand for %q", service)
	}
	return nil
}

// convert copies what we take of an instance, with nil for everything empty, so that it compares equal after it was
// stored and read again.
func convert(from *wire.CheckServiceNode) (snapshot.ImportedInstance, error) {
	node, service := from.GetNode(), from.GetService()
	switch {
	case node.GetNode() == "":
		return snapshot.ImportedInstance{}, fmt.Errorf("the node has no name")
	case service.GetID() == "":
		return snapshot.ImportedInstance{}, fmt.Errorf("the service has no ID")
	case service.Port < 0 || service.Port > 65535:
		return snapshot.ImportedInstance{}, fmt.Errorf("port %d: want 0 to 65535", service.Port)
	}
	for _, named := range []struct{ what, text string }{
		{"node name", node.Node}, {"service ID", service.ID}, {"node address", node.Address}, {"service address", service.Address},
	} {
		if len(named.text) > maxIdentifier {
			return snapshot.ImportedInstance{}, fmt.Errorf("%s of %d bytes: want at most %d", named.what, len(named.text), maxIdentifier)
		}
		if unprintable(named.text) {
			return snapshot.ImportedInstance{}, fmt.Errorf("%s %.100q: want printable characters only", named.what, named.text)
		}
	}
	meta := service.GetConnect().GetPeerMeta()
	instance := snapshot.ImportedInstance{
		Node: node.Node, NodeID: node.ID, NodeAddress: node.Address, Datacenter: node.Datacenter,
		NodeMeta: filled(node.Meta), NodeTagged: filled(node.TaggedAddresses),
		Service: &config.Service{
			Kind: config.ServiceKind(service.Kind), ID: service.ID, Name: service.Service, Tags: some(service.Tags),
			Meta: filled(service.Meta), Address: service.Address, Port: int(service.Port), EnableTagOverride: service.EnableTagOverride,
			Weights: config.Weights{Passing: weight(service.GetWeights().GetPassing()), Warning: weight(service.GetWeights().GetWarning())},
		},
		SNI: some(meta.GetSNI()), SpiffeIDs: some(meta.GetSpiffeID()), Protocol: meta.GetProtocol(),
	}
	for name, address := range service.TaggedAddresses {
		if address.GetPort() < 0 || address.GetPort() > 65535 {
			return snapshot.ImportedInstance{}, fmt.Errorf("port %d of address %.40q: want 0 to 65535", address.GetPort(), name)
		}
		if instance.Service.TaggedAddresses == nil {
			instance.Service.TaggedAddresses = map[string]config.Address{}
		}
		instance.Service.TaggedAddresses[name] = config.Address{Address: address.GetAddress(), Port: int(address.GetPort())}
	}
	if proxy := service.GetProxy(); proxy != nil {
		instance.Service.Proxy = &config.Proxy{DestinationServiceName: proxy.DestinationServiceName, DestinationServiceID: proxy.DestinationServiceID}
	}
	instance.Health = config.HealthPassing
	for _, check := range from.Checks {
		instance.HasCheck = true
		if worst := worse(instance.Health, check.GetStatus()); worst != instance.Health {
			instance.Health, instance.CheckOutput = worst, check.GetOutput()
		}
	}
	return instance, bounded(instance)
}

// bounded refuses an instance that is described at unreasonable length.
func bounded(i snapshot.ImportedInstance) error {
	size := len(i.NodeID) + len(i.Datacenter) + len(i.Protocol) + len(i.CheckOutput)
	if i.Service.Proxy != nil {
		size += len(i.Service.Proxy.DestinationServiceName) + len(i.Service.Proxy.DestinationServiceID)
	}
	for _, texts := range [][]string{i.Service.Tags, i.SNI, i.SpiffeIDs} {
		for _, text := range texts {
			size += len(text)
		}
	}
	for _, texts := range []map[string]string{i.NodeMeta, i.NodeTagged, i.Service.Meta} {
		for key, value := range texts {
			size += len(key) + len(value)
		}
	}
	for key, address := range i.Service.TaggedAddresses {
		size += len(key) + len(address.Address)
	}
	if size > maxInstanceBytes {
		return fmt.Errorf("%d bytes: want at most %d", size, maxInstanceBytes)
	}
	return nil
}

func filled(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return m
}

func some(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}

// weight bounds what a peer says of an instance's share.
func weight(w int32) int { return int(min(max(w, 0), 65535)) }

// terms are what a peer's service metadata is held against.
type terms struct {
	trustDomain string // the pin
	ourName     string // what the peer calls us; empty until its first service says so
}

// route returns what the mesh needs to dial a service, as far as the peer's gateways agree on it and it is within
// terms, and the name by which the peer calls us. The error is the reason why the service is not routable.
func (t terms) route(service string, gateways []snapshot.ImportedInstance) (serverName string, ids []string, ourName string, err error) {
	if len(gateways) == 0 {
		return "", nil, "", fmt.Errorf("no mesh gateway: the peer has sent no instance of %[1]s%[2]s, wanted a gateway there and a sidecar of %[1]s", service, wire.ProxySuffix)
	}
	for _, gateway := range gateways {
		if gateway.Protocol != protocolTCP {
			return "", nil, "", fmt.Errorf("protocol %.40s, wanted tcp", orNone(gateway.Protocol))
		}
		if len(gateway.SNI) == 0 {
			return "", nil, "", fmt.Errorf("no server name, wanted %s.default.default.<name>.external.%s", strings.ToLower(service), t.trustDomain)
		}
		// A Consul leaves a service's name as it is in its server name, where case has no meaning: Envoy compares lower case.
		if name := strings.ToLower(gateway.SNI[0]); serverName == "" {
			serverName = name
		} else if serverName != name {
			return "", nil, "", fmt.Errorf("server names %.300q and %.300q, wanted one", serverName, name)
		}
	}
	if ourName, err = t.serverName(service, serverName); err != nil {
		return "", nil, "", err
	}
	ids, err = t.identities(gateways)
	return serverName, ids, ourName, err
}

// serverName checks a server name and returns the name by which it calls us.
func (t terms) serverName(service, name string) (string, error) {
	parsed, err := sni.ParsePeered(name)
	if err != nil {
		return "", fmt.Errorf("%w, wanted %s.default.default.<name>.external.%s", err, strings.ToLower(service), t.trustDomain)
	}
	switch {
	case parsed.TrustDomain != t.trustDomain:
		return "", fmt.Errorf("server name in trust domain %.300s, wanted %s", parsed.TrustDomain, t.trustDomain)
	case parsed.Service != strings.ToLower(service):
		return "", fmt.Errorf("server name of service %.100s, wanted %s", parsed.Service, strings.ToLower(service))
	case t.ourName != "" && parsed.Peer != t.ourName:
		return "", fmt.Errorf("server name calls us %.100s, wanted %s as for the other services", parsed.Peer, t.ourName)
	}
	return parsed.Peer, nil
}

// identities returns the service identities in the pinned trust domain that the gateways name, sorted.
func (t terms) identities(gateways []snapshot.ImportedInstance) ([]string, error) {
	var found []string
	for _, gateway := range gateways {
		for _, text := range gateway.SpiffeIDs {
			id, err := spiffeid.FromString(text)
			if err != nil {
				return nil, fmt.Errorf("SPIFFE ID %.300q is none, wanted spiffe://%s/ns/default/dc/<datacenter>/svc/<service>", text, t.trustDomain)
			}
			if id.TrustDomain().Name() != t.trustDomain {
				return nil, fmt.Errorf("SPIFFE ID in trust domain %.300s, wanted %s", id.TrustDomain().Name(), t.trustDomain)
			}
			if _, err := sni.ParseServiceID(text); err == nil && !slices.Contains(found, text) {
				found = append(found, text)
			}
			if len(found) > maxSpiffeIDs {
				return nil, fmt.Errorf("more than %d SPIFFE IDs, wanted at most %d", maxSpiffeIDs, maxSpiffeIDs)
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no SPIFFE ID of a service, wanted spiffe://%s/ns/default/dc/<datacenter>/svc/<service>", t.trustDomain)
	}
	slices.Sort(found)
	return found, nil
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}
