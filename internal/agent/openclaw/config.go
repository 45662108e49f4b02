// Package openclaw fits the agent OpenClaw into a sandbox: it writes how the page
// is reached into OpenClaw's own configuration, so that its control UI accepts
// that page and that token and no other. The names of the fields are those of
// OpenClaw's configuration reference. The file is its owner's: what Creel does not
// need stays as it is, comments too.
package openclaw

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tailscale/hujson"

	"creel/internal/credential"
)

// Access is how the page is reached.
type Access struct {
	Port    int               // where OpenClaw listens inside the sandbox
	Token   credential.Secret // what a browser has to show
	Origins []string          // of the pages that may connect, e.g. "http://127.0.0.1:18789"
	// Relay is the base URL of the sandbox's inference relay, which knows the model
	// and the key of its provider; empty without one.
	Relay string
}

// modelName is the model of the relay as OpenClaw knows it. The relay puts the
// chosen model in its place.
const modelName = "creel/inference"

// provider is the relay in OpenClaw's terms. The key is a reference to the
// variable that every sandbox has: it is worth nothing elsewhere and is not
// written down even so.
func provider(relay string) any {
	return map[string]any{"baseUrl": relay, "api": "openai-completions", "apiKey": "${OPENAI_API_KEY}",
		"models": []any{map[string]any{"id": "inference", "name": "Creel inference"}}}
}

const originsPath = "gateway.controlUi.allowedOrigins"

// Merge returns the configuration with the access in it. config is what is there,
// empty when nothing is: JSON that may hold comments and trailing commas. before
// lists the origins that an earlier Merge put in; those that are no longer wanted
// go, and those that somebody else added stay. A configuration that says all of
// this already comes back byte for byte. Errors repeat nothing of the content.
func Merge(config []byte, a Access, before []string) ([]byte, error) {
	if strings.TrimSpace(string(config)) == "" {
		config = []byte("{}\n")
	}
	doc, err := hujson.Parse(config)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", position(err))
	}
	d := document{&doc}
	origins, err := d.origins()
	if err != nil {
		return nil, err
	}
	want := append([]string{}, a.Origins...) // never nil: OpenClaw takes no null
	for _, o := range origins {
		if !slices.Contains(want, o) && !slices.Contains(before, o) {
			want = append(want, o)
		}
	}
	// OpenClaw refuses to serve without a mode, and listens on loopback by default;
	// who chose otherwise did so knowingly. Its token is never optional.
	type step struct {
		path   string
		value  any
		absent bool // only where nothing is set
	}
	steps := []step{
		{"gateway.mode", "local", true},
		{"gateway.bind", "loopback", true},
		{"gateway.port", a.Port, false},
		{"gateway.auth.mode", "token", false},
		{"gateway.auth.token", a.Token.Reveal(), false},
	}
	if len(want) > 0 || len(origins) > 0 { // else nothing is allowed, and nothing is to be
		steps = append(steps, step{originsPath, want, false})
	}
	if a.Relay != "" {
		steps = append(steps, step{"models.providers.creel", provider(a.Relay), false}, step{"agents.defaults.model", modelName, true})
	}
	changed := false
	for _, s := range steps {
		c, err := d.set(strings.Split(s.path, "."), s.value, s.absent)
		if err != nil {
			return nil, err
		}
		changed = changed || c
	}
	if !changed {
		return config, nil
	}
	doc.Format()
	return doc.Pack(), nil
}

// position keeps where a text does not parse and drops what it says there: that
// may be a secret.
func position(err error) error {
	if at, _, ok := strings.Cut(strings.TrimPrefix(err.Error(), "hujson: "), ":"); ok && strings.HasPrefix(at, "line ") {
		return errors.New(at + " is neither JSON nor JSON with comments")
	}
	return errors.New("it is neither JSON nor JSON with comments")
}

type document struct{ value *hujson.Value }

// member finds a member of an object; nil when there is none.
func member(object *hujson.Object, name string) (*hujson.Value, error) {
	var found *hujson.Value
	for i := range object.Members {
		m := &object.Members[i]
		if l, ok := m.Name.Value.(hujson.Literal); ok && l.String() == name {
			if found != nil {
				// Readers differ in which one counts.
				return nil, fmt.Errorf("%q appears twice", name)
			}
			found = &m.Value
		}
	}
	return found, nil
}

// object descends to the object at a path, making what is missing.
func (d document) object(path []string) (*hujson.Object, error) {
	at := d.value
	for i := 0; ; i++ {
		o, ok := at.Value.(*hujson.Object)
		if !ok {
			return nil, fmt.Errorf("%s is no object", where(path[:i]))
		}
		if i == len(path) {
			return o, nil
		}
		next, err := member(o, path[i])
		if err != nil {
			return nil, err
		}
		if next == nil {
			o.Members = append(o.Members, hujson.ObjectMember{
				Name: hujson.Value{Value: hujson.String(path[i])}, Value: hujson.Value{Value: &hujson.Object{}}})
			next = &o.Members[len(o.Members)-1].Value
		}
		at = next
	}
}

func where(path []string) string {
	if len(path) == 0 {
		return "the document"
	}
	return strings.Join(path, ".")
}

// set makes a field have a value and reports whether it had another. With absent it
// leaves a value that is there.
func (d document) set(path []string, value any, absent bool) (bool, error) {
	last := len(path) - 1
	o, err := d.object(path[:last])
	if err != nil {
		return false, err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return false, fmt.Errorf("%s: %w", where(path), err)
	}
	wanted, err := hujson.Parse(text)
	if err != nil {
		return false, fmt.Errorf("%s: %w", where(path), err)
	}
	have, err := member(o, path[last])
	switch {
	case err != nil:
		return false, err
	case have == nil:
		o.Members = append(o.Members, hujson.ObjectMember{Name: hujson.Value{Value: hujson.String(path[last])}, Value: wanted})
		return true, nil
	case absent || same(*have, wanted):
		return false, nil
	}
	have.Value = wanted.Value
	return true, nil
}

// same compares two values and not their spacing and comments.
func same(a, b hujson.Value) bool {
	a, b = a.Clone(), b.Clone()
	a.Minimize()
	b.Minimize()
	return string(a.Pack()) == string(b.Pack())
}

// origins are those that the configuration allows now.
func (d document) origins() ([]string, error) {
	path := strings.Split(originsPath, ".")
	at := d.value
	for i, name := range path {
		o, ok := at.Value.(*hujson.Object)
		if !ok {
			return nil, fmt.Errorf("%s is no object", where(path[:i]))
		}
		next, err := member(o, name)
		if next == nil || err != nil {
			return nil, err
		}
		at = next
	}
	list, ok := at.Value.(*hujson.Array)
	if !ok {
		return nil, fmt.Errorf("%s is no list", where(path))
	}
	var origins []string
	for _, e := range list.Elements {
		l, ok := e.Value.(hujson.Literal)
		if !ok || l.Kind() != '"' {
			return nil, fmt.Errorf("%s holds something that is no text", where(path))
		}
		origins = append(origins, l.String())
	}
	return origins, nil
}
