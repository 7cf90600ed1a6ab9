package state

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/isthmus-mesh/isthmus/config"
)

// The stored form of an object is JSON with every exported field by its Go name, whatever its json tag says: the tags
// shape what Consul's tools see, and leave out what must survive a restart. Zero values are left out, nil and empty are
// told apart, and a value behind `any` keeps its Go type (see typed). Equal objects have equal bytes.

// typeMark starts the one key of an object that stands for a value of a named type: {"$int": 5}.
const typeMark = "$"

// rawMark is the type of a text that is not UTF-8, which JSON cannot hold.
const rawMark = typeMark + "raw"

// typed lists what may stand behind `any` besides what JSON keeps by itself (nil, bool, float64, string, []any,
// map[string]any): what the HCL, YAML and JSON decoders produce.
var typed = map[string]reflect.Type{
	"int": reflect.TypeFor[int](), "int8": reflect.TypeFor[int8](), "int16": reflect.TypeFor[int16](),
	"int32": reflect.TypeFor[int32](), "int64": reflect.TypeFor[int64](),
	"uint": reflect.TypeFor[uint](), "uint8": reflect.TypeFor[uint8](), "uint16": reflect.TypeFor[uint16](),
	"uint32": reflect.TypeFor[uint32](), "uint64": reflect.TypeFor[uint64](),
	"float32": reflect.TypeFor[float32](), "number": reflect.TypeFor[json.Number](),
	"strings": reflect.TypeFor[[]string](), "stringMap": reflect.TypeFor[map[string]string](),
	"maps": reflect.TypeFor[[]map[string]any](), "ints": reflect.TypeFor[[]int](),
	"headers":  reflect.TypeFor[map[string][]string](),
	"duration": reflect.TypeFor[time.Duration](), "time": reflect.TypeFor[time.Time](),
}

// entryTypes makes an empty config entry of each kind.
var entryTypes = map[string]func() config.Entry{
	config.KindExportedServices:  func() config.Entry { return &config.ExportedServices{} },
	config.KindServiceIntentions: func() config.Entry { return &config.ServiceIntentions{} },
	config.KindServiceDefaults:   func() config.Entry { return &config.ServiceDefaults{} },
	config.KindProxyDefaults:     func() config.Entry { return &config.ProxyDefaults{} },
	config.KindMesh:              func() config.Entry { return &config.Mesh{} },
	config.KindPeerPolicy:        func() config.Entry { return &config.PeerPolicy{} },
}

var (
	timeType  = reflect.TypeFor[time.Time]()
	entryType = reflect.TypeFor[config.Entry]()
	textType  = reflect.TypeFor[encoding.TextMarshaler]()
)

// encode returns the stored form of the object that pointer points to.
func encode(pointer any) ([]byte, error) {
	tree, err := toTree(reflect.ValueOf(pointer).Elem())
	if err != nil {
		return nil, err
	}
	return json.Marshal(tree)
}

// decode fills the object that pointer points to from its stored form. Fields that it does not know are passed over: an
// older schema may have had them.
func decode(data []byte, pointer any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var tree any
	if err := decoder.Decode(&tree); err != nil {
		return err
	}
	return fromTree(tree, reflect.ValueOf(pointer).Elem())
}

func toTree(v reflect.Value) (any, error) {
	switch {
	case v.Type() == timeType:
		return v.Interface().(time.Time).UTC().Format(time.RFC3339Nano), nil
	case v.Type() == entryType:
		return entryTree(v)
	case v.Type().Implements(textType) && v.Kind() != reflect.Pointer:
		if !reflect.PointerTo(v.Type()).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
			return nil, fmt.Errorf("%s cannot be stored", v.Type()) // a secret, which must not be in an object
		}
		text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		return string(text), err
	}
	switch v.Kind() {
	case reflect.Bool:
		return v.Bool(), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int(), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return v.Uint(), nil
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, fmt.Errorf("%v cannot be stored", f)
		}
		return v.Float(), nil
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			return map[string]any{rawMark: base64.StdEncoding.EncodeToString([]byte(v.String()))}, nil
		}
		return v.String(), nil
	case reflect.Pointer:
		if v.IsNil() {
			return nil, nil
		}
		return toTree(v.Elem())
	case reflect.Interface:
		return anyTree(v)
	case reflect.Struct:
		return structTree(v)
	case reflect.Map:
		return mapTree(v)
	case reflect.Slice, reflect.Array:
		return listTree(v)
	}
	return nil, fmt.Errorf("%s cannot be stored", v.Type())
}

func structTree(v reflect.Value) (any, error) {
	tree := map[string]any{}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() || v.Field(i).IsZero() {
			continue
		}
		sub, err := toTree(v.Field(i))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", field.Name, err)
		}
		tree[field.Name] = sub
	}
	return tree, nil
}

func mapTree(v reflect.Value) (any, error) {
	if v.IsNil() {
		return nil, nil
	}
	if v.Type().Key().Kind() != reflect.String {
		return nil, fmt.Errorf("%s cannot be stored", v.Type())
	}
	tree := make(map[string]any, v.Len())
	for key, value := range v.Seq2() {
		if !utf8.ValidString(key.String()) {
			return nil, fmt.Errorf("key %q: want UTF-8", key.String())
		}
		sub, err := toTree(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		tree[key.String()] = sub
	}
	return tree, nil
}

func listTree(v reflect.Value) (any, error) {
	if v.Kind() == reflect.Slice && v.IsNil() {
		return nil, nil
	}
	tree := make([]any, v.Len())
	for i := range tree {
		sub, err := toTree(v.Index(i))
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		tree[i] = sub
	}
	return tree, nil
}

func entryTree(v reflect.Value) (any, error) {
	entry, ok := v.Interface().(config.Entry)
	if !ok || reflect.ValueOf(entry).IsNil() {
		return nil, fmt.Errorf("config entry is nil")
	}
	if entryTypes[entry.EntryKind()] == nil {
		return nil, fmt.Errorf("config entry kind %q cannot be stored", entry.EntryKind())
	}
	value, err := toTree(reflect.ValueOf(entry).Elem())
	return map[string]any{"kind": entry.EntryKind(), "value": value}, err
}

// anyTree keeps the Go type of what stands behind an `any`: JSON's own types stay as they are, others are marked, and so
// is a map that would read as a mark itself.
func anyTree(v reflect.Value) (any, error) {
	if v.IsNil() {
		return nil, nil
	}
	inner := v.Elem()
	tree, err := toTree(inner)
	if err != nil {
		return nil, err
	}
	switch inner.Interface().(type) {
	case bool, float64, string:
		return tree, nil
	case []any, map[string]any:
		switch isMark := isMarked(tree); {
		case inner.IsNil() && inner.Kind() == reflect.Map:
			return map[string]any{typeMark + "nilMap": true}, nil
		case inner.IsNil():
			return map[string]any{typeMark + "nilList": true}, nil
		case isMark:
			return map[string]any{typeMark + "map": tree}, nil
		}
		return tree, nil
	}
	for name, t := range typed {
		if t == inner.Type() {
			return map[string]any{typeMark + name: tree}, nil
		}
	}
	return nil, fmt.Errorf("%s cannot be stored", inner.Type())
}

func isMarked(tree any) bool {
	m, ok := tree.(map[string]any)
	if !ok || len(m) != 1 {
		return false
	}
	for key := range m {
		return strings.HasPrefix(key, typeMark)
	}
	return false
}
