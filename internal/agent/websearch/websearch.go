// Package websearch says what an agent's own configuration means for its web
// search. It is pure: whoever calls it has read the file in the sandbox. What it
// finds is never a reason to stop anything.
package websearch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/tailscale/hujson"
)

// State is what is known of an agent's web search. The zero value is Unreadable:
// nothing is known.
type State string

// The states.
const (
	Unreadable    State = ""               // the configuration could not be read, or does not parse
	Enabled       State = "enabled"        // it will be used
	NotEnabled    State = "not enabled"    // it is configured, and switched off or incomplete
	NotConfigured State = "not configured" // the configuration says nothing of it
)

// Finding is the state with its reason in one sentence. Nothing of the
// configuration but the provider's name is repeated: it holds keys.
type Finding struct {
	State    State
	Provider string // e.g. "brave"; empty where none is named
	Message  string
}

// MaxSize is how much of a configuration is looked at, in bytes.
const MaxSize = 1 << 20

// agents says where each agent keeps its configuration, below the home directory
// of the sandbox, and how it is judged.
var agents = map[string]struct {
	path  string
	judge func([]byte) Finding
}{
	"openclaw": {".openclaw/openclaw.json", openClaw},
	"hermes":   {".hermes/config.yaml", hermes},
}

// Path is where an agent keeps its configuration, relative to its home directory;
// ok is false for an agent that is not known.
func Path(agent string) (path string, ok bool) {
	a, ok := agents[agent]
	return a.path, ok
}

// Check judges the content of an agent's configuration, or the error of reading it.
func Check(agent string, content []byte, readError error) Finding {
	a, ok := agents[agent]
	switch {
	case !ok:
		return Finding{Message: fmt.Sprintf("how agent %q configures web search is not known", agent)}
	case readError != nil:
		return Finding{Message: fmt.Sprintf("~/%s could not be read: %v", a.path, readError)}
	case len(content) > MaxSize:
		return Finding{Message: fmt.Sprintf("~/%s is larger than %d bytes", a.path, MaxSize)}
	case len(bytes.TrimSpace(content)) == 0:
		return Finding{Message: fmt.Sprintf("~/%s is empty", a.path)}
	}
	return a.judge(content)
}

// openClaw reads tools.web.search of openclaw.json. The provider's key is below
// plugins.entries.PROVIDER.config.webSearch, in older files beside the provider.
func openClaw(content []byte) Finding {
	text, err := hujson.Standardize(content)
	if err != nil {
		return Finding{Message: "openclaw.json is neither JSON nor JSON with comments"}
	}
	var c struct {
		Tools struct {
			Web struct {
				Search *struct {
					Enabled  *bool  `json:"enabled"`
					Provider string `json:"provider"`
				} `json:"search"`
			} `json:"web"`
		} `json:"tools"`
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return Finding{Message: "openclaw.json is not of the expected form: " + shape(err)}
	}
	search := c.Tools.Web.Search
	switch {
	case search == nil:
		return Finding{State: NotConfigured, Message: "openclaw.json has no tools.web.search"}
	case search.Enabled == nil || !*search.Enabled:
		return Finding{State: NotEnabled, Provider: name(search.Provider), Message: "tools.web.search is configured in openclaw.json and not enabled"}
	}
	f := Finding{State: Enabled, Provider: name(search.Provider), Message: "web search is enabled"}
	if f.Provider != "" {
		f.Message += " with provider " + f.Provider
	}
	return f
}

// hermes reads web.search_backend of config.yaml, else web.backend.
func hermes(content []byte) Finding {
	var c struct {
		Web *struct {
			Backend       string `yaml:"backend"`
			SearchBackend string `yaml:"search_backend"`
		} `yaml:"web"`
	}
	if err := yaml.Unmarshal(content, &c); err != nil {
		return Finding{Message: "config.yaml does not parse or is not of the expected form"}
	}
	if c.Web == nil {
		return Finding{State: NotConfigured, Message: "config.yaml has no web section"}
	}
	backend := c.Web.SearchBackend
	if backend == "" {
		backend = c.Web.Backend
	}
	if backend == "" {
		return Finding{State: NotEnabled, Message: "config.yaml has a web section and selects no web.backend"}
	}
	f := Finding{State: Enabled, Provider: name(backend), Message: "a web search backend is selected"}
	if f.Provider != "" {
		f.Message = "web search is enabled with backend " + f.Provider
	}
	return f
}

// name passes what looks like a provider's name and nothing that could be a key.
func name(s string) string {
	if len(s) > 32 || strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}) {
		return ""
	}
	return s
}

// shape says which field is of the wrong type.
func shape(err error) string {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return wrong.Field + " is of another type"
	}
	return "it does not decode"
}
