// Package policy is what a sandbox may reach: the document that OpenShell's
// policies are written in, its limits, and its canonical form. It is pure; who
// enforces a policy reads it from here and never parses one itself.
package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Version is the only version of a document.
const Version = 1

// Document is a policy. Its YAML is OpenShell's; sections that decide how a
// sandbox is made (file system, landlock, process) are fixed once it exists.
type Document struct {
	Version            int                   `yaml:"version" json:"version"`
	Filesystem         Filesystem            `yaml:"filesystem_policy" json:"filesystem_policy"`
	Landlock           Landlock              `yaml:"landlock" json:"landlock"`
	Process            Process               `yaml:"process" json:"process"`
	NetworkPolicies    map[string]Rule       `yaml:"network_policies,omitempty" json:"network_policies,omitempty"`
	NetworkMiddlewares map[string]Middleware `yaml:"network_middlewares,omitempty" json:"network_middlewares,omitempty"`
}

// Filesystem says which paths a sandbox sees.
type Filesystem struct {
	// IncludeWorkdir adds the sandbox's own directory to ReadWrite.
	IncludeWorkdir bool     `yaml:"include_workdir" json:"include_workdir"`
	ReadOnly       []string `yaml:"read_only,omitempty" json:"read_only,omitempty"`
	ReadWrite      []string `yaml:"read_write,omitempty" json:"read_write,omitempty"`
}

// The values of Landlock.Compatibility. OpenShell takes an omitted one as
// BestEffort, which runs on unprotected where the kernel lacks Landlock; here an
// omitted one is HardRequirement, because a protection is only given up by
// somebody who says so.
const (
	HardRequirement = "hard_requirement"
	BestEffort      = "best_effort"
)

// Landlock says what happens where the kernel cannot enforce file rules.
type Landlock struct {
	Compatibility string `yaml:"compatibility" json:"compatibility"`
}

// SandboxUser is the name of the user and group inside a sandbox.
const SandboxUser = "sandbox"

// Process says who the agent is inside: SandboxUser or a number that is not root.
type Process struct {
	RunAsUser  string `yaml:"run_as_user" json:"run_as_user"`
	RunAsGroup string `yaml:"run_as_group" json:"run_as_group"`
}

// Middleware is a service that inspects traffic to endpoints.
type Middleware struct {
	Middleware string         `yaml:"middleware" json:"middleware"`
	Config     map[string]any `yaml:"config,omitempty" json:"config,omitempty"`
	OnError    string         `yaml:"on_error,omitempty" json:"on_error,omitempty"`
	Endpoints  Selector       `yaml:"endpoints,omitempty" json:"endpoints,omitzero"`
	Order      int32          `yaml:"order,omitempty" json:"order,omitempty"`
}

// Selector chooses endpoints by host pattern.
type Selector struct {
	Include []string `yaml:"include,omitempty" json:"include,omitempty"`
	Exclude []string `yaml:"exclude,omitempty" json:"exclude,omitempty"`
}

// Default is the policy of a sandbox for which nobody chose one: what programs
// need to run, a workspace, no network.
func Default() Document {
	return Document{
		Version: Version,
		Filesystem: Filesystem{
			IncludeWorkdir: true,
			ReadOnly:       []string{"/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/opt", "/proc"},
			ReadWrite: []string{"/sandbox", "/tmp", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom",
				"/dev/tty", "/dev/pts", "/dev/ptmx", "/dev/shm"},
		},
		Landlock: Landlock{Compatibility: HardRequirement},
		Process:  Process{RunAsUser: SandboxUser, RunAsGroup: SandboxUser},
	}
}

// written is a document as somebody wrote it: a section may be missing, and then
// it is the default's.
type written struct {
	Version            int                   `yaml:"version" json:"version"`
	Filesystem         *Filesystem           `yaml:"filesystem_policy" json:"filesystem_policy"`
	Landlock           *Landlock             `yaml:"landlock" json:"landlock"`
	Process            *Process              `yaml:"process" json:"process"`
	NetworkPolicies    map[string]Rule       `yaml:"network_policies" json:"network_policies"`
	NetworkMiddlewares map[string]Middleware `yaml:"network_middlewares" json:"network_middlewares"`
}

