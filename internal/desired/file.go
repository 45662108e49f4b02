package desired

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"creel/internal/advisory"
	"creel/internal/policy"
	"creel/internal/state"
)

// maxDepth bounds nesting; a policy inside a document needs about ten levels.
const maxDepth = 64

// Parse reads a document strictly. file is only for messages. A mistake is the
// advisory "desired-invalid" with the line of the source; another apiVersion is
// "desired-version".
func Parse(file string, content []byte) (Document, error) {
	if len(content) > MaxSize {
		return Document{}, advisory.New("desired-invalid", fmt.Sprintf("%s has %d bytes, at most %d are read", file, len(content), MaxSize), nil)
	}
	body, err := parse(content)
	if err != nil {
		return Document{}, invalid(file, err)
	}
	var head struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string `yaml:"kind"`
	}
	if err := yaml.NodeToValue(body, &head); err != nil {
		return Document{}, invalid(file, err)
	}
	switch {
	case head.APIVersion == "":
		return Document{}, invalid(file, errors.New("apiVersion is missing, expected "+APIVersion))
	case !strings.HasPrefix(head.APIVersion, ours):
		return Document{}, invalid(file, fmt.Errorf("apiVersion is %q, expected %s", head.APIVersion, APIVersion))
	case head.APIVersion != APIVersion:
		return Document{}, advisory.New("desired-version", fmt.Sprintf("%s has apiVersion %q, this version reads %q", file, head.APIVersion, APIVersion), nil)
	case head.Kind != Kind:
		return Document{}, invalid(file, fmt.Errorf("kind is %q, expected %q", head.Kind, Kind))
	}
	var d Document
	if err := yaml.NodeToValue(body, &d, yaml.Strict()); err != nil {
		return Document{}, invalid(file, err)
	}
	d = d.WithDefaults()
	if err := d.Validate(); err != nil {
		return Document{}, invalid(file, err)
	}
	return d, nil
}

// ours begins every apiVersion of Creel's.
const ours = "creel/"

// parse returns the one document of a file.
func parse(content []byte) (ast.Node, error) {
	if !utf8.Valid(content) {
		return nil, errors.New("the file is not UTF-8")
	}
	if err := screen(lexer.Tokenize(string(content))); err != nil {
		return nil, err
	}
	file, err := parser.ParseBytes(content, 0)
	if err != nil {
		return nil, err
	}
	switch {
	case len(file.Docs) > 1:
		return nil, fmt.Errorf("the file holds %d documents, one is needed", len(file.Docs))
	case len(file.Docs) == 0 || file.Docs[0].Body == nil:
		return nil, errors.New("the file is empty")
	}
	switch body := file.Docs[0].Body.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return body, nil
	default:
		return nil, errors.New("the document is no mapping of keys to values")
	}
}

// screen refuses, before anything recurses into it, what no document needs:
// anchors and aliases, which multiply, and nesting without end.
func screen(tokens token.Tokens) error {
	flow, entries, current := 0, 0, 0
	for _, t := range tokens {
		line := t.Position.Line
		if line != current {
			current, entries = line, 0
		}
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType, token.TagType:
			return fmt.Errorf("line %d: anchors, aliases and tags are not allowed", line)
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType:
			entries++
		}
		if flow > maxDepth || entries > maxDepth || t.Position.IndentNum > 8*maxDepth {
			return fmt.Errorf("line %d: nested deeper than %d", line, maxDepth)
		}
	}
	return nil
}

func invalid(file string, err error) error {
	if !filepath.IsAbs(file) { // standard input, or what a user has at hand
		return advisory.New("desired-invalid", "read "+file, describe(err))
	}
	return advisory.New("desired-invalid", "read "+file, describe(err)).At(file)
}

// secretLine finds a value behind a key that sounds secret. The format has no
// such key, but people try, and the excerpt of an error goes to terminals and
// logs.
var secretLine = regexp.MustCompile(`(?i)([a-z_-]*(?:key|token|secret|passw(?:or)?d|credential)s?["']?\s*:)[^\n]*`)

