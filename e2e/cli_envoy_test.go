package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// operator is somebody who knows Consul's command alone and runs it against an Isthmus.
type operator struct {
	*lab.Cluster
	program string
	envoys  *lab.Consul // starts Envoys with a given bootstrap on the cluster's host
}

func newOperator(l *lab.Lab, name string) *operator {
	l.T.Helper()
	c := l.Cluster(name)
	return &operator{c, filepath.Join(programs(l.T), consulServer), &lab.Consul{Lab: l, Name: name, Host: c.Host}}
}

// consul runs Consul's command, which must succeed, with the operator's token, and returns what it printed.
func (o *operator) consul(args ...string) string {
	o.Lab.T.Helper()
	cmd := o.Host.Command(o.program, args...)
	cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+o.HTTP, "CONSUL_HTTP_TOKEN_FILE="+o.DataDir+"/operator.token")
	out, err := cmd.Output()
	if err != nil {
		text := []byte{}
		if exit, ok := err.(*exec.ExitError); ok {
			text = exit.Stderr
		}
		o.Lab.T.Fatalf("%s: consul %s: %v\n%s%s", o.Name, strings.Join(args, " "), err, out, text)
	}
	return strings.TrimSpace(string(out))
}

// file writes text to a file and returns its name.
func (o *operator) file(name, text string) string {
	o.Lab.T.Helper()
	return o.Lab.Write(o.Name+"-"+name, text)
}

// envoy starts the Envoy of a registered proxy with the bootstrap that `consul connect envoy` prints.
func (o *operator) envoy(proxy string, args ...string) *lab.Envoy {
	o.Lab.T.Helper()
	roots := o.file("roots.pem", o.CLI("ca", "roots", "--pem"))
	token, _, _ := strings.Cut(o.CLI("token", "create", "--proxy", proxy), "\n")
	admin := o.envoys.AdminAddress()
	bootstrap := o.consul(append([]string{"connect", "envoy", "-bootstrap", "-ignore-envoy-compatibility", "-admin-bind", admin,
		"-grpc-addr", "https://" + o.Host.XDS + ":" + lab.XDSPort, "-grpc-ca-file", roots, "-token", token}, args...)...)
	return o.envoys.RunEnvoy(proxy, admin, bootstrap)
}

// gateway registers a mesh gateway as Consul's command does, with an address for its own cluster and one for peers, and
// starts it.
func (o *operator) gateway() *lab.Envoy {
	o.Lab.T.Helper()
	o.consul("connect", "envoy", "-gateway=mesh", "-register", "-service", "mesh-gateway", "-bootstrap",
		"-address", o.Host.Egress+":8443", "-wan-address", o.Host.WAN+":8443")
	return o.envoy("mesh-gateway", "-gateway=mesh")
}

// sidecar registers a service with its sidecar and starts that.
func (o *operator) sidecar(name, upstreams string) *lab.Envoy {
	o.Lab.T.Helper()
	o.consul("services", "register", o.file(name+".hcl", fmt.Sprintf(`
service {
  name    = %q
  address = %q
  port    = %s
  connect { sidecar_service {
    address = %q
    port    = %s
    proxy {
      local_service_address = %q
      upstreams = [ %s ]
    }
  } }
}`, name, o.Host.App, appPort, o.Host.Sidecar, sidecarPort, o.Host.App, upstreams)))
	return o.envoy(name+"-sidecar-proxy", "-sidecar-for", name)
}

// TestConsulCommandRunsEnvoys: two operators with nothing but Consul's command and its files peer two clusters; the
// bootstraps that the command prints bring real bytes from web@alpha to db@beta, for whom the intention says.
func TestConsulCommandRunsEnvoys(t *testing.T) {
	l := lab.New(t)
	alpha, beta := newOperator(l, "alpha"), newOperator(l, "beta")
	alpha.consul("peering", "establish", "-name", "beta", "-peering-token", beta.consul("peering", "generate-token", "-name", "alpha"))
	gatewayB := beta.gateway()
	l.App(beta.Host, "db@beta", beta.Host.App+":"+appPort, false)
	beta.sidecar("db", "")
	beta.consul("config", "write", beta.file("export.hcl", `
Kind = "exported-services"
Name = "default"
Services = [{ Name = "db", Consumers = [{ Peer = "alpha" }] }]`))
	beta.consul("config", "write", beta.file("allow.hcl", `
Kind = "service-intentions"
Name = "db"
Sources = [{ Name = "web", Peer = "alpha", Action = "allow" }]`))
	web := alpha.sidecar("web", fmt.Sprintf(`{ destination_name = "db", destination_peer = "beta", local_bind_address = %q, local_bind_port = %s }`,
		alpha.Host.Upstream, upPort))

	answers := func() error { return alpha.Host.Answer(l.Context(), up(alpha.Cluster, 0), "db@beta") }
	l.Eventually("web@alpha reaches db@beta", answers)
	if n := gatewayB.Stat("tcp.exp~.*downstream_cx_total"); n == 0 {
		t.Error("no connection went through beta's gateway")
	}
	if n := web.Stat(`^cluster_manager\.cds\.update_rejected$|^listener_manager\.lds\.update_rejected$`); n != 0 {
		t.Errorf("web's sidecar refused %d updates", n)
	}
	beta.consul("config", "delete", "-kind", "service-intentions", "-name", "db")
	l.Promise("revoked: new calls are refused", time.Second, func() error {
		if answers() == nil {
			return fmt.Errorf("db still answers")
		}
		return nil
	})
	beta.consul("config", "write", beta.Lab.Path("beta-allow.hcl"))
	l.Promise("granted again: calls work", time.Second, answers)
	if warnings := beta.CLI("proxies"); !strings.Contains(warnings, "db-sidecar-proxy") {
		t.Errorf("proxies:\n%s", warnings)
	}
}
