// Package upgrade replaces a gateway by another build of it so that there is a way
// back: it keeps what the old one wrote, stops it, launches the new one, and when
// that does not prove healthy puts everything back and launches the old one again.
// Each step is on disk before the next is taken, so that a walk that was killed is
// finished by the next start. How a gateway is stopped, launched and judged is its
// runtime's; this package knows none.
package upgrade

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"creel/internal/advisory"
	"creel/internal/state"
)

// Side is one of the two gateways of an upgrade.
type Side struct {
	// Version is for people; empty when it is not known.
	Version string `json:"version"`
	// Build tells executables apart by their content, where the runtime has such an
	// id; empty where only the version tells them apart.
	Build string `json:"build,omitempty"`
	// Executable is launched to have it; empty when it is not to be had any more.
	Executable string `json:"executable"`
	// Settings are the runtime's own, with which it is launched.
	Settings json.RawMessage `json:"settings,omitempty"`
}

// String is how people tell the two apart.
func (s Side) String() string {
	v := s.Version
	if v == "" {
		v = "an unknown version"
	}
	if s.Build == "" {
		return v
	}
	return fmt.Sprintf("%s (build %.12s)", v, s.Build)
}

// Between is what an upgrade replaces by what: "from 1 to 2", or "from 1 to other
// settings".
func Between(from, to Side) string {
	if from.SameProgram(to) {
		return fmt.Sprintf("from %s to other settings", from)
	}
	return fmt.Sprintf("from %s to %s", from, to)
}

// SameProgram reports that both are known to be the same build.
func (s Side) SameProgram(other Side) bool {
	if s.Build != "" || other.Build != "" {
		return s.Build == other.Build
	}
	return s.Version != "" && s.Version == other.Version
}

// same reports that both are one gateway, its settings too.
func (s Side) same(other Side) bool {
	return s.SameProgram(other) && bytes.Equal(compact(s.Settings), compact(other.Settings))
}

func compact(raw json.RawMessage) []byte {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return raw
	}
	return b.Bytes()
}

// Step is how far an upgrade has come.
type Step string

// The steps.
const (
	Prepared  Step = "prepared"  // the files are the old gateway's; it may run, or nothing
	Trying    Step = "trying"    // they are kept, and the new gateway may have written to them
	Returning Step = "returning" // the kept ones are being put back
)

const recordVersion = 1

// Record is upgrade.json: an upgrade that is under way. It is there from before the
// old gateway is stopped until one of the two has proven healthy.
type Record struct {
	Version   int       `json:"version"`
	Gateway   string    `json:"gateway"`
	Runtime   string    `json:"runtime"`
	Step      Step      `json:"step"`
	StartedAt time.Time `json:"started_at"`
	From      Side      `json:"from"`
	To        Side      `json:"to"`
	// Kept are the names, below the gateway's directory, of what is in upgrade/kept;
	// what is a gateway's and not named here did not exist.
	Kept []string `json:"kept"`
}

// Read returns the upgrade that is under way; nil when there is none. A record that
// a newer Creel wrote, or that nobody did, is an error that names it.
func Read(g state.Gateway) (*Record, error) {
	var r Record
	found, err := read(g, state.UpgradeFile, &r)
	if err != nil || !found {
		return nil, err
	}
	if err := r.check(g.Name); err != nil {
		return nil, invalid(g.File(state.UpgradeFile), err)
	}
	return &r, nil
}

func (r Record) check(name string) error {
	switch {
	case r.Gateway != name:
		return fmt.Errorf("it is of gateway %q, not %q", r.Gateway, name)
	case r.Step != Prepared && r.Step != Trying && r.Step != Returning:
		return fmt.Errorf("there is no step %q", r.Step)
	case r.Runtime == "":
		return errors.New("no runtime")
	}
	for _, name := range r.Kept {
		if !filepath.IsLocal(name) {
			return fmt.Errorf("%q leads elsewhere", name)
		}
	}
	return nil
}

// served is served.json: the gateway that last proved healthy. It outlives that one.
type served struct {
	Version int    `json:"version"`
	Gateway string `json:"gateway"`
	Runtime string `json:"runtime"`
	Side    Side   `json:"served"`
}

// Served returns the gateway of this runtime that last proved healthy; nil when none
// is recorded.
func Served(g state.Gateway, runtime string) (*Side, error) {
	var s served
	found, err := read(g, state.ServedFile, &s)
	if err != nil || !found || s.Runtime != runtime {
		return nil, err
	}
	if s.Gateway != g.Name {
		return nil, invalid(g.File(state.ServedFile), fmt.Errorf("it is of gateway %q, not %q", s.Gateway, g.Name))
	}
	return &s.Side, nil
}

// WriteServed records a gateway that has proven healthy. What is recorded already
// is not written again.
func WriteServed(g state.Gateway, runtime string, s Side) error {
	if old, err := Served(g, runtime); err == nil && old != nil && old.same(s) && old.Version == s.Version && old.Executable == s.Executable {
		return nil
	}
	return state.WriteDocument(g.File(state.ServedFile), served{Version: recordVersion, Gateway: g.Name, Runtime: runtime, Side: s})
}

// Look returns what earlier starts and upgrades of a runtime left on disk: an upgrade
// that is under way and the gateway that last proved healthy, each nil when there is
// none. An upgrade of another runtime is an error: what was kept for it must not be
// lost.
func Look(g state.Gateway, runtime string) (*Record, *Side, error) {
	r, err := Read(g)
	if err != nil {
		return nil, nil, err
	}
	if r != nil && r.Runtime != runtime {
		return nil, nil, advisory.New("gateway-upgrade-elsewhere",
			fmt.Sprintf("an upgrade of gateway %s as runtime %s was interrupted, and it is %s now", g.Name, r.Runtime, runtime), nil,
			backTo(g, r.Runtime)...)
	}
	s, err := Served(g, runtime)
	return r, s, err
}

// backTo is how a gateway is of its former runtime again. A recorded one is never
// changed by a command: somebody edited the document, so that it has to go first.
func backTo(g state.Gateway, runtime string) []string {
	again := "creel onboard --runtime " + advisory.Quote(runtime)
	if _, err := os.Lstat(g.Desired()); errors.Is(err, fs.ErrNotExist) {
		return []string{again}
	}
	q := advisory.Quote(g.Desired())
	return []string{"mv " + q + " " + advisory.Quote(g.Desired()+".moved"), again}
}

// read parses one of this package's files, if it is there and of a version that is
// known.
func read(g state.Gateway, name string, v any) (bool, error) {
	path := g.File(name)
	b, err := state.ReadSmall(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	var newer state.NewerError
	switch err := state.ParseDocument(b, recordVersion, v); {
	case errors.As(err, &newer):
		return false, advisory.New("gateway-record-newer", fmt.Sprintf("%s has version %d, this Creel knows %d", path, newer.Version, newer.Known), nil)
	case err != nil:
		return false, invalid(path, err)
	}
	return true, nil
}

func invalid(path string, err error) error {
	return advisory.New("gateway-record-invalid", path+" is not what Creel wrote there", err).At(path)
}
