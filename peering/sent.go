package peering

import (
	"context"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/peering/wire"
)

// A peer of the older dialect has no inventory: what we stopped exporting while it was away it would keep for ever. So
// we store which forms it may have from us, before it gets them, and delete on each new stream those that it shall not
// have any more.

// recall has every form that an earlier stream sent looked at again, and notes those that this one will send.
func (s *session) recall(ctx context.Context) error {
	if s.dialect.inventory {
		return nil
	}
	s.announced = map[string]struct{}{}
	var names []string
	for _, form := range s.vault.sentBefore(s.link.id) {
		s.announced[form] = struct{}{}
		s.sums[wire.TypeService+form] = [32]byte{} // sent, with content that differs from any
		names = append(names, strings.TrimSuffix(form, wire.ProxySuffix))
	}
	s.out.services(false, names)
	var forms []string
	for _, name := range s.exporter.list(s.link.name) {
		forms = append(forms, name, name+wire.ProxySuffix)
	}
	return s.announce(ctx, forms...)
}

// announce stores that the peer may have forms from us.
func (s *session) announce(ctx context.Context, forms ...string) error {
	if s.dialect.inventory {
		return nil
	}
	before := len(s.announced)
	for _, form := range forms {
		s.announced[form] = struct{}{}
	}
	if len(s.announced) == before {
		return nil
	}
	all := make([]string, 0, len(s.announced))
	for form := range s.announced {
		all = append(all, form)
	}
	slices.Sort(all)
	return s.commit(ctx, record(kindSent, s.link.id, all))
}
