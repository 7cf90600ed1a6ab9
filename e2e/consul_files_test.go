package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// The types that Consul sends to an Envoy of a TCP mesh.
const (
	clusterURL  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	listenerURL = "type.googleapis.com/envoy.config.listener.v3.Listener"
	endpointURL = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
)

// followedConsul is a Consul whose xDS serves no Envoy of today. The test asks it in the name of an Envoy that it knows,
// and writes what it answers into files, which a real Envoy of today follows.
type followedConsul struct{ *lab.Consul }

func (c followedConsul) Gateway() *lab.Envoy {
	c.Lab.T.Helper()
	c.register("gateway", fmt.Sprintf(`
service {
  kind    = "mesh-gateway"
  name    = "mesh-gateway"
  address = %[1]q
  port    = 8443
  tagged_addresses {
    lan { address = %[1]q, port = 8443 }
    wan { address = %[1]q, port = 8443 }
  }
}`, c.Host.WAN))
	return c.follow("gateway", "mesh-gateway")
}

func (c followedConsul) Sidecar(service string) *lab.Envoy {
	c.Lab.T.Helper()
	return c.follow("sidecar-"+service, service+"-sidecar-proxy")
}

func (c followedConsul) register(name, definition string) {
	c.CLI("services", "register", c.Lab.Write(name+"-"+c.Name+".hcl", definition))
}

// follow starts an Envoy on files that follow what Consul says to the proxy with an ID.
func (c followedConsul) follow(name, proxy string) *lab.Envoy {
	t := c.Lab.T
	t.Helper()
	dir := c.Lab.Path("xds-" + c.Name + "-" + name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f := &follower{dir: dir, proxy: proxy, address: c.Host.XDS + ":" + lab.XDSPort, dial: c.Host.DialOutside}
	for _, empty := range []string{"clusters", "listeners"} {
		if err := f.write(empty, nil); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Logf("%s@%s: last stream: %v", name, c.Name, f.last)
		}
	})
	admin := c.AdminAddress()
	host, port, err := net.SplitHostPort(admin)
	if err != nil {
		t.Fatal(err)
	}
	source := func(name string) string { return fmt.Sprintf(`{"path_config_source":{"path":%q}}`, f.path(name)) }
	return c.RunEnvoy(name, admin, fmt.Sprintf(`{
		"node": {"id": %q, "cluster": %q},
		"admin": {"address": {"socket_address": {"address": %q, "port_value": %s}}},
		"dynamic_resources": {"cds_config": %s, "lds_config": %s}
	}`, proxy, proxy, host, port, source("clusters"), source("listeners")))
}

// follower turns a stream of xDS into files. It is one goroutine's.
type follower struct {
	dir, proxy, address string
	dial                func(ctx context.Context, address string) (net.Conn, error)
	version             int
	last                error // why the last stream ended
}

// stream is what one stream has said.
type stream struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	resources map[string]map[string]*anypb.Any // by type and name
	asked     map[string]bool                  // endpoints subscribed to
}

// run follows one stream after another until ctx ends.
func (f *follower) run(ctx context.Context) {
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for ctx.Err() == nil {
		f.last = f.once(ctx)
		select {
		case <-ctx.Done():
		case <-again.C:
		}
	}
}

func (f *follower) once(ctx context.Context) error {
	conn, err := grpc.NewClient("passthrough:///"+f.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(f.dial), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	s := &stream{client, map[string]map[string]*anypb.Any{}, map[string]bool{}}
	for _, url := range []string{clusterURL, listenerURL} {
		// 1.23 is an Envoy that Consul 1.13 knows.
		node := &corev3.Node{Id: f.proxy, Cluster: f.proxy, UserAgentName: "envoy", UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{
			UserAgentBuildVersion: &corev3.BuildVersion{Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 23}},
		}}
		if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: url}); err != nil {
			return err
		}
	}
	for {
		response, err := s.Recv()
		if err != nil {
			return err
		}
		if err := f.take(s, response); err != nil {
			return err
		}
	}
}

// take puts a response into the files and acknowledges it.
func (f *follower) take(s *stream, r *discoveryv3.DeltaDiscoveryResponse) error {
	if s.resources[r.TypeUrl] == nil {
		s.resources[r.TypeUrl] = map[string]*anypb.Any{}
	}
	known := s.resources[r.TypeUrl]
	for _, resource := range r.Resources {
		known[resource.Name] = resource.Resource
	}
	for _, name := range r.RemovedResources {
		delete(known, name)
	}
	if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce}); err != nil {
		return err
	}
	switch r.TypeUrl {
	case clusterURL:
		return f.clusters(s, known)
	case listenerURL:
		return f.write("listeners", sorted(known))
	case endpointURL:
		for _, resource := range r.Resources {
			if err := f.write(endpointsFile(resource.Name), []*anypb.Any{resource.Resource}); err != nil {
				return err
			}
		}
	}
	return nil
}

// clusters writes clusters whose endpoints are in files, and asks for these endpoints.
func (f *follower) clusters(s *stream, known map[string]*anypb.Any) error {
	var subscribe []string
	written := map[string]*anypb.Any{}
	for name, text := range known {
		cluster := &clusterv3.Cluster{}
		if err := text.UnmarshalTo(cluster); err != nil {
			return err
		}
		if eds := cluster.EdsClusterConfig; eds != nil {
			if eds.ServiceName == "" {
				eds.ServiceName = name
			}
			if !s.asked[eds.ServiceName] {
				s.asked[eds.ServiceName] = true
				subscribe = append(subscribe, eds.ServiceName)
			}
			if err := f.endpoints(cluster.EdsClusterConfig); err != nil {
				return err
			}
		}
		packed, err := anypb.New(cluster)
		if err != nil {
			return err
		}
		written[name] = packed
	}
	if err := f.write("clusters", sorted(written)); err != nil || len(subscribe) == 0 {
		return err
	}
	slices.Sort(subscribe)
	return s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: endpointURL, ResourceNamesSubscribe: subscribe})
}

// endpoints points a cluster to a file, which is there, if only with no endpoint.
func (f *follower) endpoints(eds *clusterv3.Cluster_EdsClusterConfig) error {
	file := endpointsFile(eds.ServiceName)
	eds.EdsConfig = &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{
		PathConfigSource: &corev3.PathConfigSource{Path: f.path(file)},
	}}
	if _, err := os.Stat(f.path(file)); err == nil {
		return nil
	}
	none, err := anypb.New(&endpointv3.ClusterLoadAssignment{ClusterName: eds.ServiceName})
	if err != nil {
		return err
	}
	return f.write(file, []*anypb.Any{none})
}

func endpointsFile(service string) string {
	sum := sha256.Sum256([]byte(service))
	return "endpoints-" + hex.EncodeToString(sum[:8])
}

func (f *follower) path(name string) string { return filepath.Join(f.dir, name+".pb") }

// write replaces a file, as Envoy watches for: it is moved to where it belongs.
func (f *follower) write(name string, resources []*anypb.Any) error {
	f.version++
	text, err := proto.Marshal(&discoveryv3.DiscoveryResponse{VersionInfo: fmt.Sprint(f.version), Resources: resources})
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.path(name)+".part", text, 0o600); err != nil {
		return err
	}
	return os.Rename(f.path(name)+".part", f.path(name))
}

func sorted(resources map[string]*anypb.Any) []*anypb.Any {
	names := []string{}
	for name := range resources {
		names = append(names, name)
	}
	slices.Sort(names)
	var list []*anypb.Any
	for _, name := range names {
		list = append(list, resources[name])
	}
	return list
}
