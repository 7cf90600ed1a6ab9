package envoy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Check tells what of a set contradicts itself: names that are not sorted or not unique, and names that a part refers to
// and the set does not hold. Endpoint sets and the leaf are served apart, so nothing is asked of them.
func (s *Set) Check() error {
	var errs []error
	clusters, secrets, extensions := names(s.Clusters), names(s.Secrets), names(s.Extensions)
	errs = append(errs, ordered("clusters", clusters), ordered("secrets", secrets), ordered("extensions", extensions))
	listeners := make([]string, len(s.Listeners))
	for i, l := range s.Listeners {
		listeners[i] = l.Name
		chains := make([]string, len(l.Chains))
		for j, chain := range l.Chains {
			chains[j] = chain.Name
			if chain.AuthzName != "" && !slices.Contains(secrets, chain.AuthzName) {
				errs = append(errs, fmt.Errorf("listener %s: chain %s: no secret %s", l.Name, chain.Name, chain.AuthzName))
			}
			for _, name := range chain.ExtensionNames {
				if !slices.Contains(extensions, name) {
					errs = append(errs, fmt.Errorf("listener %s: chain %s: no extension %s", l.Name, chain.Name, name))
				}
			}
		}
		errs = append(errs, ordered("listener "+l.Name+": chains", chains))
	}
	errs = append(errs, ordered("listeners", listeners))
	return errors.Join(errs...)
}

func names(resources []*Resource) []string {
	list := make([]string, len(resources))
	for i, r := range resources {
		list[i] = r.Name
	}
	return list
}

func ordered(what string, list []string) error {
	for i := 1; i < len(list); i++ {
		if cmp.Compare(list[i-1], list[i]) >= 0 {
			return fmt.Errorf("%s: %s before %s: want them sorted, each once", what, list[i-1], list[i])
		}
	}
	return nil
}

// ValidateListener tells why Envoy would refuse the value of a listener's resource, as far as that can be told without
// one: a failed validator at any depth, no chain, or two chains of one name or for one server name.
func ValidateListener(body []byte) error {
	var l listenerv3.Listener
	if err := proto.Unmarshal(body, &l); err != nil {
		return fmt.Errorf("listener: %w", err)
	}
	if err := Validate(&l); err != nil {
		return fmt.Errorf("listener %s: %w", l.Name, err)
	}
	if len(l.FilterChains) == 0 {
		return fmt.Errorf("listener %s: no filter chain", l.Name)
	}
	chains, matches := map[string]bool{}, map[string]string{}
	for _, chain := range l.FilterChains {
		if chains[chain.Name] || chain.Name == "" {
			return fmt.Errorf("listener %s: two chains are called %q", l.Name, chain.Name)
		}
		chains[chain.Name] = true
		wanted := chain.GetFilterChainMatch().GetServerNames()
		if len(wanted) == 0 {
			wanted = []string{"any server name"}
		}
		for _, name := range wanted {
			if other, ok := matches[name]; ok {
				return fmt.Errorf("listener %s: chains %s and %s both match %s", l.Name, other, chain.Name, name)
			}
			matches[name] = chain.Name
		}
	}
	return nil
}

// Validate runs the generated validators of m and of every message in it, those inside Any included.
func Validate(m proto.Message) error {
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		if err := v.ValidateAll(); err != nil {
			return err
		}
	}
	return inside(m.ProtoReflect(), Validate)
}

// inside calls visit with every message that an Any holds, at any depth of m but not inside other Anys.
func inside(m protoreflect.Message, visit func(proto.Message) error) (err error) {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		held, err := packed.UnmarshalNew()
		if err != nil {
			return err
		}
		return visit(held)
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() != nil {
				value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					err = inside(v.Message(), visit)
					return err == nil
				})
			}
		case field.Message() == nil:
		case field.IsList():
			for i := 0; i < value.List().Len() && err == nil; i++ {
				err = inside(value.List().Get(i).Message(), visit)
			}
		default:
			err = inside(value.Message(), visit)
		}
		return err == nil
	})
	return err
}
