package registration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"reflect"

	"creel/internal/advisory"
	"creel/internal/state"
)

// State is how a registration is. The zero value means that nobody looked.
type State string

// The states of a registration.
const (
	OK      State = "ok"
	Absent  State = "absent"  // positively not there, or not all of it
	Stale   State = "stale"   // ours, but not what the gateway is now
	Foreign State = "foreign" // somebody else's under the same name
	Unknown State = "unknown" // could not be determined
)

// Advisory is the id of the advisory for a state; empty for OK.
func (s State) Advisory() string {
	if s == OK || s == "" {
		return ""
	}
	return "registration-" + string(s)
}

// Problem is one thing that is not as it should be.
type Problem struct {
	// Field is a file below the directory, or a field of metadata.json.
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

// Report is what Inspect found. It holds no key material.
type Report struct {
	State     State     `json:"state"`
	Directory string    `json:"directory"`
	Endpoint  string    `json:"endpoint"` // as registered; empty when it could not be read
	Problems  []Problem `json:"problems"`
	// Active is the gateway that OpenShell clients use unless told otherwise,
	// empty for none.
	Active string `json:"active_gateway"`
	// Err is set for Foreign and Unknown; it carries the advisory.
	Err error `json:"-"`
}

// String is one sentence for a person.
func (r Report) String() string {
	switch r.State {
	case OK:
		return "OpenShell clients find the gateway at " + r.Endpoint
	case Absent:
		if len(r.Problems) == 0 {
			return "the gateway is not registered with OpenShell clients"
		}
	case Foreign, Unknown:
		return r.Err.Error()
	case Stale:
	default:
		return "the registration was not inspected"
	}
	s := "the registration in " + r.Directory + ": "
	for i, p := range r.Problems {
		if i > 0 {
			s += "; "
		}
		s += p.Field + " " + p.Detail
	}
	return s
}

// Inspect compares a registration with what it should be. It only reads.
func Inspect(g state.Gateway, e Endpoint, c Credentials) Report {
	dir := g.Registration()
	r := Report{Directory: dir, Problems: []Problem{}}
	fail := func(s State, err error) Report {
		r.State, r.Err = s, err
		return r
	}
	rec, f, err := lookAt(g)
	if err != nil {
		if p, ok := advisory.Of(err); ok && p.ID == Foreign.Advisory() {
			return fail(Foreign, err)
		}
		return fail(Unknown, err)
	}
	if r.Active, err = readActive(activePath(g)); err != nil {
		return fail(Unknown, advisory.New("registration-unknown", "read the active gateway", err))
	}
	r.Endpoint = endpointOf(f.files[state.MetadataFile])
	if !f.empty && !rec.ours(dir, f) {
		return fail(Foreign, foreign(g, r.Endpoint, nil))
	}
	if len(f.files) == 0 {
		r.State = Absent
		return r
	}
	want, err := contents(g, e, c)
	if err != nil {
		return fail(Unknown, err)
	}
	r.State = OK
	for _, name := range names() {
		content, ok := f.files[name]
		switch {
		case !ok:
			r.State = Absent
			r.Problems = append(r.Problems, Problem{name, "is missing"})
		case name == state.MetadataFile:
			for _, p := range staleFields(content, want[name]) {
				r.stale(p)
			}
		case !bytes.Equal(content, want[name]):
			r.stale(Problem{name, "is not the gateway's own"})
		}
		if ok && name != state.MetadataFile {
			// A client refuses or leaks a key that others may read.
			if info, err := os.Lstat(filepath.Join(dir, name)); err == nil && info.Mode().Perm()&0o077 != 0 {
				r.stale(Problem{name, fmt.Sprintf("has mode %04o, others can read it", info.Mode().Perm())})
			}
		}
	}
	return r
}

func (r *Report) stale(p Problem) {
	r.Problems = append(r.Problems, p)
	if r.State == OK {
		r.State = Stale
	}
}

// lookAt reads the record and the directory, and turns what cannot be ours into
// the foreign advisory.
func lookAt(g state.Gateway) (record, found, error) {
	rec, err := readRecord(g)
	if err != nil {
		return record{}, found{}, err
	}
	f, err := look(g.Registration())
	if errors.Is(err, errOther) {
		return record{}, found{}, foreign(g, "", err)
	}
	if err != nil {
		return record{}, found{}, advisory.New("registration-unknown", "read the registration", err)
	}
	return rec, f, nil
}

func foreign(g state.Gateway, endpoint string, cause error) error {
	detail := fmt.Sprintf("%s is the registration of another gateway", g.Registration())
	if endpoint != "" {
		detail += " at " + endpoint
	}
	return advisory.New("registration-foreign", detail, cause)
}

func activePath(g state.Gateway) string {
	return filepath.Join(g.Roots.OpenShell, state.ActiveGatewayFile)
}

func endpointOf(content []byte) string {
	var m metadata
	if json.Unmarshal(content, &m) != nil {
		return ""
	}
	u, err := url.Parse(m.GatewayEndpoint)
	if err != nil {
		return ""
	}
	u.User = nil // somebody else's endpoint may hold a password
	return u.String()
}

// staleFields compares the fields that Creel writes. A client may add others.
func staleFields(have, want []byte) []Problem {
	var h, w map[string]any
	if json.Unmarshal(want, &w) != nil || json.Unmarshal(have, &h) != nil {
		return []Problem{{state.MetadataFile, "does not parse"}}
	}
	var problems []Problem
	for _, field := range []string{"name", "gateway_endpoint", "is_remote", "gateway_port", "auth_mode"} {
		if !reflect.DeepEqual(h[field], w[field]) {
			problems = append(problems, Problem{field, fmt.Sprintf("is not %v", w[field])})
		}
	}
	return problems
}
