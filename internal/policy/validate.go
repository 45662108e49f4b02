package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The limits of a document.
const (
	MaxBytes       = 256 << 10 // of a document, as written and canonical
	MaxPaths       = 256       // read-only and read-write together
	MaxPathLength  = 4096      // in characters
	MaxMiddlewares = 10
)

var errTooLarge = fmt.Errorf("the document is larger than %d bytes", MaxBytes)

// Problem is one thing that is wrong with a document.
type Problem struct {
	// Path is where, e.g. "network_policies.github.endpoints[0].port".
	Path   string
	Reason string
	Line   int // in the source, 0 when there is none
}

// Invalid is the error of a document that parses and breaks a rule.
type Invalid struct{ Problems []Problem }

// Error names every problem.
func (e *Invalid) Error() string {
	parts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		parts[i] = p.Path + ": " + p.Reason
		if p.Line > 0 {
			parts[i] = fmt.Sprintf("line %d: %s", p.Line, parts[i])
		}
	}
	return "invalid policy: " + strings.Join(parts, "; ")
}

// checker collects problems. A location is a list of keys and indexes.
type checker struct {
	problems  []Problem
	locations [][]any
}

func (c *checker) add(at []any, format string, args ...any) {
	var b strings.Builder
	for _, step := range at {
		switch step := step.(type) {
		case int:
			fmt.Fprintf(&b, "[%d]", step)
		default:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			fmt.Fprint(&b, step)
		}
	}
	c.problems = append(c.problems, Problem{Path: b.String(), Reason: fmt.Sprintf(format, args...)})
	c.locations = append(c.locations, at)
}

func at(location []any, steps ...any) []any { return append(slices.Clone(location), steps...) }

// Validate reports everything in which a document breaks the limits and rules of
// OpenShell's schema. The error is an *Invalid.
func (d Document) Validate() error {
	if c := d.check(); len(c.problems) > 0 {
		return &Invalid{Problems: c.problems}
	}
	return nil
}

func (d Document) check() *checker {
	c := &checker{}
	d = d.settled()
	if d.Version != Version {
		c.add(at(nil, "version"), "%d is not %d", d.Version, Version)
	}
	c.filesystem(d.Filesystem)
	c.oneOf(at(nil, "landlock", "compatibility"), d.Landlock.Compatibility, HardRequirement, BestEffort)
	c.identity(at(nil, "process", "run_as_user"), d.Process.RunAsUser)
	c.identity(at(nil, "process", "run_as_group"), d.Process.RunAsGroup)
	for _, name := range sortedKeys(d.NetworkPolicies) {
		c.rule(at(nil, "network_policies", name), name, d.NetworkPolicies[name])
	}
	if n := len(d.NetworkMiddlewares); n > MaxMiddlewares {
		c.add(at(nil, "network_middlewares"), "%d are given, at most %d are allowed", n, MaxMiddlewares)
	}
	for _, name := range sortedKeys(d.NetworkMiddlewares) {
		c.middleware(at(nil, "network_middlewares", name), name, d.NetworkMiddlewares[name])
	}
	if len(c.problems) == 0 && len(d.Canonical()) > MaxBytes {
		c.add(nil, "%v", errTooLarge)
	}
	return c
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (c *checker) filesystem(f Filesystem) {
	base := []any{"filesystem_policy"}
	if n := len(f.ReadOnly) + len(f.ReadWrite); n > MaxPaths {
		c.add(base, "%d paths are given, at most %d are allowed", n, MaxPaths)
		return
	}
	for i, p := range f.ReadOnly {
		c.path(at(base, "read_only", i), p)
	}
	for i, p := range f.ReadWrite {
		here := at(base, "read_write", i)
		c.path(here, p)
		if p == "/" {
			c.add(here, "the whole file system cannot be writable")
		}
	}
}

func (c *checker) path(here []any, p string) {
	switch {
	case !strings.HasPrefix(p, "/"):
		c.add(here, "path %q is not absolute", p)
	case utf8.RuneCountInString(p) > MaxPathLength:
		c.add(here, "a path of %d characters is longer than %d", utf8.RuneCountInString(p), MaxPathLength)
	case slices.Contains(strings.Split(p, "/"), ".."):
		c.add(here, "path %q holds \"..\"", p)
	default:
		c.text(here, p)
	}
}

// identity accepts the sandbox's own user, or a number that is not root's.
func (c *checker) identity(here []any, who string) {
	if who == SandboxUser {
		return
	}
	n, err := strconv.ParseUint(who, 10, 32)
	// The highest number means "no change" to the kernel.
	if err != nil || n == 0 || n == 1<<32-1 || who[0] == '+' || who[0] == '0' {
		c.add(here, "%q is neither %q nor a number from 1 to 4294967294", who, SandboxUser)
	}
}

func (c *checker) oneOf(here []any, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		quoted := make([]string, 0, len(allowed))
		for _, a := range allowed {
			if a != "" {
				quoted = append(quoted, a)
			}
		}
		c.add(here, "%q is none of %s", value, strings.Join(quoted, ", "))
	}
}

// text refuses what would garble a log line, a terminal or the canonical form.
func (c *checker) text(here []any, s string) {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		c.add(here, "%q holds control characters or is not UTF-8", s)
	}
}

func (c *checker) texts(here []any, values map[string]string) {
	for _, key := range sortedKeys(values) {
		c.text(at(here, key), values[key])
	}
}

// named checks the key of a map.
func (c *checker) named(here []any, name string) {
	if strings.TrimSpace(name) == "" {
		c.add(here, "the name is empty")
		return
	}
	c.text(here, name)
}

func (c *checker) middleware(here []any, name string, m Middleware) {
	c.named(here, name)
	if m.Middleware == "" {
		c.add(at(here, "middleware"), "is missing")
	}
	c.text(at(here, "middleware"), m.Middleware)
	c.text(at(here, "on_error"), m.OnError)
	if _, err := settleValue(m.Config, 0); err != nil {
		c.add(at(here, "config"), "%v", err)
	}
	for i, host := range m.Endpoints.Include {
		c.host(at(here, "endpoints", "include", i), host)
	}
	for i, host := range m.Endpoints.Exclude {
		c.host(at(here, "endpoints", "exclude", i), host)
	}
}
