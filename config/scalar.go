package config

import (
	"math"
	"net/netip"
	"strconv"
	"time"
)

// scalarOf reads a single value as one of the shapes that are single. Like Consul it takes numbers and booleans in
// quotes, and a number where text is wanted.
func scalarOf(n *node, is shape) (any, bool) {
	if n.kind != isScalar {
		return nil, false
	}
	switch is {
	case text:
		_, isBool := n.scalar.(bool)
		return n.source, !isBool
	case integer:
		return wholeOf(n.scalar)
	case boolean:
		if quoted, ok := n.scalar.(string); ok {
			value, err := strconv.ParseBool(quoted)
			return value, err == nil
		}
		value, ok := n.scalar.(bool)
		return value, ok
	case duration:
		return durationOf(n.scalar)
	case port:
		whole, ok := wholeOf(n.scalar)
		return whole, ok && whole.(int64) > 0 && whole.(int64) <= 65535
	case prefix:
		return prefixOf(n.source)
	}
	return nil, false
}

func wholeOf(scalar any) (any, bool) {
	switch value := scalar.(type) {
	case int64:
		return value, true
	case float64:
		return int64(value), value == math.Trunc(value) && math.Abs(value) < 1<<53
	case string:
		whole, err := strconv.ParseInt(value, 10, 64)
		return whole, err == nil
	}
	return nil, false
}

// prefixOf reads a CIDR, whose host bits do not matter, or an address alone. What is IPv4 must be written so: addresses
// are compared after they were unmapped.
func prefixOf(written string) (any, bool) {
	if ip, err := netip.ParseAddr(written); err == nil {
		return netip.PrefixFrom(ip, ip.BitLen()), !ip.Is4In6() && ip.Zone() == ""
	}
	read, err := netip.ParsePrefix(written)
	return read.Masked(), err == nil && !read.Addr().Is4In6()
}

// durationOf returns a time.Duration. A bare number is nanoseconds, as Consul's Go client sends them; a small one was meant
// as seconds or milliseconds and is not taken.
func durationOf(scalar any) (any, bool) {
	if written, ok := scalar.(string); ok {
		value, err := time.ParseDuration(written)
		return value, err == nil && value >= 0
	}
	whole, ok := wholeOf(scalar)
	if !ok {
		return nil, false
	}
	value := time.Duration(whole.(int64))
	return value, value == 0 || value >= time.Millisecond
}

// saysNothing tells whether a value is what a field has when it is not written: clients send such values for fields that
// their users never heard of.
func saysNothing(n *node) bool {
	switch n.kind {
	case isScalar:
		return n.scalar == "" || n.scalar == false || n.scalar == int64(0) || n.scalar == float64(0)
	case isList:
		return len(n.items) == 0
	case isObject:
		for _, m := range n.fields {
			if !saysNothing(m.value) {
				return false
			}
		}
	}
	return true
}

// isZero is saysNothing for a value that was read.
func isZero(value any) bool {
	switch value := value.(type) {
	case string:
		return value == ""
	case bool:
		return !value
	case int64:
		return value == 0
	case float64:
		return value == 0
	case time.Duration:
		return value == 0
	case map[string]any:
		for _, inner := range value {
			if !isZero(inner) {
				return false
			}
		}
		return true
	}
	return isEmpty(value)
}

// isEmpty tells whether a value is a list or object without anything in it, which is the same as none.
func isEmpty(value any) bool {
	switch value := value.(type) {
	case []string:
		return len(value) == 0
	case []int64:
		return len(value) == 0
	case []any:
		return len(value) == 0
	case map[string]any:
		return len(value) == 0
	}
	return false
}

// inAnswers returns a value as Consul's answers have it: durations as text.
func inAnswers(value any) any {
	switch value := value.(type) {
	case time.Duration:
		return value.String()
	case []any:
		list := make([]any, len(value))
		for i, item := range value {
			list[i] = inAnswers(item)
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(value))
		for key, item := range value {
			object[key] = inAnswers(item)
		}
		return object
	}
	return value
}
