package config

import "fmt"

func (e *ExportedServices) finish(d *decoder) {
	d.checkFixedName(e.Name)
	d.checkMeta("Meta", e.Meta)
	for i := range e.Services {
		at := fmt.Sprintf("Services[%d]", i)
		service := &e.Services[i]
		if service.Name != Wildcard {
			d.check(at+".Name", CheckServiceName(service.Name))
		}
		if len(service.Consumers) == 0 {
			d.missing(at+".Consumers", "at least one peer")
		}
		for j, consumer := range service.Consumers {
			d.check(fmt.Sprintf("%s.Consumers[%d].Peer", at, j), CheckPeerName(consumer.Peer))
		}
	}
}

// checkFixedName reports another name than the only one that the kind has.
func (d *decoder) checkFixedName(name string) {
	if name != d.fixedName {
		d.errorf("Name", "is %s: want %s", quote(name), d.fixedName)
	}
}
