package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/isthmus-mesh/isthmus/api/dns"
)

// openDNS opens the UDP side of DNS, at the address of its TCP side.
func (p *plane) openDNS(ctx context.Context) error {
	if p.listeners.dns == nil {
		return nil
	}
	packets, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", p.listeners.dns.Addr().String())
	if err != nil {
		return fmt.Errorf("dns-addr: %w", err)
	}
	p.listeners.dnsPackets = packets
	return nil
}

func (p *plane) closeDNS() error {
	if p.listeners.dnsPackets == nil {
		return nil
	}
	if err := p.listeners.dnsPackets.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// serveDNS answers questions, where that was asked for.
func (p *plane) serveDNS(ctx context.Context) error {
	if p.listeners.dns == nil {
		return nil
	}
	server, err := dns.New(dns.Config{World: p.store.World, Synced: p.isSynced, Log: p.log})
	if err != nil {
		return err
	}
	return server.Serve(ctx, p.listeners.dnsPackets, p.listeners.dns)
}
