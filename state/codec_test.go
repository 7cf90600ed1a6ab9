package state_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// filler sets every exported field of a value to something that is neither zero nor used before. A type that it does
// not know fails the test: decide how it is stored, then teach it here.
type filler struct {
	t     *testing.T
	n     int
	depth map[reflect.Type]int
	entry config.Entry // for fields of that type
}

func (f *filler) fill(v reflect.Value) {
	f.n++
	switch v.Type() {
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(int64(f.n), 123456789).UTC()))
		return
	case reflect.TypeFor[netip.Addr]():
		v.Set(reflect.ValueOf(netip.AddrFrom4([4]byte{10, 0, byte(f.n >> 8), byte(f.n)})))
		return
	case reflect.TypeFor[netip.AddrPort]():
		v.Set(reflect.ValueOf(netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), uint16(f.n))))
		return
	case reflect.TypeFor[netip.Prefix]():
		v.Set(reflect.ValueOf(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(f.n), 0, 0}), 16)))
		return
	case reflect.TypeFor[snapshot.Memo](), reflect.TypeFor[snapshot.Raft]():
		return // not stored inside objects
	case reflect.TypeFor[config.Entry]():
		f.fill(reflect.ValueOf(f.entry).Elem())
		v.Set(reflect.ValueOf(f.entry))
		return
	case reflect.TypeFor[map[string]any]():
		v.Set(reflect.ValueOf(anything(f.n)))
		return
	}
	f.fillKind(v)
}

func (f *filler) fillKind(v reflect.Value) {
	switch {
	case v.CanInt():
		v.SetInt(int64(f.n % 100))
	case v.CanUint():
		v.SetUint(uint64(f.n % 100))
	case v.CanFloat():
		v.SetFloat(float64(f.n) + 0.5)
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Kind() == reflect.String:
		v.SetString(fmt.Sprintf("text-%d", f.n))
	case v.Kind() == reflect.Pointer:
		if f.depth[v.Type()]++; f.depth[v.Type()] < 3 { // a Service holds a Service
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem())
		}
		f.depth[v.Type()]--
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		f.fill(v.Index(0))
		f.fill(v.Index(1))
	case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		f.fill(value)
		v.SetMapIndex(reflect.ValueOf(fmt.Sprintf("key-%d", f.n)), value)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				f.t.Fatalf("%s.%s: a field that is not exported is not stored", v.Type(), v.Type().Field(i).Name)
			}
			f.fill(v.Field(i))
		}
	default:
		f.t.Fatalf("%s: no rule for this type", v.Type())
	}
}

// anything returns what decoders put behind `any`, each of which must come back as the Go type that it was.
func anything(n int) map[string]any {
	return map[string]any{
		"nil": nil, "bool": true, "text": "x", "empty": "", "not utf-8": "a\xffb", "float": 1.0, "big float": 1e300,
		"int": n, "int64": int64(1) << 60, "uint64": uint64(1) << 63, "number": json.Number("1.50"),
		"duration": time.Second, "time": time.Unix(1, 2).UTC(),
		"list": []any{1, "two", []any{}, map[string]any{}}, "strings": []string{"a"}, "no strings": []string{},
		"blocks": []map[string]any{{"inner": []map[string]any{{"port": 1}}}}, "headers": map[string][]string{"h": {"v"}},
		"map": map[string]any{"$int": 5.0}, "string map": map[string]string{"$int": "x"},
		"nil map": map[string]any(nil), "nil list": []any(nil), "ints": []int{1},
	}
}

// filled returns one full object of every stored type, and of every kind of config entry.
func filled(t *testing.T) []snapshot.Event {
	f := &filler{t: t, depth: map[reflect.Type]int{}}
	cluster, node, instance, bundle := &snapshot.Cluster{}, &snapshot.Node{}, &snapshot.Instance{}, &snapshot.Bundle{}
	check, peer, imported := &snapshot.Check{}, &snapshot.Peer{}, &snapshot.Import{}
	for _, object := range []any{cluster, node, instance, bundle, check, peer, imported} {
		f.fill(reflect.ValueOf(object).Elem())
	}
	key := snapshot.NewKey
	events := []snapshot.Event{
		{Key: key(snapshot.TableCluster), Object: cluster},
		{Key: key(snapshot.TableRoots), Object: bundle},
		{Key: key(snapshot.TableNodes, node.Name), Object: node},
		{Key: key(snapshot.TableInstances, instance.Service.Name, instance.Node, instance.Service.ID), Object: instance},
		{Key: key(snapshot.TableChecks, check.Node, check.ServiceID, check.CheckID), Object: check},
		{Key: key(snapshot.TablePeers, peer.Name), Object: peer},
		{Key: key(snapshot.TableImports, imported.Peer, imported.Service), Object: imported},
	}
	for _, value := range []config.Entry{
		&config.ExportedServices{}, &config.ServiceIntentions{}, &config.ServiceDefaults{}, &config.ProxyDefaults{},
		&config.Mesh{}, &config.PeerPolicy{},
	} {
		entry := &snapshot.Entry{}
		f.entry = value
		f.fill(reflect.ValueOf(entry).Elem())
		events = append(events, snapshot.Event{Key: key(snapshot.TableEntries, value.EntryKind(), value.EntryName()), Object: entry})
	}
	return events
}

