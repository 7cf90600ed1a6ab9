package dns

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/snapshot"
)

// ttl is how long an answer may be kept, in seconds: as Consul's, not at all.
const ttl = 0

// fill puts the records that a question asks for into a reply. It returns false where there is no such name.
func fill(reply *dns.Msg, w *snapshot.World, question dns.Question) bool {
	cluster := w.Cluster()
	if dns.CanonicalName(question.Name) == zone {
		if question.Qtype == dns.TypeSOA {
			reply.Answer = []dns.RR{soa(w)}
		}
		return true
	}
	n, ok := parse(question.Name, cluster.Datacenter)
	if !ok {
		return false
	}
	a := answerer{reply: reply, world: w, question: question, datacenter: cluster.Datacenter}
	switch n.kind {
	case kindAddress:
		address, ok := n.address()
		if ok {
			a.address(question.Name, address)
		}
		if ok && len(reply.Answer) == 0 {
			reply.Extra = append(reply.Extra, record(question.Name, address))
		}
		return ok
	case kindNode:
		host := node(w, n)
		if host != "" {
			a.host(host)
		}
		return host != ""
	}
	instances := found(w, n)
	rand.Shuffle(len(instances), func(i, j int) { instances[i], instances[j] = instances[j], instances[i] })
	if question.Qtype == dns.TypeSRV {
		a.services(instances)
	} else {
		a.hosts(instances)
	}
	return len(instances) > 0
}

// answerer writes the records of one answer.
type answerer struct {
	reply      *dns.Msg
	world      *snapshot.World
	question   dns.Question
	datacenter string
}

func header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

// record returns the record of an address.
func record(name string, address netip.Addr) dns.RR {
	if address = address.Unmap(); address.Is4() {
		return &dns.A{Hdr: header(name, dns.TypeA), A: address.AsSlice()}
	}
	return &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: address.AsSlice()}
}

func (a answerer) wants(kind uint16) bool {
	return a.question.Qtype == kind || a.question.Qtype == dns.TypeANY
}

// address answers with an address where that is what is asked for.
func (a answerer) address(name string, address netip.Addr) {
	if r := record(name, address); a.wants(r.Header().Rrtype) {
		a.reply.Answer = append(a.reply.Answer, r)
	}
}

// host answers with an address, or for a host name with that and what it is known to resolve to.
func (a answerer) host(host string) {
	if address, err := netip.ParseAddr(host); err == nil {
		a.address(a.question.Name, address)
		return
	}
	if len(a.reply.Answer) > 0 || !a.wants(dns.TypeA) && !a.wants(dns.TypeAAAA) && !a.wants(dns.TypeCNAME) {
		return // a name that is another's has no other records
	}
	a.reply.Answer = append(a.reply.Answer, &dns.CNAME{Hdr: header(a.question.Name, dns.TypeCNAME), Target: dns.Fqdn(host)})
	for _, address := range a.known(host) {
		a.address(dns.Fqdn(host), address)
	}
}

// known returns what a host name resolved to, if we ever asked.
func (a answerer) known(host string) []netip.Addr {
	if resolved := a.world.Name(host); resolved != nil {
		return resolved.Addresses
	}
	return nil
}

// hosts answers with where the instances are: addresses first, and a host name only where there is none.
func (a answerer) hosts(instances []instance) {
	seen := map[string]bool{}
	var names []string
	for _, i := range instances {
		host := i.host()
		if seen[host] {
			continue
		}
		seen[host] = true
		if _, err := netip.ParseAddr(host); err != nil {
			names = append(names, host)
			continue
		}
		a.host(host)
	}
	for _, host := range names {
		a.host(host)
	}
}

func (i instance) host() string {
	if i.address != "" {
		return i.address
	}
	return i.nodeAddress
}

// services answers with SRV records, and beside them the addresses of their targets.
func (a answerer) services(instances []instance) {
	seen := map[string]bool{}
	for _, i := range instances {
		key := fmt.Sprintf("%s %s %d", i.node, i.address, i.port)
		if seen[key] || i.host() == "" {
			continue
		}
		seen[key] = true
		target := dns.Fqdn(i.host())
		address, err := netip.ParseAddr(i.host())
		addresses := []netip.Addr{address}
		switch {
		case err != nil:
			addresses = a.known(i.host())
		case i.address == "":
			target = nodeName(i.node, i.peer, a.datacenter)
		default:
			target = addressName(address.Unmap(), i.peer, a.datacenter)
		}
		if _, ok := dns.IsDomainName(target); !ok {
			continue // a node of a name that DNS has no way to say
		}
		a.reply.Answer = append(a.reply.Answer, &dns.SRV{
			Hdr: header(a.question.Name, dns.TypeSRV), Priority: 1, Weight: uint16(i.weight), Port: uint16(i.port), Target: target,
		})
		for _, address := range addresses {
			a.reply.Extra = append(a.reply.Extra, record(target, address))
		}
	}
}

// soa tells resolvers that what is not here may be here the next moment.
func soa(w *snapshot.World) dns.RR {
	return &dns.SOA{
		Hdr: header(zone, dns.TypeSOA), Ns: "ns." + zone, Mbox: "hostmaster." + zone, Serial: uint32(w.Index),
		Refresh: 3600, Retry: 600, Expire: 86400,
	}
}
