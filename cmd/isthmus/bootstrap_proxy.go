package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/isthmus-mesh/isthmus/config"
)

const (
	defaultGatewayName = "mesh-gateway"
	defaultGatewayPort = 8443
)

// proxyOptions say which proxy the Envoy is.
type proxyOptions struct{ sidecarFor, id string }

func (o *proxyOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.sidecarFor, "sidecar-for", "", "the `ID` of the service instance whose sidecar it is")
	flags.StringVar(&o.id, "proxy-id", "", "the `ID` of the sidecar or gateway itself")
}

func (o *proxyOptions) check(gateway *gatewayOptions) error {
	switch {
	case o.sidecarFor == "" && o.id == "" && gateway.kind == "":
		return usagef("want --sidecar-for, --proxy-id or --gateway=mesh")
	case o.sidecarFor != "" && (o.id != "" || gateway.kind != ""):
		return usagef("--sidecar-for names the proxy: leave out --proxy-id and --gateway")
	}
	return nil
}

// find returns the proxy's ID and service name, as registered with the server.
func (o *proxyOptions) find(ctx context.Context, client *client, gateway *gatewayOptions) (id, service string, err error) {
	var services map[string]serviceAnswer
	if err := client.read(ctx, "/v1/agent/services", nil, &services); err != nil {
		return "", "", fmt.Errorf("services: %w", err)
	}
	if o.sidecarFor == "" {
		id := gateway.id(o.id)
		s, ok := services[id]
		switch {
		case !ok && gateway.kind != "":
			return "", "", fmt.Errorf("gateway %s: is not registered; --register does that", id)
		case !ok:
			return "", "", fmt.Errorf("proxy %s: is not registered; `isthmus services list` shows what is", id)
		case gateway.kind != "" && s.Kind != string(config.KindMeshGateway):
			return "", "", fmt.Errorf("gateway %s: is registered as %q: want kind %s", id, s.Kind, config.KindMeshGateway)
		case s.Kind == "":
			return "", "", fmt.Errorf("proxy %s: is a service and no proxy; want --sidecar-for %s", id, id)
		}
		return id, proxied(s), nil
	}
	var found []string
	for _, id := range sortedKeys(services) {
		s := services[id]
		if s.Kind == string(config.KindSidecar) && s.Proxy.DestinationServiceID == o.sidecarFor {
			found = append(found, id)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], proxied(services[found[0]]), nil
	case len(found) > 1:
		return "", "", fmt.Errorf("service %s: has %d sidecars (%s): name one by --proxy-id", o.sidecarFor, len(found), strings.Join(found, ", "))
	}
	if _, ok := services[o.sidecarFor]; !ok {
		return "", "", fmt.Errorf("service %s: is not registered; want the ID of a service that `isthmus services list` shows", o.sidecarFor)
	}
	return "", "", fmt.Errorf("service %s: has no sidecar; register it with connect { sidecar_service {} }", o.sidecarFor)
}

// proxied is the name that Envoy calls its cluster: the service behind the proxy.
func proxied(s serviceAnswer) string {
	if s.Proxy.DestinationServiceName != "" {
		return s.Proxy.DestinationServiceName
	}
	return s.Service
}

// gatewayOptions describe a mesh gateway, for --register.
type gatewayOptions struct {
	kind, name                 string
	register                   bool
	address, wan, egress, bind string
}

func (o *gatewayOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.kind, "gateway", "", "the `kind` of gateway: mesh")
	flags.StringVar(&o.name, "name", defaultGatewayName, "the gateway's service name")
	flags.BoolVar(&o.register, "register", false, "register the gateway first")
	flags.StringVar(&o.address, "address", "", "`IP:port` where peers' traffic comes in")
	flags.StringVar(&o.wan, "wan-address", "", "`host:port` that peers dial (default: --address)")
	flags.StringVar(&o.egress, "egress-address", "", "`IP:port` for own services in mode local (default: --address with the next port; none: no mode local)")
	flags.StringVar(&o.bind, "bind-address", "", "`IP:port` to listen at instead of --address, behind NAT or in a container")
}

func (o *gatewayOptions) check() error {
	switch {
	case o.kind != "" && o.kind != "mesh":
		return usagef("--gateway %q: want mesh; ingress, terminating and API gateways are not supported", o.kind)
	case o.kind == "" && o.register:
		return usagef("--register is for gateways: want --gateway=mesh; services are registered by `isthmus services register`")
	case o.register && o.address == "":
		return usagef("missing --address: where the gateway listens for peers' traffic")
	case o.kind == "" && o.address+o.wan+o.egress+o.bind != "", !o.register && o.address+o.wan+o.egress+o.bind != "":
		return usagef("--address, --wan-address, --egress-address and --bind-address are for --gateway=mesh --register")
	}
	return nil
}

// id is the gateway's ID: the name, unless --proxy-id says otherwise.
func (o *gatewayOptions) id(proxyID string) string {
	if proxyID != "" {
		return proxyID
	}
	return o.name
}

func (o *gatewayOptions) registerWith(ctx context.Context, client *client, proxyID string) error {
	service, err := o.service(o.id(proxyID))
	if err != nil {
		return err
	}
	if _, err := client.do(ctx, request{method: http.MethodPut, path: "/v1/agent/service/register", body: registration(service)}); err != nil {
		return fmt.Errorf("gateway %s: %w", service.ID, err)
	}
	return nil
}

func (o *gatewayOptions) service(id string) (*config.Service, error) {
	host, port, err := gatewayAddress("address", o.address, defaultGatewayPort)
	if err != nil {
		return nil, err
	}
	if net.ParseIP(host) == nil && o.bind == "" {
		return nil, usagef("--address %q: a gateway listens at an IP address: want one, or --bind-address IP:port beside it", o.address)
	}
	service := &config.Service{
		Kind: config.KindMeshGateway, ID: id, Name: o.name, Address: host, Port: port,
		TaggedAddresses: map[string]config.Address{"lan": {Address: host, Port: port}, "wan": {Address: host, Port: port}},
		Proxy:           &config.Proxy{Config: map[string]any{}},
	}
	if o.wan != "" {
		host, port, err := gatewayAddress("wan-address", o.wan, port)
		if err != nil {
			return nil, err
		}
		service.TaggedAddresses["wan"] = config.Address{Address: host, Port: port}
	}
	if o.egress != "none" {
		egress := config.Address{Address: host, Port: port + 1}
		if o.egress != "" {
			if egress.Address, egress.Port, err = gatewayAddress("egress-address", o.egress, port+1); err != nil {
				return nil, err
			}
		}
		service.TaggedAddresses["egress"] = egress
	}
	if o.bind != "" {
		host, port, err := gatewayAddress("bind-address", o.bind, port)
		if err != nil {
			return nil, err
		}
		service.Proxy.Config["bind_address"], service.Proxy.Config["bind_port"] = host, port
	}
	return service, nil
}

// gatewayAddress reads host:port, or a host alone with the port that is usual for it.
func gatewayAddress(flag, text string, usual int) (string, int, error) {
	if host := strings.Trim(text, "[]"); net.ParseIP(host) != nil || !strings.Contains(text, ":") && text != "" {
		text = net.JoinHostPort(host, strconv.Itoa(usual))
	}
	return splitHostPort(flag, text)
}

// workers is how many threads Envoy gets: Go knows the limits of the container, Envoy only the machine.
func (o *bootstrapOptions) workers() int {
	if o.concurrency > 0 {
		return o.concurrency
	}
	return runtime.GOMAXPROCS(0)
}
