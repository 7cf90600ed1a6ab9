package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/api"
	bootstrap "github.com/isthmus-mesh/isthmus/envoy-bootstrap"
	"github.com/isthmus-mesh/isthmus/internal/redact"
)

// bootstrapOptions are the flags of envoy-bootstrap.
type bootstrapOptions struct {
	proxy   proxyOptions
	gateway gatewayOptions

	admin, adminSocket, metrics   string
	xdsAddresses                  []string
	xdsCAFile, xdsName, tokenFile string
	zone                          string
	maxConnections, maxHeap       int64

	out, language string
	binary        string
	concurrency   int
	drain         int
	anyVersion    bool
}

func newBootstrapCommand() *cobra.Command {
	var o bootstrapOptions
	cmd, c := connected(&cobra.Command{
		Use:   "envoy-bootstrap --sidecar-for SERVICE-ID | --proxy-id ID | --gateway=mesh [-- ENVOY-ARGS…]",
		Short: "Write the bootstrap of one Envoy, or with -- run it",
		Long: "Writes what one Envoy needs to start, its token included, to a file that only you can read. With --, runs that Envoy with\n" +
			"the flags that Isthmus relies on and those after the --, hands it signals, and ends with its exit code.",
	})
	o.addFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		runs := cmd.ArgsLenAtDash() >= 0
		if n := cmd.ArgsLenAtDash(); len(args) > 0 && n != 0 {
			return usagef("unexpected argument %q: Envoy's own come after --", args[0])
		}
		return o.run(cmd, c, runs, args)
	}
	return cmd
}

func (o *bootstrapOptions) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	o.proxy.addFlags(flags)
	o.gateway.addFlags(flags)
	flags.StringVar(&o.admin, "admin-bind", "", "`IP:port` of Envoy's admin interface, which shows its token to whoever asks; default: a unix socket")
	flags.StringVar(&o.adminSocket, "admin-socket", "", "`path` of the admin's unix socket")
	flags.StringVar(&o.metrics, "metrics-bind", "", "`IP:port` that answers /metrics and /ready and nothing else; default: none")
	flags.StringSliceVar(&o.xdsAddresses, "xds-addr", nil, "`host:port` of the xDS server, if not as the server says; may be repeated")
	flags.StringVar(&o.xdsCAFile, "xds-ca-file", "", "`file` with the roots that vouch for the xDS server, if not as the server says")
	flags.StringVar(&o.xdsName, "xds-server-name", "", "`name` in the xDS server's certificate, if not as the server says")
	flags.StringVar(&o.tokenFile, "proxy-token-file", "", "`file` with the proxy's token; default: a new one is made")
	flags.StringVar(&o.zone, "zone", "", "the zone that Envoy is in")
	flags.Int64Var(&o.maxConnections, "max-connections", 0, "downstream connections that Envoy accepts at a time (default 50000)")
	flags.Int64Var(&o.maxHeap, "max-heap-bytes", 0, "memory near which Envoy stops accepting (default: no limit)")
	flags.StringVar(&o.out, "out", "", "`file` to write, - for stdout; default envoy-<proxy id>.json, with -- none that stays")
	flags.StringVar(&o.language, "format", "", "json or yaml; default: by the end of --out, else json")
	flags.StringVar(&o.binary, "envoy-binary", "", "`path` of Envoy (ISTHMUS_ENVOY, PATH, the cache of make envoy)")
	flags.IntVar(&o.concurrency, "concurrency", 0, "Envoy's worker threads (default: the CPUs that we may use)")
	flags.IntVar(&o.drain, "drain-time-s", 0, "`seconds`: Envoy is started with --drain-strategy immediate and this --drain-time-s, which it does not report itself; with -- that is done (default 8), else only say so if it is so")
	flags.BoolVar(&o.anyVersion, "ignore-envoy-compatibility", false, "go on with an Envoy that is too old; what is promised does not hold then")
}