// document fills in what was left out.
func (w written) document() Document {
	d := Default()
	d.Version, d.NetworkPolicies, d.NetworkMiddlewares = w.Version, w.NetworkPolicies, w.NetworkMiddlewares
	if w.Filesystem != nil {
		d.Filesystem = *w.Filesystem
	}
	if w.Landlock != nil {
		d.Landlock = *w.Landlock
	}
	if w.Process != nil {
		d.Process = *w.Process
	}
	return d.settled()
}

// UnmarshalYAML reads a document wherever it stands, alone or inside another.
// A section that is missing is the default's.
func (d *Document) UnmarshalYAML(unmarshal func(any) error) error {
	var w written
	if err := unmarshal(&w); err != nil {
		return err
	}
	*d = w.document()
	return nil
}

// UnmarshalJSON is UnmarshalYAML for JSON; an unknown field is an error.
func (d *Document) UnmarshalJSON(text []byte) error {
	var w written
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	decoder.UseNumber() // or large numbers in a middleware's configuration would change
	if err := decoder.Decode(&w); err != nil {
		return err
	}
	*d = w.document()
	return nil
}

// settled gives equal documents equal values: omitted values are spelled out,
// paths and numbers have one form, empty lists and maps are nil.
func (d Document) settled() Document {
	if d.Landlock.Compatibility == "" {
		d.Landlock.Compatibility = HardRequirement
	}
	if d.Process.RunAsUser == "" {
		d.Process.RunAsUser = SandboxUser
	}
	if d.Process.RunAsGroup == "" {
		d.Process.RunAsGroup = SandboxUser
	}
	d.Filesystem.ReadOnly = cleaned(d.Filesystem.ReadOnly)
	d.Filesystem.ReadWrite = cleaned(d.Filesystem.ReadWrite)
	if len(d.NetworkPolicies) == 0 {
		d.NetworkPolicies = nil
	}
	middlewares := make(map[string]Middleware, len(d.NetworkMiddlewares))
	for name, m := range d.NetworkMiddlewares {
		if settled, err := settleValue(m.Config, 0); err == nil {
			m.Config, _ = settled.(map[string]any)
		}
		if len(m.Config) == 0 {
			m.Config = nil
		}
		middlewares[name] = m
	}
	if d.NetworkMiddlewares = middlewares; len(middlewares) == 0 {
		d.NetworkMiddlewares = nil
	}
	return d
}

// cleaned gives each path one form. A path with ".." keeps it, so that Validate
// sees it: what it means depends on links.
func cleaned(paths []string) []string {
	if len(paths) == 0 {
		return nil
	}
	paths = slices.Clone(paths)
	for i, p := range paths {
		if strings.HasPrefix(p, "/") && !slices.Contains(strings.Split(p, "/"), "..") {
			paths[i] = path.Clean(p)
		}
	}
	return paths
}

// Canonical is the one JSON of a document: fixed field order, sorted maps, no
// white space, everything that was omitted spelled out. The document must be
// valid; for one whose middleware configuration is no JSON it is nil.
func (d Document) Canonical() []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(d.settled()); err != nil {
		return nil
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// Hash is the SHA-256 of Canonical, as 64 hexadecimal characters.
func (d Document) Hash() string {
	sum := sha256.Sum256(d.Canonical())
	return hex.EncodeToString(sum[:])
}

// FromCanonical reads what Canonical wrote and validates it.
func FromCanonical(text []byte) (Document, error) {
	if len(text) > MaxBytes {
		return Document{}, fmt.Errorf("parse policy: %w", errTooLarge)
	}
	var d Document
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&d); err != nil {
		return Document{}, fmt.Errorf("parse policy: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Document{}, errors.New("parse policy: something follows the document")
	}
	if err := d.Validate(); err != nil {
		return Document{}, err
	}
	return d, nil
}
