package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/config"
)

func newServicesCommand() *cobra.Command {
	cmd, c := connected(group("services", "Register the services of this node"))
	cmd.AddCommand(newRegisterCommand(c), newDeregisterCommand(c), newServicesListCommand(c))
	return cmd
}

// serviceAnswer is one service of the node as the server describes it.
type serviceAnswer struct {
	Kind            string
	ID, Service     string
	Tags            []string
	Address         string
	Port            int
	TaggedAddresses map[string]config.Address
	Proxy           struct{ DestinationServiceName, DestinationServiceID string }
}

func newRegisterCommand(c *connection) *cobra.Command {
	var flags serviceFlags
	cmd := &cobra.Command{
		Use:   "register FILE…|- | -name NAME [-port PORT]",
		Short: "Register services from files, or one by flags",
	}
	flags.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		services, err := flags.services(args, cmd.InOrStdin())
		if err != nil {
			return err
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		for _, service := range services {
			if _, err := client.do(cmd.Context(), request{method: http.MethodPut, path: "/v1/agent/service/register", body: registration(service)}); err != nil {
				return fmt.Errorf("service %s: %w", service.ID, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Registered service: %s\n", service.Name)
		}
		var peers []string
		for _, service := range services {
			peers = append(peers, peersDialled(service)...)
			if service.Sidecar != nil {
				next(cmd, "for its proxy", "isthmus envoy-bootstrap --sidecar-for "+service.ID+" --")
			}
		}
		notePeers(cmd, client, peers)
		return nil
	}
	return cmd
}

// registration returns the body that registers a service. A sidecar's ID is left out: it follows from the service's, and
// a Consul refuses to be told it.
func registration(service *config.Service) map[string]any {
	body := config.EncodeService(service)
	if connect, ok := body["Connect"].(map[string]any); ok {
		if sidecar, ok := connect["SidecarService"].(map[string]any); ok {
			delete(sidecar, "ID")
		}
	}
	return body
}

// serviceFlags describe a service where no file does.
type serviceFlags struct {
	id, name, address, kind string
	port                    int
	tags                    []string
	meta, tagged            map[string]string
}

func (f *serviceFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.id, "id", "", "the instance's ID (default: its name)")
	cmd.Flags().StringVar(&f.name, "name", "", "the service's name")
	cmd.Flags().StringVar(&f.address, "address", "", "IP or host name (default: the node's)")
	cmd.Flags().IntVar(&f.port, "port", 0, "port")
	cmd.Flags().StringVar(&f.kind, "kind", "", "connect-proxy or mesh-gateway; nothing for an ordinary service")
	cmd.Flags().StringSliceVar(&f.tags, "tag", nil, "a tag; may be repeated")
	cmd.Flags().StringToStringVar(&f.meta, "meta", nil, "`key=value`; may be repeated")
	cmd.Flags().StringToStringVar(&f.tagged, "tagged-address", nil, "`name=host:port` (lan, wan, egress); may be repeated")
}

// services returns what the files say, or the flags. All files are read and checked before anything is sent.
func (f *serviceFlags) services(files []string, stdin io.Reader) ([]*config.Service, error) {
	switch {
	case len(files) == 0 && f.name == "":
		return nil, usagef("want files of service definitions, or --name")
	case len(files) > 0 && f.name != "":
		return nil, usagef("want files or --name, not both")
	case len(files) > 0:
		var all []*config.Service
		for _, file := range files {
			name, text, err := readInput(file, stdin)
			if err != nil {
				return nil, err
			}
			services, err := config.ParseServices(name, text)
			if err != nil {
				return nil, err
			}
			all = append(all, services...)
		}
		return all, nil
	}
	service := &config.Service{
		Kind: config.ServiceKind(f.kind), ID: f.id, Name: f.name, Address: f.address, Port: f.port, Tags: f.tags, Meta: f.meta,
	}
	if service.ID == "" {
		service.ID = service.Name
	}
	for _, name := range sortedKeys(f.tagged) {
		host, port, err := splitHostPort("tagged-address "+name, f.tagged[name])
		if err != nil {
			return nil, err
		}
		if service.TaggedAddresses == nil {
			service.TaggedAddresses = map[string]config.Address{}
		}
		service.TaggedAddresses[name] = config.Address{Address: host, Port: port}
	}
	return []*config.Service{service}, nil
}

// splitHostPort reads the host:port that a flag wants.
func splitHostPort(flag, text string) (string, int, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" {
		return "", 0, usagef("--%s %q: want host:port", flag, text)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return "", 0, usagef("--%s %q: want a port from 1 to 65535", flag, text)
	}
	return host, int(number), nil
}

func newDeregisterCommand(c *connection) *cobra.Command {
	var id string
	cmd := &cobra.Command{Use: "deregister FILE…|- | -id ID", Short: "Remove services of this node"}
	cmd.Flags().StringVar(&id, "id", "", "the instance's ID")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ids := []string{id}
		if (id == "") == (len(args) == 0) {
			return usagef("want files of service definitions, or --id")
		}
		if id == "" {
			services, err := (&serviceFlags{}).services(args, cmd.InOrStdin())
			if err != nil {
				return err
			}
			ids = nil
			for _, service := range services {
				ids = append(ids, service.ID)
			}
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		for _, id := range ids {
			if _, err := client.do(cmd.Context(), request{method: http.MethodPut, path: "/v1/agent/service/deregister/" + segment(id)}); err != nil {
				return fmt.Errorf("service %s: %w", id, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Deregistered service: %s\n", id)
		}
		return nil
	}
	return cmd
}

func newServicesListCommand(c *connection) *cobra.Command {
	var filter string
	cmd := &cobra.Command{Use: "list", Short: "List the services of this node, proxies and gateways included", Args: noArgs}
	out := formatted(cmd)
	cmd.Flags().StringVar(&filter, "filter", "", "Consul's filter `expression`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		query := url.Values{}
		if filter != "" {
			query.Set("filter", filter)
		}
		body, err := client.get(cmd.Context(), "/v1/agent/services", query)
		if err != nil {
			return fmt.Errorf("services: %w", err)
		}
		var services map[string]serviceAnswer
		return out.show(cmd, body, &services, func(w io.Writer) {
			rows := [][]string{{"ID", "Service", "Kind", "Address", "For", "Tags"}}
			for _, id := range sortedKeys(services) {
				s := services[id]
				rows = append(rows, []string{
					s.ID, s.Service, orDash(s.Kind), net.JoinHostPort(s.Address, strconv.Itoa(s.Port)),
					orDash(s.Proxy.DestinationServiceName), strings.Join(s.Tags, ","),
				})
			}
			table(w, rows)
		})
	}
	return cmd
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
