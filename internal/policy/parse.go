package policy

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Parse reads a document from YAML and validates it. It is strict: an unknown or
// repeated key, a wrong type, an anchor, a second document are errors, and every
// error names the line of the source.
func Parse(text []byte) (Document, error) {
	if len(text) > MaxBytes {
		return Document{}, fmt.Errorf("parse policy: %w", errTooLarge)
	}
	if !utf8.Valid(text) {
		return Document{}, errors.New("parse policy: the document is not UTF-8")
	}
	if err := screen(lexer.Tokenize(string(text))); err != nil {
		return Document{}, fmt.Errorf("parse policy: %w", err)
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return Document{}, fmt.Errorf("parse policy: %w", err)
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return Document{}, fmt.Errorf("parse policy: %d documents, one is needed", len(file.Docs))
	}
	var d Document
	if err := yaml.NodeToValue(file.Docs[0].Body, &d, yaml.Strict()); err != nil {
		return Document{}, fmt.Errorf("parse policy: %w", err)
	}
	if c := d.check(); len(c.problems) > 0 {
		for i := range c.problems {
			c.problems[i].Line = line(file.Docs[0].Body, c.locations[i])
		}
		return Document{}, &Invalid{Problems: c.problems}
	}
	return d, nil
}

// screen refuses, before anything recurses into it, what no policy needs:
// anchors and aliases, which multiply, and nesting without end.
func screen(tokens token.Tokens) error {
	flow, entries, current := 0, 0, 0
	for _, t := range tokens {
		where := t.Position.Line
		if where != current {
			current, entries = where, 0
		}
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return fmt.Errorf("line %d: anchors and aliases are not allowed", where)
		case token.TagType:
			return fmt.Errorf("line %d: tags are not allowed", where)
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType:
			entries++
		}
		if flow > maxDepth || entries > maxDepth {
			return fmt.Errorf("line %d: nested deeper than %d", where, maxDepth)
		}
	}
	return nil
}

// line finds where in the source a location is, or the nearest that encloses it.
func line(node ast.Node, location []any) int {
	best := node.GetToken().Position.Line
	for _, step := range location {
		var next ast.Node
		switch n := node.(type) {
		case *ast.MappingNode:
			for _, v := range n.Values {
				if v.Key.GetToken().Value == step {
					next, best = v.Value, v.Key.GetToken().Position.Line
				}
			}
		case *ast.MappingValueNode:
			if n.Key.GetToken().Value == step {
				next, best = n.Value, n.Key.GetToken().Position.Line
			}
		case *ast.SequenceNode:
			if i, ok := step.(int); ok && i < len(n.Values) {
				next = n.Values[i]
				best = next.GetToken().Position.Line
			}
		}
		if next == nil {
			break
		}
		node = next
	}
	return best
}