// describe keeps the line and the excerpt of a YAML error without colours and
// without values that somebody meant to be secret.
func describe(err error) error {
	var syntax yaml.Error
	if !errors.As(err, &syntax) {
		return err
	}
	text := strings.TrimSpace(yaml.FormatError(err, false, true))
	return errors.New(secretLine.ReplaceAllString(text, "${1} (not shown)"))
}

// Encode writes the document as YAML.
func (d Document) Encode() ([]byte, error) {
	node, err := yaml.ValueToNode(d.WithDefaults(), yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("write desired state: %w", err)
	}
	ast.Walk(quoting{}, node)
	return append([]byte(node.String()), '\n'), nil
}

// plain are texts that mean themselves in every YAML without quotes.
var plain = regexp.MustCompile(`^[a-zA-Z/][A-Za-z0-9_./-]*$`)

// quoting is a visitor that puts values into double quotes unless they are
// plain. The library's own block style loses line ends.
type quoting struct{}

func (q quoting) Visit(node ast.Node) ast.Visitor {
	switch n := node.(type) {
	case *ast.MappingValueNode:
		ast.Walk(q, n.Value)
		return nil // its key keeps its form
	case *ast.StringNode:
		words := []string{"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
		switch {
		case strings.HasPrefix(n.Value, `"`): // the library quoted it already
		case !plain.MatchString(n.Value), slices.Contains(words, strings.ToLower(n.Value)):
			n.Token.Type = token.DoubleQuoteType
		}
	}
	return q
}

// Load reads the file at path, and the policy files that it names, relative to
// its directory. An absent file is fs.ErrNotExist.
func Load(path string) (Document, error) {
	content, err := read(path)
	if err != nil {
		return Document{}, err
	}
	d, err := Parse(path, content)
	if err != nil {
		return Document{}, err
	}
	return d.inlined(path)
}

// Recorded is Load, with nil for an absent file.
func Recorded(path string) (*Document, error) {
	d, err := Load(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &d, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, unreadable(path, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, unreadable(path, err)
	case !info.Mode().IsRegular():
		return nil, advisory.New("desired-unreadable", path+" is not a file", nil).At(path)
	case info.Size() > MaxSize:
		return nil, advisory.New("desired-invalid", fmt.Sprintf("%s has %d bytes, at most %d are read", path, info.Size(), MaxSize), nil).At(path)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	return content, nil
}

func unreadable(path string, err error) error {
	return advisory.New("desired-unreadable", "read desired state", err).At(path)
}

// inlined replaces every policyFile by what the file says now, and makes the
// kubeconfig's path mean the same everywhere.
func (d Document) inlined(path string) (Document, error) {
	if k := d.Cluster.Kubeconfig; k != "" && !filepath.IsAbs(k) {
		abs, err := filepath.Abs(filepath.Join(filepath.Dir(path), k))
		if err != nil {
			return Document{}, invalid(path, fmt.Errorf("cluster.kubeconfig: %w", err))
		}
		d.Cluster.Kubeconfig = abs
	}
	for _, s := range d.Sandboxes {
		if s.PolicyFile == "" {
			continue
		}
		file := s.PolicyFile
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(path), file)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return Document{}, invalid(path, fmt.Errorf("sandbox %q: read policyFile: %w", s.Name, err))
		}
		p, err := policy.Parse(content)
		if err != nil {
			return Document{}, invalid(path, fmt.Errorf("sandbox %q: policyFile %s: %w", s.Name, file, describe(err)))
		}
		s.Policy, s.PolicyFile = &p, ""
		d = d.With(s)
	}
	return d, nil
}

// Save writes the file at path durably, making its directory.
func (d Document) Save(path string) error {
	content, err := d.Encode()
	if err != nil {
		return err
	}
	if err := state.MkdirAll(filepath.Dir(path)); err != nil {
		return advisory.New("state-unwritable", "write desired state", err)
	}
	if err := state.WriteFile(path, content, state.FileMode); err != nil {
		return advisory.New("state-unwritable", "write desired state", err)
	}
	return nil
}
