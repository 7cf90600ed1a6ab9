package e2e

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/isthmus-mesh/isthmus/e2e/lab"
)

// offer registers a service at the Consul, which the peer's may call, and starts its sidecar until the end of the step.
func (x *exchanged) offer(service string, offset int) *lab.Envoy {
	x.T.Helper()
	x.consul.register(service, offset)
	x.consul.mustWrite(intention(service, "alpha", "alpha", "allow"))
	return x.consul.Sidecar(service)
}

// oddNames: names with an underscore and with upper case are called. To a Consul two names that differ only in case are
// one: the instance of the one that is registered last is all it has. Here the younger is not routable.
func (x *exchanged) oddNames() {
	x.offer("Ledger_V2", mixedCase)
	x.offer("pay_out", underscore)
	x.exports(x.consul, "beta", "Ledger_V2", "pay_out")
	x.Eventually("a name with an underscore", x.isthmus.reaches(underscore, "pay_out@beta"))
	x.Eventually("a name with upper case", x.isthmus.reaches(mixedCase, "Ledger_V2@beta"))
	dump, err := x.isthmus.sidecar.Admin("/config_dump?include_eds")
	if err != nil {
		x.T.Fatal(err)
	}
	for _, want := range []string{`"sni": "ledger_v2.default.default.alpha.external.`, `/ns/default/dc/dc1/svc/Ledger_V2"`} {
		if !strings.Contains(dump, want) {
			x.T.Errorf("the sidecar's configuration has no %s", want)
		}
	}

	x.consul.register("ledger_v2", otherCase)
	x.exports(x.consul, "beta", "Ledger_V2", "pay_out", "ledger_v2")
	x.Eventually("the younger name", x.notRoutable("ledger_v2", "name differs from Ledger_V2 only in upper and lower case"))
	if elder := x.imported()["Ledger_V2"]; !elder.Routable {
		x.T.Errorf("the elder name: %+v", elder)
	}
	x.refused(otherCase)
	x.consul.CLI("services", "deregister", "-id", "ledger_v2")
}

// refused fails the test unless nobody listens at an upstream.
func (x *exchanged) refused(offset int) {
	x.T.Helper()
	call, err := x.isthmus.host.Open(x.Context(), x.isthmus.host.Upstream+":"+port(upPort, offset))
	if err == nil {
		_ = call.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		x.T.Errorf("upstream %s: %v: want nobody to listen", upstreams[offset], err)
	}
}

// virtualService: a name at the Consul that stands for another service. The Consul's gateways have a way in for it once it
// has an instance with a sidecar of its own, which nobody is sent to.
func (x *exchanged) virtualService() {
	x.consul.mustWrite("Kind = \"service-resolver\"\nName = \"virtual\"\nRedirect { Service = \"beta\" }\n")
	x.exports(x.consul, "beta", "virtual")
	x.Eventually("the virtual service is imported", func() error {
		if found := x.imported()["virtual"]; !found.Routable || found.Gateways != 1 {
			return fmt.Errorf("status says %+v", found)
		}
		return nil
	})
	x.consul.register("virtual", virtual)
	x.Eventually("the virtual service", x.isthmus.reaches(virtual, "beta"))
	var gateways []struct {
		Service struct {
			Connect struct{ PeerMeta struct{ SpiffeID []string } }
		}
	}
	if err := x.isthmus.JSON("/v1/health/connect/virtual?peer=beta", &gateways); err != nil {
		x.T.Fatal(err)
	}
	if len(gateways) != 1 || !slices.ContainsFunc(gateways[0].Service.Connect.PeerMeta.SpiffeID, func(id string) bool { return strings.HasSuffix(id, "/svc/beta") }) {
		x.T.Errorf("the gateways of the virtual service: %+v: want the identity of beta among theirs", gateways)
	}
	x.consul.intend(x.isthmus, "deny")
	x.Eventually("denied by what it stands for", not(x.isthmus.reaches(virtual, "beta"), "it is answered"))
	x.consul.intend(x.isthmus, "allow")
	x.Eventually("allowed again", x.isthmus.reaches(virtual, "beta"))
	x.exports(x.consul, "beta")
	x.Eventually("it is gone", func() error {
		if found, there := x.imported()["virtual"]; there {
			return fmt.Errorf("it is imported: %+v", found)
		}
		return nil
	})
	x.Eventually("no way to it", not(x.isthmus.reaches(virtual, "beta"), "it is answered"))
	x.Eventually("a way to what it stood for", x.isthmus.calls(x.consul))
	x.consul.CLI("config", "delete", "-kind", "service-resolver", "-name", "virtual")
	x.consul.CLI("services", "deregister", "-id", "virtual") // and with it its sidecar
}

