package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/config"
)

// notePeers says of each name that is no peer of the server so. To refer to a peer before it is there is fine, and so is
// what was written: only a person can tell that from a slip.
func notePeers(cmd *cobra.Command, c *client, names []string) {
	slices.Sort(names)
	names = slices.Compact(names)
	names = slices.DeleteFunc(names, func(name string) bool { return name == "" || name == config.Wildcard })
	if len(names) == 0 {
		return
	}
	var peerings []peeringAnswer
	if err := c.look(cmd.Context(), "/v1/peerings", nil, &peerings); err != nil {
		return // it is written, and status will say it too
	}
	for _, name := range names {
		if !slices.ContainsFunc(peerings, func(p peeringAnswer) bool { return p.Name == name }) {
			fmt.Fprintf(cmd.ErrOrStderr(), "Note: there is no peer %s yet; `isthmus peering list` shows all\n", name)
		}
	}
}

// peersOf returns the peers that an entry refers to.
func peersOf(entry config.Entry) []string {
	var names []string
	switch e := entry.(type) {
	case *config.ExportedServices:
		for _, service := range e.Services {
			for _, consumer := range service.Consumers {
				names = append(names, consumer.Peer)
			}
		}
	case *config.ServiceIntentions:
		for _, source := range e.Sources {
			names = append(names, source.Peer)
		}
	case *config.ServiceDefaults:
		if e.UpstreamConfig != nil {
			for _, override := range e.UpstreamConfig.Overrides {
				names = append(names, override.Peer)
			}
		}
	case *config.PeerPolicy:
		names = append(names, e.Name)
	}
	return names
}

// peersDialled returns the peers that a service, or its sidecar, has upstreams of.
func peersDialled(service *config.Service) []string {
	var names []string
	for s := service; s != nil; s = s.Sidecar {
		if s.Proxy != nil {
			for _, upstream := range s.Proxy.Upstreams {
				names = append(names, upstream.DestinationPeer)
			}
		}
	}
	return names
}
