package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// EncodeEntry returns an entry in the shape that Consul answers, with Kind and with what is kept, and without indexes.
// ParseEntry reads it back to an equal entry.
func EncodeEntry(e Entry) map[string]any {
	values := encode(e)
	values["Kind"] = e.EntryKind()
	insertAll(values, keptOf(e))
	return values
}

// KeptFields returns the paths of the fields that were accepted and have no effect, in order.
func KeptFields(e Entry) []string {
	k := kindNamed(e.EntryKind())
	if k == nil {
		return nil
	}
	return keptIn(EncodeEntry(e), k.fields, "")
}

// KeptFields returns the paths of the fields that were accepted and have no effect, in order.
func (s *Service) KeptFields() []string {
	return keptIn(EncodeService(s), serviceFields, "")
}

// EncodeService returns a service as PUT /v1/agent/service/register takes it. ParseRegistration reads it back to an equal
// service, with its sidecar.
func EncodeService(s *Service) map[string]any {
	values := encode(s)
	insertAll(values, s.Kept)
	connect := map[string]any{}
	if delete(values, "ConnectNative"); s.ConnectNative {
		connect["Native"] = true
	}
	if s.Sidecar != nil {
		connect["SidecarService"] = EncodeService(s.Sidecar)
	}
	if len(connect) > 0 {
		values["Connect"] = connect
	}
	return values
}

// encode returns the JSON form of a value as a map. What the parser made always has one.
func encode(value any) map[string]any {
	data, err := json.Marshal(value)
	var values map[string]any
	if err == nil {
		err = json.Unmarshal(data, &values)
	}
	if err != nil {
		panic(fmt.Sprintf("config: %T has no JSON form: %v", value, err))
	}
	return values
}

func keptOf(e Entry) map[string]any {
	switch e := e.(type) {
	case *ServiceDefaults:
		return e.Kept
	case *ProxyDefaults:
		return e.Kept
	case *Mesh:
		return e.Kept
	}
	return nil
}

func insertAll(values map[string]any, kept map[string]any) {
	for path, value := range kept {
		insert(values, strings.Split(path, "."), value)
	}
}

// insert puts a value at a path, whose parts may end in an index of a list that is there: Overrides[0].
func insert(values map[string]any, path []string, value any) {
	if len(path) == 1 {
		values[path[0]] = value
		return
	}
	name, index, isList := strings.Cut(path[0], "[")
	if isList {
		list, _ := values[name].([]any)
		at, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
		if err != nil || at >= len(list) {
			return
		}
		if inner, ok := list[at].(map[string]any); ok {
			insert(inner, path[1:], value)
		}
		return
	}
	inner, ok := values[name].(map[string]any)
	if !ok {
		inner = map[string]any{}
		values[name] = inner
	}
	insert(inner, path[1:], value)
}

// keptIn returns the paths of the kept fields that an encoded object has.
func keptIn(values map[string]any, fields []field, path string) []string {
	var found []string
	for _, name := range sorted(values) {
		f := fieldNamed(fields, name)
		at := join(path, name)
		switch {
		case f == nil || isZero(values[name]):
		case f.does == kept:
			found = append(found, at)
		default:
			found = append(found, keptBelow(values[name], f.sub, at)...)
		}
	}
	slices.Sort(found)
	return found
}

func keptBelow(value any, fields []field, path string) []string {
	switch value := value.(type) {
	case map[string]any:
		if len(fields) > 0 {
			return keptIn(value, fields, path)
		}
	case []any:
		var found []string
		for i, item := range value {
			found = append(found, keptBelow(item, fields, fmt.Sprintf("%s[%d]", path, i))...)
		}
		return found
	}
	return nil
}

// A jsonDuration is text in JSON, as "10s"; it reads numbers too, as nanoseconds.
type jsonDuration time.Duration

func (d jsonDuration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

func (d *jsonDuration) UnmarshalJSON(data []byte) error {
	var written string
	if json.Unmarshal(data, &written) != nil {
		return json.Unmarshal(data, (*time.Duration)(d))
	}
	value, err := time.ParseDuration(written)
	*d = jsonDuration(value)
	return err
}

// plainCheck and plainPolicy have the fields of their types and not their methods; the fields of the wire types around
// them hide those of the same name.
type (
	plainCheck  CheckDefinition
	plainPolicy PeerPolicy

	wireCheck struct {
		*plainCheck
		TTL                            jsonDuration `json:",omitempty"`
		Interval, Timeout              jsonDuration `json:",omitempty"`
		DeregisterCriticalServiceAfter jsonDuration `json:",omitempty"`
	}
	wirePolicy struct {
		*plainPolicy
		MaxStale jsonDuration `json:",omitempty"`
	}
)

// MarshalJSON writes durations as Consul does: "10s".
func (c CheckDefinition) MarshalJSON() ([]byte, error) {
	plain := plainCheck(c)
	return json.Marshal(wireCheck{&plain, jsonDuration(c.TTL), jsonDuration(c.Interval), jsonDuration(c.Timeout), jsonDuration(c.DeregisterCriticalServiceAfter)})
}

// UnmarshalJSON reads what MarshalJSON writes, without checking it.
func (c *CheckDefinition) UnmarshalJSON(data []byte) error {
	wire := wireCheck{plainCheck: (*plainCheck)(c)}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	c.TTL, c.Interval, c.Timeout = time.Duration(wire.TTL), time.Duration(wire.Interval), time.Duration(wire.Timeout)
	c.DeregisterCriticalServiceAfter = time.Duration(wire.DeregisterCriticalServiceAfter)
	return nil
}

// MarshalJSON writes the duration as Consul writes durations: "10s".
func (e PeerPolicy) MarshalJSON() ([]byte, error) {
	plain := plainPolicy(e)
	return json.Marshal(wirePolicy{&plain, jsonDuration(e.MaxStale)})
}

// UnmarshalJSON reads what MarshalJSON writes, without checking it.
func (e *PeerPolicy) UnmarshalJSON(data []byte) error {
	wire := wirePolicy{plainPolicy: (*plainPolicy)(e)}
	if err := json.Unmarshal(data, &wire); err != nil {
		return err
	}
	e.MaxStale = time.Duration(wire.MaxStale)
	return nil
}