// objectOf returns what a World holds under a key, without its indexes.
func objectOf(w *snapshot.World, k snapshot.Key) any {
	parts := append(k.Parts(), "", "")
	switch k.Table {
	case snapshot.TableCluster:
		c := *w.Cluster()
		c.Raft = snapshot.Raft{}
		return &c
	case snapshot.TableRoots:
		return &snapshot.Bundle{Peer: w.Roots().Peer, TrustDomain: w.Roots().TrustDomain, Roots: w.Roots().Roots, ActiveRoot: w.Roots().ActiveRoot}
	case snapshot.TableNodes:
		n := *w.Node(parts[0])
		n.Raft = snapshot.Raft{}
		return &n
	case snapshot.TableInstances:
		i := *w.Instances(parts[0])[0]
		i.Raft = snapshot.Raft{}
		return &i
	case snapshot.TableChecks:
		c := *w.Checks(parts[0], parts[1])[0]
		c.Raft = snapshot.Raft{}
		return &c
	case snapshot.TablePeers:
		p := *w.Peer(parts[0])
		p.Raft = snapshot.Raft{}
		return &p
	case snapshot.TableImports:
		i := *w.Import(parts[0], parts[1])
		i.Raft = snapshot.Raft{}
		return &i
	}
	return &snapshot.Entry{Value: w.Entry(parts[0], parts[1]).Value}
}

func TestNothingIsLostOverARestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	events := filled(t)
	index := commit(t, s, events...)
	s = reopen(t, s, dir)
	for _, event := range events {
		if got := objectOf(s.World(), event.Key); !reflect.DeepEqual(got, event.Object) {
			t.Errorf("%s: read\n%#v\nwritten\n%#v", event.Key, got, event.Object)
		}
	}
	if got := s.World().Peers()[0].Raft; got != (snapshot.Raft{CreateIndex: index, ModifyIndex: index}) {
		t.Errorf("indexes after a restart: %+v: want %d", got, index)
	}
	if again := commit(t, s, filled(t)...); again != index {
		t.Errorf("the same objects are new after a restart: index %d, was %d", again, index)
	}
}

func TestNilAndEmptyAreToldApart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	zero := 0
	service := &config.Service{
		ID: "a", Name: "a", Tags: []string{}, Meta: map[string]string{}, Kept: map[string]any{}, Checks: []config.CheckDefinition{{}},
		Proxy: &config.Proxy{}, Sidecar: &config.Service{},
	}
	limits := &config.ServiceDefaults{Name: "a", UpstreamConfig: &config.UpstreamConfig{Defaults: &config.UpstreamOverride{Limits: &config.UpstreamLimits{MaxConnections: &zero}}}}
	events := []snapshot.Event{
		{Key: snapshot.NewKey(snapshot.TableInstances, "a", "n", "a"), Object: &snapshot.Instance{Node: "n", Service: service}},
		{Key: snapshot.NewKey(snapshot.TableEntries, config.KindServiceDefaults, "a"), Object: &snapshot.Entry{Value: limits}},
	}
	commit(t, s, events...)
	s = reopen(t, s, dir)
	for _, event := range events {
		if got := objectOf(s.World(), event.Key); !reflect.DeepEqual(got, event.Object) {
			t.Errorf("%s: read\n%#v\nwritten\n%#v", event.Key, got, event.Object)
		}
	}
}

func TestWhatCannotBeStoredIsRefused(t *testing.T) {
	s := open(t, t.TempDir())
	for name, value := range map[string]any{
		"secret": redact.NewString("x"), "function": func() {}, "not a number": nan(), "struct": struct{ A int }{1},
	} {
		event := snapshot.Event{
			Key:    snapshot.NewKey(snapshot.TableEntries, config.KindMesh, "mesh"),
			Object: &snapshot.Entry{Value: &config.Mesh{Kept: map[string]any{"x": value}}},
		}
		if _, err := s.Commit(t.Context(), event); err == nil {
			t.Errorf("%s was stored", name)
		}
	}
}

func nan() float64 {
	zero := 0.0
	return zero / zero
}
