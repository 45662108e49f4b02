// Package service has an embedded gateway kept by systemd: it writes the unit,
// hands a running gateway over, starts and stops it through its unit from then on,
// and takes the unit away again. It says that something is so only when it was read
// back, touches no unit that it did not write, and no sandbox ever.
package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"creel/internal/advisory"
	"creel/internal/state"
	"creel/internal/systemd"
)

// Config is the service of one gateway.
type Config struct {
	Gateway state.Gateway
	Manager *systemd.Manager
	// Environment is what the daemon needs to find the same directories as the
	// command line: NAME=VALUE each.
	Environment []string
	// Executable is the program that the unit shall run from its next start on: a
	// copy that stays where it is.
	Executable func() (string, error)
	// Usable reports why no daemon could work with what is on disk, with an advisory;
	// nil asks nothing. It writes nothing.
	Usable func(context.Context) error
}

// Service is what keeps one gateway.
type Service struct {
	cfg Config
	m   *systemd.Manager
}

// New makes the service of a gateway. It does no I/O.
func New(cfg Config) *Service { return &Service{cfg: cfg, m: cfg.Manager} }

// UnitName is the name of a gateway's unit.
func UnitName(gateway string) string { return "creel-gateway-" + gateway + ".service" }

// recordVersion is the version of service.json.
const recordVersion = 1

// record is service.json: which unit is this gateway's. It is written before the
// unit and removed after it, so that nothing is forgotten on the way.
type record struct {
	Version int    `json:"version"`
	Manager string `json:"manager"`
	Unit    string `json:"unit"`
	Path    string `json:"path"`
}

// recorded reads the record; nil without one.
func (s *Service) recorded() (*record, error) {
	path := s.cfg.Gateway.File(state.ServiceFile)
	b, err := state.ReadSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var r record
	if err == nil {
		if err = json.Unmarshal(b, &r); err != nil {
			err = fmt.Errorf("%w: %w", errDamaged, err)
		} else {
			err = s.check(r)
		}
	}
	if err != nil {
		return nil, advisory.New("service-unknown", "read "+path, err)
	}
	return &r, nil
}

// errDamaged marks a record that is not what Creel wrote.
var errDamaged = errors.New("it is damaged")

// check refuses a record by which another file than our unit would be touched.
func (s *Service) check(r record) error {
	switch {
	case r.Version > recordVersion:
		return fmt.Errorf("version %d, this Creel knows %d", r.Version, recordVersion)
	case r.Manager != s.m.Name():
		return fmt.Errorf("the service is the %s manager's, and this user's is the %s manager", r.Manager, s.m.Name())
	case r.Unit != UnitName(s.cfg.Gateway.Name):
		return fmt.Errorf("%w: unit %q is not this gateway's", errDamaged, r.Unit)
	case !filepath.IsAbs(r.Path) || filepath.Base(r.Path) != r.Unit:
		return fmt.Errorf("%w: %q is not where that unit is", errDamaged, r.Path)
	}
	return nil
}

func (s *Service) writeRecord(r record) error {
	if err := state.MkdirAll(s.cfg.Gateway.Dir()); err != nil {
		return err
	}
	return state.WriteDocument(s.cfg.Gateway.File(state.ServiceFile), r)
}

// Kept reports whether a unit keeps the gateway. A record whose unit file is gone
// keeps nothing.
func (s *Service) Kept() (bool, error) {
	r, err := s.recorded()
	if r == nil || err != nil {
		return false, err
	}
	_, err = os.Lstat(r.Path)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, advisory.New("service-unknown", "look for the unit of the gateway", err)
}

// Program is the link that the unit runs; it leads to the executable of the last
// start, so that a new one needs no new unit.
func (s *Service) Program() string { return s.cfg.Gateway.File(state.ServiceProgram) }

// Point makes the unit run another executable from its next start on.
func (s *Service) Point(executable string) error {
	link := s.Program()
	if now, err := os.Readlink(link); err == nil && now == executable {
		return nil
	}
	draft := link + ".new"
	if err := state.RemoveIfExists(draft); err != nil {
		return err
	}
	if err := os.Symlink(executable, draft); err != nil {
		return fmt.Errorf("link the service's program: %w", err)
	}
	if err := os.Rename(draft, link); err != nil {
		return errors.Join(fmt.Errorf("link the service's program: %w", err), os.Remove(draft))
	}
	return state.SyncDir(filepath.Dir(link))
}

// origin is whose a unit file is.
type origin uint8

const (
	unread  origin = iota // it could not be read
	missing               // there is none
	foreign               // somebody else wrote it
	another               // Creel wrote it for another gateway's state
	edited                // Creel wrote it, and somebody changed it
	ours                  // it is as Creel wrote it for this gateway
)

// fileAt reads a unit file and says whose it is.
func (s *Service) fileAt(path string) (origin, string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return foreign, "", nil // a link that leads nowhere, or masks the unit
		}
		return missing, "", nil
	}
	if err != nil {
		return unread, "", err
	}
	defer f.Close()
	const most = 1 << 20
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return unread, "", err
	}
	if fi, err := os.Lstat(path); err != nil || !fi.Mode().IsRegular() {
		return foreign, "", err // what Creel writes is a file
	}
	return judgeText(string(b), s.cfg.Gateway), string(b), nil
}
