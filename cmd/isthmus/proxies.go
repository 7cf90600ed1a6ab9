package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/ca"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds"
)

// drainUnknown is what Envoy does by itself: it lets connections live for up to ten minutes after their chain went.
const drainUnknown = "open connections may outlive a revocation by up to 600 s: start Envoy with --drain-strategy immediate --drain-time-s 8 on a bootstrap made with --drain-time-s 8; isthmus envoy-bootstrap -- does both"

// proxies shows what xds knows of its streams in the API's words.
func (p *plane) proxies() []api.Proxy {
	list := []api.Proxy{}
	for _, status := range p.xds.Proxies() {
		list = append(list, apiProxy(status))
	}
	return list
}

// firstStop is the metric of when the first connected proxy would stop without us.
func (p *plane) firstStop() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "isthmus_xds_first_leaf_expiry_timestamp_seconds",
		Help: "When the first certificate of a connected proxy ends; NaN: there is none.",
	}, func() float64 {
		first := math.NaN()
		for _, proxy := range p.proxies() {
			if proxy.LeafNotAfter != nil {
				if ends := float64(proxy.LeafNotAfter.Unix()); !(ends >= first) {
					first = ends
				}
			}
		}
		return first
	})
}

func apiProxy(status xds.ProxyStatus) api.Proxy {
	proxy := api.Proxy{
		ID: snapshot.ProxyID(status.ID), Connected: !status.Connected.IsZero(), Envoy: status.Envoy, Synced: true,
		LeftOut: status.LeftOut, Since: optional(status.Connected), Address: status.Address, LastAck: optional(status.LastAck), Resources: map[string]int{},
	}
	for _, t := range status.Types {
		proxy.Resources[t.TypeURL] = int(t.Resources)
		proxy.Synced = proxy.Synced && t.State != xds.Stale
		if t.Rejection != nil && !slices.ContainsFunc(status.Rejected, func(r xds.Rejection) bool { return r.At.Equal(t.Rejection.At) }) {
			proxy.Warnings = append(proxy.Warnings, fmt.Sprintf("Envoy has refused a response of %s: %s", t.TypeURL, t.Rejection.Text))
		}
	}
	for _, r := range status.Rejected {
		proxy.Rejected = append(proxy.Rejected, api.Rejected{
			Name: cmp.Or(r.Chain, r.Name), TypeURL: r.TypeURL, Kind: r.Origin.Kind, Object: r.Origin.Name, Peer: r.Origin.Peer, Error: r.Text,
			NextTry: optional(r.NextTry), Tries: r.Tries,
		})
	}
	if ends, ok := ca.NotAfter(status.LeafVersion); ok {
		proxy.LeafNotAfter = &ends
	}
	for _, name := range status.LeftOut {
		proxy.Warnings = append(proxy.Warnings, "left out until Envoy takes a revocation: "+name)
	}
	if proxy.Connected {
		proxy.Warnings = append(proxy.Warnings, connectedWarnings(status)...)
	}
	return proxy
}

func connectedWarnings(status xds.ProxyStatus) []string {
	var warnings []string
	switch {
	case status.DrainSeconds == 0:
		warnings = append(warnings, drainUnknown)
	case closesLate(status.Envoy):
		warnings = append(warnings, fmt.Sprintf("Envoy %s ends the open connections of a revoked source after %v s; 1.39 and newer do at once where they carry bytes",
			status.Envoy, status.DrainSeconds))
	}
	switch schema, err := strconv.Atoi(status.ConfigSchema); {
	case err != nil || !status.View || schema == status.ServedSchema:
	case schema > status.ServedSchema:
		warnings = append(warnings, fmt.Sprintf("its bootstrap asks for config_schema %d, and this server knows %d at most, which it is served: upgrade the server", schema, status.ServedSchema))
	default:
		warnings = append(warnings, fmt.Sprintf("its bootstrap asks for config_schema %d, which is not served any more: it is served %d; write its bootstrap anew", schema, status.ServedSchema))
	}
	if !status.View {
		warnings = append(warnings, "is connected and not registered: it is told nothing")
	}
	return warnings
}

// closesLate tells whether an Envoy has no check_drain_close: connections then live until the drain time is over.
func closesLate(envoy string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(envoy, "%d.%d", &major, &minor); err != nil {
		return false // its version is unknown
	}
	return major == 1 && minor < 39
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
