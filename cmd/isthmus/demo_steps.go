package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// demoStep is one thing that the demo does. Command is what a person would type for it; empty: there is none.
type demoStep struct {
	title   string
	command string
	do      func(context.Context) (result string, err error)
}

// steps returns everything that happens, in order. Nothing is known to a step but files and addresses: all else goes
// through the CLI, as printed.
func (d *demo) steps() []demoStep {
	d.alpha, d.beta = newDemoCluster(d, "alpha"), newDemoCluster(d, "beta")
	token := filepath.Join(d.dir, "peering-token")
	steps := []demoStep{d.alpha.serve(), d.beta.serve(), {
		title:   "beta makes a peering token for alpha",
		command: d.beta.words("peering", "generate-token", "--name", "alpha") + " > " + token,
		do: func(ctx context.Context) (string, error) {
			text, err := d.beta.cli(ctx, "peering", "generate-token", "--name", "alpha")
			if err == nil {
				_, err = d.file("peering-token", text)
			}
			return "good once, for 24 hours", err
		},
	}}
	steps = append(steps,
		d.alpha.run("alpha establishes the peering with it", "", "peering", "establish", "--name", "beta", "--peering-token", "@"+token),
		d.waitFor("the peering is ACTIVE at both ends", d.active),
		d.alpha.gateway(), d.beta.gateway(), d.startDB(),
		d.beta.write("beta registers db, with a sidecar", "db.hcl", d.beta.dbDefinition(), "services", "register"),
		d.beta.sidecar("db"),
		d.beta.write("beta exports db to alpha", "exports.hcl", demoExports, "config", "write"),
		d.alpha.write("alpha registers web, whose upstream is db at beta", "web.hcl", d.alpha.webDefinition(), "services", "register"),
		d.alpha.sidecar("web"),
		d.waitFor("without an intention the call is refused", d.refused),
		d.beta.write("beta allows web of alpha to call db", "intentions.hcl", demoIntention, "config", "write"),
		d.waitFor("web calls db through both sidecars and beta's gateway", d.answered),
		d.beta.run("beta takes the intention away", "", "config", "delete", "--kind", "service-intentions", "--name", "db"),
		d.waitFor("the call is refused", d.refused),
		d.beta.write("beta puts the intention back", "intentions.hcl", demoIntention, "config", "write"),
		d.waitFor("the call works again", d.answered),
	)
	return steps
}

const demoExports = `Kind = "exported-services"
Name = "default"
Services = [
  { Name = "db", Consumers = [ { Peer = "alpha" } ] }
]
`

const demoIntention = `Kind = "service-intentions"
Name = "db"
Sources = [
  { Name = "web", Peer = "alpha", Action = "allow" }
]
`

func (c *demoCluster) dbDefinition() string {
	return fmt.Sprintf(`service {
  name = "db"
  port = %s
  connect { sidecar_service { address = "127.0.0.1", port = %s } }
}
`, c.app, c.inbound)
}

func (c *demoCluster) webDefinition() string {
	return fmt.Sprintf(`service {
  name = "web"
  port = %s
  connect { sidecar_service {
    address = "127.0.0.1"
    port    = %s
    proxy { upstreams = [ { destination_name = "db", destination_peer = "beta", local_bind_port = %s } ] }
  } }
}
`, c.app, c.inbound, c.upstream)
}

// waitFor is a step that waits until check returns nil, and prints what check told.
func (d *demo) waitFor(title string, check func(context.Context) (string, error)) demoStep {
	return demoStep{title: title, do: func(ctx context.Context) (string, error) { return d.poll(ctx, check) }}
}

// poll asks until check returns nil, at most for 20 seconds.
func (d *demo) poll(ctx context.Context, check func(context.Context) (string, error)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		result, err := check(ctx)
		if err == nil {
			return result, nil
		}
		if ended := d.procs.ended(); ended != nil {
			return "", ended
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("gave up: %w", err)
		case <-tick.C:
		}
	}
}
