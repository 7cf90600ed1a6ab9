package state

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// fromTree sets v, which is zero, to what toTree made of it.
func fromTree(tree any, v reflect.Value) error {
	if tree == nil {
		return nil
	}
	switch {
	case v.Type() == timeType:
		return fromText(tree, func(text string) error {
			at, err := time.Parse(time.RFC3339Nano, text)
			v.Set(reflect.ValueOf(at))
			return err
		})
	case v.Type() == entryType:
		return entryFrom(tree, v)
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return fromTree(tree, v.Elem())
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return fromText(tree, func(text string) error { return u.UnmarshalText([]byte(text)) })
	}
	switch v.Kind() {
	case reflect.Interface:
		return anyFrom(tree, v)
	case reflect.Struct:
		return structFrom(tree, v)
	case reflect.Map:
		return mapFrom(tree, v)
	case reflect.Slice, reflect.Array:
		return listFrom(tree, v)
	}
	return scalarFrom(tree, v)
}

func scalarFrom(tree any, v reflect.Value) error {
	switch value := tree.(type) {
	case bool:
		if v.Kind() == reflect.Bool {
			v.SetBool(value)
			return nil
		}
	case string:
		if v.Kind() == reflect.String {
			v.SetString(value)
			return nil
		}
	case map[string]any:
		if raw, ok := value[rawMark].(string); ok && v.Kind() == reflect.String {
			data, err := base64.StdEncoding.DecodeString(raw)
			v.SetString(string(data))
			return err
		}
	case json.Number:
		return numberFrom(value.String(), v)
	}
	return fmt.Errorf("is %T: want %s", tree, v.Type())
}

func numberFrom(text string, v reflect.Value) (err error) {
	switch {
	case v.CanInt():
		var n int64
		n, err = strconv.ParseInt(text, 10, v.Type().Bits())
		v.SetInt(n)
	case v.CanUint():
		var n uint64
		n, err = strconv.ParseUint(text, 10, v.Type().Bits())
		v.SetUint(n)
	case v.CanFloat():
		var f float64
		f, err = strconv.ParseFloat(text, v.Type().Bits())
		v.SetFloat(f)
	default:
		return fmt.Errorf("is %s: want %s", text, v.Type())
	}
	return err
}

func fromText(tree any, set func(string) error) error {
	text, ok := tree.(string)
	if !ok {
		return fmt.Errorf("is %T: want a text", tree)
	}
	return set(text)
}

func structFrom(tree any, v reflect.Value) error {
	fields, ok := tree.(map[string]any)
	if !ok {
		return fmt.Errorf("is %T: want an object", tree)
	}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		sub, ok := fields[field.Name]
		if !ok || !field.IsExported() {
			continue
		}
		if err := fromTree(sub, v.Field(i)); err != nil {
			return fmt.Errorf("%s: %w", field.Name, err)
		}
	}
	return nil
}

func mapFrom(tree any, v reflect.Value) error {
	entries, ok := tree.(map[string]any)
	if !ok {
		return fmt.Errorf("is %T: want an object", tree)
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(entries)))
	for key, sub := range entries {
		value := reflect.New(v.Type().Elem()).Elem()
		if err := fromTree(sub, value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), value)
	}
	return nil
}

func listFrom(tree any, v reflect.Value) error {
	items, ok := tree.([]any)
	switch {
	case !ok:
		return fmt.Errorf("is %T: want a list", tree)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), len(items), len(items)))
	case v.Len() != len(items):
		return fmt.Errorf("has %d items: want %d", len(items), v.Len())
	}
	for i, item := range items {
		if err := fromTree(item, v.Index(i)); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return nil
}

func entryFrom(tree any, v reflect.Value) error {
	fields, _ := tree.(map[string]any)
	kind, _ := fields["kind"].(string)
	empty, ok := entryTypes[kind]
	if !ok {
		return fmt.Errorf("config entry kind %q is not known", kind)
	}
	entry := empty()
	v.Set(reflect.ValueOf(entry))
	return fromTree(fields["value"], reflect.ValueOf(entry).Elem())
}

// anyFrom undoes anyTree.
func anyFrom(tree any, v reflect.Value) error {
	var value reflect.Value
	switch t := tree.(type) {
	case json.Number:
		value = reflect.New(reflect.TypeFor[float64]()).Elem()
	case []any:
		value = reflect.New(reflect.TypeFor[[]any]()).Elem()
	case map[string]any:
		if isMarked(tree) {
			return markedFrom(t, v)
		}
		value = reflect.New(reflect.TypeFor[map[string]any]()).Elem()
	default:
		v.Set(reflect.ValueOf(tree))
		return nil
	}
	if err := fromTree(tree, value); err != nil {
		return err
	}
	v.Set(value)
	return nil
}

func markedFrom(marked map[string]any, v reflect.Value) error {
	for key, sub := range marked {
		var value reflect.Value
		switch name := strings.TrimPrefix(key, typeMark); name {
		case "nilMap":
			v.Set(reflect.ValueOf(map[string]any(nil)))
			return nil
		case "nilList":
			v.Set(reflect.ValueOf([]any(nil)))
			return nil
		case "map":
			value = reflect.New(reflect.TypeFor[map[string]any]()).Elem()
		case "raw":
			value = reflect.New(reflect.TypeFor[string]()).Elem()
			sub = marked
		default:
			t, ok := typed[name]
			if !ok {
				return fmt.Errorf("type %q is not known", name)
			}
			value = reflect.New(t).Elem()
		}
		if err := fromTree(sub, value); err != nil {
			return err
		}
		v.Set(value)
	}
	return nil
}
