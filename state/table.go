package state

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// A table says how the objects of one snapshot.Table are checked, indexed and decoded.
type table struct {
	empty func() any
	// parts returns what identifies an object, and false when object is not of the table's type.
	parts func(object any) ([]string, bool)
	// indexed returns a copy of object with these indexes: objects are never written after they were made.
	indexed func(object any, raft snapshot.Raft) any
}

// tables holds every table that is stored with its objects. TablePrivate is stored apart, TableNames never.
var tables = map[snapshot.Table]table{
	snapshot.TableCluster: newTable(
		func(c *snapshot.Cluster) []string { return []string{""} },
		func(c snapshot.Cluster, raft snapshot.Raft) *snapshot.Cluster { c.Raft = raft; return &c }),
	snapshot.TableNodes: newTable(
		func(n *snapshot.Node) []string { return []string{n.Name} },
		func(n snapshot.Node, raft snapshot.Raft) *snapshot.Node { n.Raft = raft; return &n }),
	snapshot.TableInstances: newTable(
		func(i *snapshot.Instance) []string {
			if i.Service == nil {
				return nil
			}
			return []string{i.Service.Name, i.Node, i.Service.ID}
		},
		func(i snapshot.Instance, raft snapshot.Raft) *snapshot.Instance { i.Raft = raft; return &i }),
	snapshot.TableChecks: newTable(
		func(c *snapshot.Check) []string { return []string{c.Node, c.ServiceID, c.CheckID} },
		func(c snapshot.Check, raft snapshot.Raft) *snapshot.Check { c.Raft = raft; return &c }),
	snapshot.TableEntries: newTable(
		func(e *snapshot.Entry) []string {
			if isNil(e.Value) {
				return nil
			}
			return []string{e.Value.EntryKind(), e.Value.EntryName()}
		},
		func(e snapshot.Entry, raft snapshot.Raft) *snapshot.Entry { e.Raft = raft; return &e }),
	snapshot.TablePeers: newTable(
		func(p *snapshot.Peer) []string { return []string{p.Name} },
		func(p snapshot.Peer, raft snapshot.Raft) *snapshot.Peer { p.Raft = raft; return &p }),
	snapshot.TableImports: newTable(
		func(i *snapshot.Import) []string { return []string{i.Peer, i.Service} },
		func(i snapshot.Import, raft snapshot.Raft) *snapshot.Import { i.Raft = raft; return &i }),
	// A Bundle holds a Memo, which must not be copied.
	snapshot.TableRoots: {
		empty: func() any { return &snapshot.Bundle{} },
		parts: func(object any) ([]string, bool) { _, ok := object.(*snapshot.Bundle); return []string{""}, ok },
		indexed: func(object any, raft snapshot.Raft) any {
			b := object.(*snapshot.Bundle)
			return &snapshot.Bundle{Raft: raft, Peer: b.Peer, TrustDomain: b.TrustDomain, Roots: b.Roots, ActiveRoot: b.ActiveRoot}
		},
	},
}

func newTable[T any](parts func(*T) []string, indexed func(T, snapshot.Raft) *T) table {
	return table{
		empty: func() any { return new(T) },
		parts: func(object any) ([]string, bool) {
			o, ok := object.(*T)
			if !ok || o == nil {
				return nil, false
			}
			return parts(o), true
		},
		indexed: func(object any, raft snapshot.Raft) any { return indexed(*object.(*T), raft) },
	}
}

func isNil(entry config.Entry) bool {
	return entry == nil || reflect.ValueOf(entry).IsNil()
}

// checkEvent refuses what must not be stored: an object under another key than its own, so that nothing can be put
// where something else belongs, and keys that would not be told apart.
func checkEvent(e snapshot.Event) error {
	if len(e.Key.Path) > maxKey {
		return fmt.Errorf("%s/%.60q…: name of %d bytes: want at most %d", e.Key.Table, e.Key.Path, len(e.Key.Path), maxKey)
	}
	if e.Key.Table == snapshot.TablePrivate {
		if _, ok := e.Object.([]byte); !ok && e.Object != nil {
			return fmt.Errorf("%s: is %T: want []byte", e.Key, e.Object)
		}
		return nil
	}
	t, ok := tables[e.Key.Table]
	if !ok {
		return fmt.Errorf("%s: table %q is not stored", e.Key, e.Key.Table)
	}
	if e.Object == nil {
		return nil
	}
	parts, ok := t.parts(e.Object)
	if !ok || parts == nil {
		return fmt.Errorf("%s: is %T or incomplete: want %T", e.Key, e.Object, t.empty())
	}
	if own := snapshot.NewKey(e.Key.Table, parts...); own != e.Key {
		return fmt.Errorf("%s: object is %s", e.Key, own)
	}
	for _, part := range parts {
		if strings.Contains(part, "\x00") {
			return fmt.Errorf("%s: name %q holds a zero byte", e.Key, part)
		}
	}
	return nil
}
