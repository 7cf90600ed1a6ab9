package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/config"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// scope refuses a request for another of what there is only one of: datacenters, namespaces and partitions.
func scope(c *call) error {
	values := c.URL.Query()
	if dc := values.Get("dc"); dc != "" && !strings.EqualFold(dc, c.world.Cluster().Datacenter) {
		return refuse(http.StatusBadRequest, "datacenter", "No path to datacenter: dc=%s: there is only %q here, and no federation",
			dc, c.world.Cluster().Datacenter).hint("for what a peer exports ask with peer=NAME")
	}
	for _, name := range []string{"ns", "partition"} {
		if value := values.Get(name); value != "" && value != config.DefaultNamespace {
			return refuse(http.StatusBadRequest, "namespace", "%s=%s: namespaces and partitions are not supported: want %q or nothing",
				name, value, config.DefaultNamespace)
		}
	}
	return nil
}

// flag reads a parameter that is true when it is there without a value.
func flag(c *call, name string) (bool, error) {
	values := c.URL.Query()
	if !values.Has(name) {
		return false, nil
	}
	text := values.Get(name)
	if text == "" {
		return true, nil
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		return false, refuse(http.StatusBadRequest, "parameter", "Invalid value for ?%s: %q: want true or false", name, text)
	}
	return value, nil
}

// cas reads ?cas=: the ModifyIndex that the caller saw, 0 for "there was none".
func cas(c *call) (index uint64, asked bool, err error) {
	text := c.URL.Query().Get("cas")
	if text == "" {
		return 0, false, nil
	}
	index, err = strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, false, refuse(http.StatusBadRequest, "parameter", "Invalid value for ?cas: %q: want a ModifyIndex", text)
	}
	return index, true, nil
}

// required reads a parameter that must be there once.
func required(c *call, name string) (string, error) {
	values := c.URL.Query()[name]
	if len(values) != 1 || values[0] == "" {
		return "", refuse(http.StatusBadRequest, "parameter", "required query parameter '%s' not set", name)
	}
	return values[0], nil
}

// commit writes events, or refuses where the state is another's.
func (s *server) commit(c *call, events ...snapshot.Event) error {
	if s.Store == nil {
		return errReadOnly
	}
	if len(events) == 0 {
		return nil
	}
	_, err := s.Store.Commit(c.Context(), events...)
	return err
}

// errReadOnly answers a write while Consul holds the state.
var errReadOnly = refuse(http.StatusNotImplemented, "source", "this server runs with --source=consul and holds no state of its own").
	hint("write to Consul's own API, and it will follow")

// decode reads a JSON body into value. A field that it does not know is refused.
func decode(c *call, value any) error {
	data, err := body(c)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value); err != nil {
		return refuse(http.StatusBadRequest, "invalid", "Request decode failed: %v", err)
	}
	return nil
}

// deref returns what p points at, or the zero value.
func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
