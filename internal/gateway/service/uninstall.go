package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/state"
)

// Find is the path of the unit file that Uninstall would remove, "" without one. It
// is also found when its record was lost. One that was not written by Creel for this
// gateway, or was changed since, is an error.
func (s *Service) Find(ctx context.Context) (string, error) {
	r, err := s.find(ctx)
	if r == nil || err != nil {
		return "", err
	}
	return r.Path, nil
}

func (s *Service) find(ctx context.Context) (*record, error) {
	r, err := s.recorded()
	damaged := errors.Is(err, errDamaged)
	if err != nil && !damaged {
		return nil, err
	}
	known := r != nil
	if !known {
		dir, err := s.m.UnitDir(ctx)
		if err != nil {
			return nil, nil // nowhere to be
		}
		unit := UnitName(s.cfg.Gateway.Name)
		r = &record{Version: recordVersion, Manager: s.m.Name(), Unit: unit, Path: filepath.Join(dir, unit)}
	}
	switch whose, text, err := s.fileAt(r.Path); whose {
	case ours:
		return r, nil
	case missing:
		if !known && !damaged {
			return nil, nil
		}
		return r, nil
	case edited:
		return nil, s.refuse(r.Path, whose, text, err)
	default:
		if !known {
			return nil, nil // another one's, and no business of ours
		}
		return nil, s.refuse(r.Path, whose, text, err)
	}
}

// Uninstall takes the unit away, with all that Install wrote and nothing else, and
// reads back that it is gone. A gateway that ran goes on without the manager when r
// is given, and ends when r is nil; sandboxes go on in any case. removed is false
// when there was no service.
//
// Lingering stays as it is: others may count on it by now, and sandboxes that the
// gateway started while it was kept do, for they are among the manager's processes.
func (s *Service) Uninstall(ctx context.Context, r gateway.Runtime, report gateway.Progress) (removed bool, err error) {
	ctx, cancel := budget.Context(ctx, budget.Heavy, "uninstall the service of gateway "+s.cfg.Gateway.Name)
	defer cancel()
	rec, err := s.find(ctx)
	if rec == nil || err != nil {
		return false, err
	}
	ran := false
	if r != nil {
		ran = !r.Observe(ctx).Absent // whatever could be proven of it
	}
	report("removing " + rec.Path)
	if err := s.remove(ctx, *rec); err != nil {
		return false, err
	}
	if ran {
		report("going on without the service manager")
		if err := r.Start(ctx, report); err != nil {
			return true, fmt.Errorf("start the gateway without its service: %w", err)
		}
	}
	return true, nil
}

// remove takes a unit away that may be removed.
func (s *Service) remove(ctx context.Context, r record) error {
	alive, err := s.managerLives(ctx)
	if err != nil {
		return err
	}
	if alive {
		if err := s.retire(ctx, r); err != nil {
			return err
		}
	}
	if err := errors.Join(s.removeLinks(r), state.Sweep(r.Path), state.RemoveIfExists(r.Path)); err != nil {
		return fmt.Errorf("remove the unit: %w", err)
	}
	if alive {
		if err := s.gone(ctx, r); err != nil {
			return err
		}
	}
	s.removeEmpty(filepath.Dir(r.Path))
	g := s.cfg.Gateway
	return errors.Join(state.RemoveIfExists(s.Program()), state.RemoveIfExists(g.File(state.StartFile)), state.RemoveIfExists(g.File(state.ServiceFile)))
}

// managerLives tells whether there is a manager that could know the unit. false is
// positive: the machine is not run by systemd, or this user has no manager now. With
// one that does not answer nothing is removed.
func (s *Service) managerLives(ctx context.Context) (bool, error) {
	if err := s.m.Running(); err != nil {
		if p, ok := advisory.Of(err); ok && p.ID == "service-no-systemd" {
			return false, nil
		}
		return false, err
	}
	if !s.m.Lives() {
		return false, nil
	}
	return true, s.m.Reach(ctx)
}

// retire has the manager stop the unit and start it no more.
func (s *Service) retire(ctx context.Context, r record) error {
	st, err := s.m.Show(ctx, r.Unit)
	switch {
	case err != nil:
		return advisory.New("service-unknown", "ask for "+r.Unit, err)
	case st.Load == "not-found", st.Path != "" && st.Path != r.Path: // it goes by the name, and that is another one's
		return nil
	}
	if err := s.m.Disable(ctx, r.Unit); err != nil && st.File != "disabled" {
		return fmt.Errorf("disable the service: %w", err)
	}
	return s.Stop(ctx)
}

// gone reads back that the manager knows the unit no more.
func (s *Service) gone(ctx context.Context, r record) error {
	if err := s.m.Reload(ctx); err != nil {
		return advisory.New("service-unknown", "have the manager forget "+r.Unit, err)
	}
	st, err := s.m.Show(ctx, r.Unit)
	switch {
	case err != nil:
		return advisory.New("service-unknown", "ask whether "+r.Unit+" is gone", err)
	case st.Path != "" && st.Path != r.Path: // another one's
	case st.Load != "not-found" || st.MainPID != 0:
		return advisory.New("service-unit-stale", fmt.Sprintf("%s is %s (%s, main process %d) after it was removed", r.Unit, st.Load, st.Active, st.MainPID),
			nil, s.m.Command("daemon-reload"), s.m.Command("status", r.Unit))
	}
	return nil
}

// removeLinks removes what enabling the unit made, should that still be there.
func (s *Service) removeLinks(r record) error {
	links, err := filepath.Glob(filepath.Join(filepath.Dir(r.Path), "*.wants", r.Unit))
	if err != nil {
		return nil //nolint:nilerr // a directory with such a name has no links that can be named
	}
	var problems []error
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && (to == r.Path || filepath.Join(filepath.Dir(link), to) == r.Path) {
			problems = append(problems, state.RemoveIfExists(link))
			_ = os.Remove(filepath.Dir(link)) // only when it is empty
		}
	}
	return errors.Join(problems...)
}

// removeEmpty removes the directories of a user's units that are empty now.
func (s *Service) removeEmpty(dir string) {
	if s.m.System {
		return
	}
	if os.Remove(dir) == nil {
		_ = os.Remove(filepath.Dir(dir))
	}
}
