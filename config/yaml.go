package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlPosition is how the parser writes a place into its messages.
var yamlPosition = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// parseYAML reads all documents of a file. Aliases are followed and count each time, which bounds what they blow up to.
func parseYAML(data []byte) (roots []*node, line int, err error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	r := &yamlReader{budget: budget{maxNodes}}
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return roots, 0, nil
		}
		if err != nil {
			msg := err.Error()
			if place := yamlPosition.FindStringSubmatch(msg); place != nil {
				line, _ = strconv.Atoi(place[1])
				msg = msg[len(place[0]):]
			}
			return nil, line, fmt.Errorf("yaml: %s", clip(msg))
		}
		for _, content := range document.Content {
			root, err := r.value(content, 1)
			if err != nil {
				return nil, r.line, fmt.Errorf("yaml: %w", err)
			}
			if root.kind != isNull {
				roots = append(roots, root)
			}
		}
	}
}

// A yamlReader turns the parser's tree into ours. line is where it is, for errors.
type yamlReader struct {
	budget
	line int
}

func (r *yamlReader) value(value *yaml.Node, depth int) (*node, error) {
	r.line = value.Line
	if err := r.take(depth); err != nil {
		return nil, err
	}
	n := &node{line: value.Line}
	switch value.Kind {
	case yaml.AliasNode:
		return r.value(value.Alias, depth+1)
	case yaml.SequenceNode:
		n.kind = isList
		for _, content := range value.Content {
			item, err := r.value(content, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, item)
		}
		return n, nil
	case yaml.MappingNode:
		n.kind = isObject
		for i := 0; i+1 < len(value.Content); i += 2 {
			m, err := r.member(value.Content[i], value.Content[i+1], depth)
			if err != nil {
				return nil, err
			}
			n.fields = append(n.fields, m)
		}
		return n, nil
	}
	return n, r.scalar(n, value)
}

func (r *yamlReader) member(key, value *yaml.Node, depth int) (*member, error) {
	r.line = key.Line
	if key.ShortTag() == "!!merge" {
		return nil, errors.New("merge keys (<<) are not supported: write the fields out")
	}
	if key.Kind != yaml.ScalarNode {
		return nil, errors.New("want plain text as key")
	}
	inner, err := r.value(value, depth+1)
	return &member{key: key.Value, line: key.Line, value: inner}, err
}

func (r *yamlReader) scalar(n *node, value *yaml.Node) error {
	n.kind, n.source = isScalar, value.Value
	switch tag := value.ShortTag(); tag {
	case "!!null":
		n.kind, n.source = isNull, ""
	case "!!str", "!!timestamp":
		n.scalar = value.Value
	case "!!bool":
		n.scalar = strings.EqualFold(value.Value, "true")
	case "!!int":
		var whole int64
		if err := value.Decode(&whole); err != nil {
			return fmt.Errorf("number %s: out of range", clip(value.Value))
		}
		n.scalar = whole
	case "!!float":
		var broken float64
		if err := value.Decode(&broken); err != nil {
			return fmt.Errorf("number %s: out of range", clip(value.Value))
		}
		n.scalar = broken
	default:
		return fmt.Errorf("tag %s is not supported", clip(tag))
	}
	return nil
}
