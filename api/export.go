package api

import (
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

func (s *server) exportRoutes() []route {
	return []route{
		{method: "GET", pattern: "/v1/exported-services", access: read, read: exportedServices},
		{method: "GET", pattern: "/v1/internal/ui/exported-services", access: read, read: uiExported},
		{method: "GET", pattern: "/v1/internal/ui/services", access: read, read: uiServices},
	}
}

// exportIndex is when what is exported last changed.
func exportIndex(w *snapshot.World) uint64 {
	return newest(w.Modified(snapshot.TableEntries), w.Modified(snapshot.TableInstances), w.Modified(snapshot.TablePeers))
}

// exportedServices answers with each exported service and the peers that may import it, wildcards resolved.
func exportedServices(*call) (query, error) {
	type consumers struct {
		Peers []string `json:",omitempty"`
	}
	type exported struct {
		Service   string
		Consumers consumers
	}
	return query{index: exportIndex, answer: func(w *snapshot.World) (any, error) {
		peers := map[string][]string{}
		for _, peer := range w.Peers() {
			for service, reason := range snapshot.Exported(w, peer.Name) {
				if reason == "" {
					peers[service] = append(peers[service], peer.Name)
				}
			}
		}
		list := []exported{}
		for _, service := range slices.Sorted(maps.Keys(peers)) {
			list = append(list, exported{service, consumers{peers[service]}})
		}
		return list, nil
	}}, nil
}

// summaryJSON is one service as Consul's UI lists it, and its CLI where it asks for exports.
type summaryJSON struct {
	Kind                                         config.ServiceKind `json:",omitempty"`
	Name, Datacenter                             string
	Tags, Nodes, ExternalSources                 []string
	InstanceCount                                int
	ChecksPassing, ChecksWarning, ChecksCritical int
	GatewayConfig                                struct{}
	TransparentProxy, ConnectNative              bool
	ConnectedWithProxy, ConnectedWithGateway     bool
	PeerName                                     string `json:",omitempty"`
}

func uiExported(c *call) (query, error) {
	peer, err := required(c, "peer")
	if err != nil {
		return query{}, err
	}
	return query{index: exportIndex, answer: func(w *snapshot.World) (any, error) {
		list := []summaryJSON{}
		for service, reason := range snapshot.Exported(w, peer) {
			if reason == "" {
				list = append(list, localSummary(w, service))
			}
		}
		return list, nil
	}}, nil
}

func uiServices(c *call) (query, error) {
	f, err := filterParam(c)
	if err != nil {
		return query{}, err
	}
	return query{
		index: func(w *snapshot.World) uint64 {
			return newest(w.Modified(snapshot.TableInstances), w.Modified(snapshot.TableChecks), w.Modified(snapshot.TableImports))
		},
		answer: func(w *snapshot.World) (any, error) {
			var list []summaryJSON
			last := ""
			for _, i := range w.Instances("") {
				if i.Service.Name != last {
					last = i.Service.Name
					list = append(list, localSummary(w, last))
				}
			}
			for _, i := range w.Imports("") {
				summary := summaryJSON{Name: i.Service, PeerName: i.Peer}
				for _, shape := range importedShapes(i, false) {
					summary.add(shape)
				}
				list = append(list, summary)
			}
			return filtered(f, list)
		},
	}, nil
}

// localSummary sums up the instances of a service of ours.
func localSummary(w *snapshot.World, service string) summaryJSON {
	summary := summaryJSON{Name: service, Datacenter: w.Cluster().Datacenter, ConnectedWithProxy: len(w.Proxies(service)) > 0}
	for _, i := range w.Instances(service) {
		summary.add(instanceShape(w, i))
		summary.ConnectNative = summary.ConnectNative || i.Service.ConnectNative
	}
	return summary
}

func (s *summaryJSON) add(i instanceJSON) {
	s.Kind, s.Tags = i.Service.Kind, union(s.Tags, i.Service.Tags)
	s.Nodes = union(s.Nodes, []string{i.Node.Node})
	s.InstanceCount++
	for _, check := range i.Checks {
		switch check.Status {
		case config.HealthPassing:
			s.ChecksPassing++
		case config.HealthWarning:
			s.ChecksWarning++
		default:
			s.ChecksCritical++
		}
	}
}