// run does everything that can fail without the server first, so that a typing error registers nothing.
func (o *bootstrapOptions) run(cmd *cobra.Command, c *connection, runs bool, args []string) error {
	if err := errors.Join(o.check(runs), o.settleDrain(runs, args)); err != nil {
		return err
	}
	ctx := cmd.Context()
	binary, err := o.findEnvoy(cmd, runs)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	var info api.BootstrapInfo
	if err := client.read(ctx, "/isthmus/v1/bootstrap-info", nil, &info); err != nil {
		return fmt.Errorf("bootstrap info: %w", err)
	}
	node, err := o.node(ctx, cmd, client)
	if err != nil {
		return err
	}
	node.DrainSeconds = o.drain
	cfg := bootstrap.Config{Node: node, Limits: bootstrap.Limits{Connections: o.maxConnections, HeapBytes: o.maxHeap}}
	if cfg.Admin, cfg.Metrics, err = o.endpoints(node.ID); err != nil {
		return err
	}
	if cfg.XDS, err = o.xds(ctx, client, info, node.ID); err != nil {
		return err
	}
	text, err := bootstrap.Bootstrap(cfg)
	if err == nil && o.inYAML() {
		text, err = bootstrap.YAML(text)
	}
	if err != nil {
		return err
	}
	if runs {
		return o.runEnvoy(cmd, binary, node.ID, text, args)
	}
	return o.write(cmd, binary, node.ID, text)
}

func (o *bootstrapOptions) check(runs bool) error {
	switch {
	case o.language != "" && o.language != "json" && o.language != "yaml":
		return usagef("--format %q: want json or yaml", o.language)
	case runs && o.out == "-":
		return usagef("--out - prints the bootstrap, -- runs Envoy: want one of them")
	case o.admin != "" && o.adminSocket != "":
		return usagef("--admin-bind and --admin-socket: want one of them")
	}
	return errors.Join(o.proxy.check(&o.gateway), o.gateway.check())
}

// settleDrain sets the drain time that the bootstrap notes. It stays 0 where somebody else starts Envoy and has not said
// how: then isthmus proxies shows that open connections may live on.
func (o *bootstrapOptions) settleDrain(runs bool, args []string) error {
	if seconds, ok := bootstrap.FlagValue(args, "--drain-time-s"); ok {
		n, err := strconv.Atoi(seconds)
		if err != nil || n < 1 {
			return usagef("--drain-time-s %q: want seconds, 1 or more", seconds)
		}
		o.drain = n
	}
	if o.drain < 0 {
		return usagef("--drain-time-s %d: want seconds, 1 or more", o.drain)
	}
	if runs && o.drain == 0 {
		o.drain = bootstrap.DrainSeconds
	}
	return nil
}

// arguments is Envoy's command line for a bootstrap file.
func (o *bootstrapOptions) arguments(file string, args []string) []string {
	if _, said := bootstrap.FlagValue(args, "--drain-time-s"); o.drain > 0 && !said {
		args = append([]string{"--drain-time-s", strconv.Itoa(o.drain)}, args...)
	}
	return bootstrap.Arguments(file, o.workers(), args)
}

func (o *bootstrapOptions) inYAML() bool {
	if o.language == "" {
		ext := filepath.Ext(o.out)
		return ext == ".yaml" || ext == ".yml"
	}
	return o.language == "yaml"
}

// findEnvoy returns the binary that will be run, checked. Where only a file is asked for, an Envoy that is not here is
// none of our business, and one that is too old is.
func (o *bootstrapOptions) findEnvoy(cmd *cobra.Command, runs bool) (string, error) {
	binary, err := bootstrap.Find(o.binary)
	if err != nil {
		if !runs && errors.Is(err, bootstrap.ErrNoEnvoy) {
			return "envoy", nil
		}
		return "", err
	}
	_, err = bootstrap.CheckVersion(cmd.Context(), binary)
	if err != nil && o.anyVersion {
		fmt.Fprintf(cmd.ErrOrStderr(), "Warning: %v\n", err)
		err = nil
	}
	return binary, err
}

// node finds the proxy at the server, and registers it first where that is asked.
func (o *bootstrapOptions) node(ctx context.Context, cmd *cobra.Command, client *client) (bootstrap.Node, error) {
	if o.gateway.register {
		if err := o.gateway.registerWith(ctx, client, o.proxy.id); err != nil {
			return bootstrap.Node{}, err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "Registered service: %s\n", o.gateway.name)
	}
	id, service, err := o.proxy.find(ctx, client, &o.gateway)
	return bootstrap.Node{ID: id, Cluster: service, Zone: o.zone, Families: bootstrap.Families()}, err
}

