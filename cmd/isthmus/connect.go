package main

import (
	"github.com/spf13/cobra"
)

// newConnectCommand returns `connect envoy` with Consul's flags, for scripts that are written for it: without -bootstrap
// it runs Envoy.
func newConnectCommand() *cobra.Command {
	var o bootstrapOptions
	var print, mesh bool
	var xdsAddress string
	envoy, c := connected(&cobra.Command{
		Use:   "envoy -sidecar-for SERVICE-ID | -proxy-id ID | -gateway mesh [-bootstrap] [-- ENVOY-ARGS…]",
		Short: "Run one Envoy, or print its bootstrap: as envoy-bootstrap, with Consul's flags",
	})
	o.addFlags(envoy)
	flags := envoy.Flags()
	flags.BoolVar(&print, "bootstrap", false, "print the bootstrap, which holds the proxy's token, and run nothing")
	flags.BoolVar(&mesh, "mesh-gateway", false, "same as -gateway mesh")
	flags.StringVar(&o.gateway.name, "service", defaultGatewayName, "same as -name")
	flags.StringVar(&xdsAddress, "grpc-addr", "", "same as -xds-addr")
	flags.StringVar(&o.xdsCAFile, "grpc-ca-file", "", "same as -xds-ca-file")
	envoy.RunE = func(cmd *cobra.Command, args []string) error {
		if n := cmd.ArgsLenAtDash(); len(args) > 0 && n != 0 {
			return usagef("unexpected argument %q: Envoy's own come after --", args[0])
		}
		if mesh {
			o.gateway.kind = "mesh"
		}
		if xdsAddress != "" {
			o.xdsAddresses = []string{trimScheme(xdsAddress)}
		}
		if print {
			o.out = "-"
		}
		return o.run(cmd, c, !print, args)
	}
	return group("connect", "Consul's name for what starts proxies", envoy)
}

// trimScheme takes off what Consul's addresses may start with: ours are TLS in any case.
func trimScheme(address string) string {
	for _, scheme := range []string{"https://", "http://"} {
		if len(address) > len(scheme) && address[:len(scheme)] == scheme {
			return address[len(scheme):]
		}
	}
	return address
}