// httpService: an http service of the Consul is shown and not routed, whatever its intentions say, beside one that is.
func (x *exchanged) httpService() {
	x.consul.mustWrite("Kind = \"service-defaults\"\nName = \"page\"\nProtocol = \"http\"\n")
	page := x.offer("page", overHTTP)
	held := x.isthmus.hold()
	x.exports(x.consul, "beta", "page")
	x.Eventually("the http service", x.notRoutable("page", "protocol http, wanted tcp"))
	x.consul.mustWrite(`
Kind    = "service-intentions"
Name    = "page"
Sources = [
  { Name = "alpha", Peer = "alpha", Permissions = [ { Action = "deny", HTTP { PathExact = "/not/for/the/peer" } } ] },
  { Name = "beta", Permissions = [ { Action = "deny", HTTP { PathExact = "/not/for/ours" } } ] },
]`)
	x.Eventually("its permissions are in force", func() error {
		dump, err := page.Admin("/config_dump")
		if err == nil && (!strings.Contains(dump, "/not/for/the/peer") || !strings.Contains(dump, "/not/for/ours")) {
			err = errors.New("its sidecar does not have them")
		}
		return err
	})
	names := strings.Join(x.isthmus.sidecar.Names(), " ")
	if strings.Contains(names, "page") || !strings.Contains(names, "out~beta~beta~default") {
		x.T.Errorf("a sidecar here has configuration for the http service, or none for the other: %s", names)
	}
	x.refused(overHTTP)
	active(x.isthmus, x.consul)
	bothCall(x.isthmus, x.consul)
	if err := held.Open(); err != nil {
		x.T.Errorf("a connection to the tcp service: %v", err)
	}
}

// sameName: a service that both sides have and export. Each application reaches the one that its upstream means.
func (x *exchanged) sameName() {
	for _, ends := range [][2]*side{{x.isthmus, x.consul}, {x.consul, x.isthmus}} {
		s, peer := ends[0], ends[1]
		s.register("twin", twin)
		s.mustWrite(fmt.Sprintf(`
Kind    = "service-intentions"
Name    = "twin"
Sources = [ { Name = %q, Action = "allow" }, { Name = %q, Peer = %q, Action = "allow" } ]`, s.name, peer.name, peer.name))
		s.Sidecar("twin")
		x.exports(s, s.name, "twin")
	}
	for _, ends := range [][2]*side{{x.isthmus, x.consul}, {x.consul, x.isthmus}} {
		s, peer := ends[0], ends[1]
		x.Eventually(s.name+" calls its own", s.reaches(localTwin, "twin@"+s.name))
		x.Eventually(s.name+" calls that of "+peer.name, s.reaches(twin, "twin@"+peer.name))
	}
}

// everything: an export of all services is one of all but the Consul's own, gateways and sidecars, and of those that come.
func (x *exchanged) everything() {
	is := func(want ...string) func() error {
		return func() error {
			if found := slices.Sorted(maps.Keys(x.imported())); !slices.Equal(found, want) {
				return fmt.Errorf("%v: want %v", found, want)
			}
			return nil
		}
	}
	x.consul.CLI("services", "register", "-name", "plain", "-port", "9100")
	x.exports(x.consul, "*")
	x.Eventually("all that there is", is("beta", "page", "pay_out", "plain", "twin"))
	x.Eventually("a service without a sidecar", x.notRoutable("plain", "wanted a gateway there and a sidecar of plain"))
	x.offer("virtual", virtual)
	x.Eventually("one more service", x.isthmus.reaches(virtual, "virtual@beta"))
	x.consul.CLI("services", "deregister", "-id", "virtual") // and with it its sidecar
	x.Eventually("one less", is("beta", "page", "pay_out", "plain", "twin"))
	x.exports(x.consul, "beta")
	x.Eventually("only one", is("beta"))
	x.Eventually("a call of it", x.isthmus.calls(x.consul))
}

// hostNames: the Consul's gateway is at a name that means nothing, and then at one that is found.
func (x *exchanged) hostNames() {
	name, address := x.names.Gateway(x.consul.host)
	free, err := x.consul.host.FreePort(address)
	if err != nil {
		x.T.Fatal(err)
	}
	const nowhere = "nowhere.invalid"
	x.gatewayAt(address, free, nowhere)
	x.Eventually("a name that does not resolve", func() error {
		return x.said(fmt.Sprintf("gateway address %q: is no IP address and did not resolve", nowhere), []string{"why", "alpha", "beta@beta"})
	})
	x.Eventually("no way there", not(x.isthmus.calls(x.consul), "it is answered"))
	x.gatewayAt(address, free, name)
	x.Eventually("a call by "+name, x.isthmus.calls(x.consul))
}
