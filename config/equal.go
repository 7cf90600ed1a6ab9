package config

import (
	"bytes"
	"encoding/json"
	"slices"
)

// Equal tells whether two entries mean the same: the order of exports, consumers, sources, overrides and addresses is no
// part of it.
func Equal(a, b Entry) bool {
	return a.EntryKind() == b.EntryKind() && bytes.Equal(canonical(EncodeEntry(a)), canonical(EncodeEntry(b)))
}

// canonical returns an encoded value in one form for all orders that mean the same. Of no list in any table does the
// order mean anything.
func canonical(value any) []byte {
	data, err := json.Marshal(ordered(value))
	if err != nil {
		panic("config: an encoded entry has no JSON form: " + err.Error())
	}
	return data
}

func ordered(value any) any {
	switch value := value.(type) {
	case map[string]any:
		same := make(map[string]any, len(value))
		for key, inner := range value {
			same[key] = ordered(inner)
		}
		return same
	case []any:
		items := make([]json.RawMessage, len(value))
		for i, inner := range value {
			items[i] = canonical(inner)
		}
		slices.SortFunc(items, func(a, b json.RawMessage) int { return bytes.Compare(a, b) })
		return items
	}
	return value
}