func (o *bootstrapOptions) endpoints(id string) (admin, metrics bootstrap.Endpoint, err error) {
	at := o.admin
	if o.adminSocket != "" {
		if at, err = filepath.Abs(o.adminSocket); err != nil {
			return admin, metrics, fmt.Errorf("admin socket %s: %w", o.adminSocket, err)
		}
	}
	if at == "" {
		if at, err = bootstrap.SocketPath(id); err != nil {
			return admin, metrics, err
		}
	}
	if admin, err = bootstrap.ParseEndpoint(at); err != nil {
		return admin, metrics, fmt.Errorf("admin interface: %w", err)
	}
	if o.metrics != "" {
		if metrics, err = bootstrap.ParseEndpoint(o.metrics); err != nil {
			err = fmt.Errorf("metrics: %w", err)
		}
	}
	return admin, metrics, err
}

// xds returns where the xDS server is, as the flags or else the server say, and the proxy's token.
func (o *bootstrapOptions) xds(ctx context.Context, client *client, info api.BootstrapInfo, id string) (bootstrap.XDS, error) {
	xds := bootstrap.XDS{Addresses: []string{info.XDSAddress}, CAPEM: info.XDSCAPEM, SAN: info.XDSServerName}
	if len(o.xdsAddresses) > 0 {
		xds.Addresses = o.xdsAddresses
	}
	if o.xdsName != "" {
		xds.SAN = o.xdsName
	}
	if o.xdsCAFile != "" {
		text, err := os.ReadFile(o.xdsCAFile)
		if err != nil {
			return xds, fmt.Errorf("roots of the xDS server: %w", err)
		}
		xds.CAPEM = string(text)
	}
	var err error
	if o.tokenFile != "" {
		xds.Token, err = tokenIn(o.tokenFile)
	} else {
		xds.Token, err = client.proxyToken(ctx, id)
	}
	return xds, err
}

// proxyToken asks for a token that is good for one proxy's own configuration.
func (c *client) proxyToken(ctx context.Context, id string) (redact.String, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	created, err := c.createToken(ctx, tokenRequest{Role: "proxy", Proxy: id, Description: "envoy-bootstrap on " + host, Bootstrap: true})
	return redact.NewString(created.Secret), err
}

// write puts the bootstrap where it was asked, and says how to start Envoy with it.
func (o *bootstrapOptions) write(cmd *cobra.Command, binary, id string, text []byte) error {
	if o.out == "-" {
		_, err := cmd.OutOrStdout().Write(text)
		return err
	}
	file := o.out
	if file == "" {
		file = "envoy-" + bootstrap.FileName(id) + ".json"
		if o.inYAML() {
			file = strings.TrimSuffix(file, ".json") + ".yaml"
		}
	}
	if err := bootstrap.WriteFile(file, text); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "Bootstrap written: %s\n", file)
	next(cmd, "to start Envoy", binary+" "+strings.Join(o.arguments(file, nil), " "))
	if o.drain == 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "If it is started so, write the bootstrap with --drain-time-s %d: Envoy does not report it, and isthmus proxies would warn.\n", bootstrap.DrainSeconds)
	}
	return nil
}

// runEnvoy runs Envoy on a file that goes when it ends, unless a name was asked for.
func (o *bootstrapOptions) runEnvoy(cmd *cobra.Command, binary, id string, text []byte, args []string) error {
	file := o.out
	if file == "" {
		folder, err := bootstrap.RuntimeFolder()
		if err != nil {
			return err
		}
		file = filepath.Join(folder, fmt.Sprintf("%s.%d.json", bootstrap.FileName(id), os.Getpid()))
		if o.inYAML() {
			file = strings.TrimSuffix(file, ".json") + ".yaml"
		}
		defer os.Remove(file)
	}
	if err := bootstrap.WriteFile(file, text); err != nil {
		return err
	}
	code, err := bootstrap.Process{
		Binary: binary, Arguments: o.arguments(file, args),
		Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr(),
	}.Run(cmd.Context())
	if err == nil && code != 0 {
		err = exitCode(code)
	}
	return err
}
