package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/state"
	"creel/internal/systemd"
)

// unitMode lets everybody read a unit, as the manager expects.
const unitMode = 0o644

// askAgain is the pause between two looks at a manager that is starting.
const askAgain = 50 * time.Millisecond

// Install has the gateway kept by the service manager: writes its unit, has it
// enabled, hands a running gateway over, and reads all of it back. What is returned
// without an error is proven: unit file, loaded, enabled, active, the main process
// is the gateway that answers, and the manager runs from boot on. changed is false
// when all of that was so already.
//
// When something does not hold, what was written is taken back, and a gateway that
// ran before runs again as it did.
func (s *Service) Install(ctx context.Context, r gateway.Runtime, report gateway.Progress) (out gateway.Service, changed bool, err error) {
	ctx, cancel := budget.Context(ctx, budget.Heavy, "install the service of gateway "+s.cfg.Gateway.Name)
	defer cancel()
	if err := s.m.Running(); err != nil {
		return out, false, err
	}
	if program := s.Program(); !systemd.Executable(program) {
		return out, false, advisory.New("service-path-unusable", fmt.Sprintf("%q cannot be a service's program", program), nil)
	}
	path, old, err := s.place(ctx)
	if err != nil {
		return out, false, err
	}
	before := r.Observe(ctx)
	if before.Verdict != health.OK && s.cfg.Usable != nil {
		if err := s.cfg.Usable(ctx); err != nil {
			return out, false, fmt.Errorf("no gateway could be kept: %w", err)
		}
	}
	if err := s.letLinger(ctx, report); err != nil {
		return out, false, err
	}
	if err := s.awaitManager(ctx); err != nil {
		return out, false, err
	}
	text := Text(s.cfg.Gateway, s.m, s.Program(), s.cfg.Environment)
	if old == text {
		if out := s.Inspect(ctx, before); out.Verdict == health.OK {
			return out, false, nil
		}
	}
	report("writing " + path)
	err = s.write(ctx, path, text)
	if err == nil {
		err = s.handOver(ctx, r, before, old == text, report)
	}
	if err != nil {
		return out, true, errors.Join(err, s.takeBack(ctx, r, before, path, old, report))
	}
	out = s.Inspect(ctx, r.Observe(ctx))
	if out.Verdict != health.OK {
		return out, true, problem("the service is installed and not proven", out)
	}
	return out, true, nil
}

// place is where the unit file is or goes, with what Creel wrote there before.
// Somebody else's file stays where it is.
func (s *Service) place(ctx context.Context) (path, old string, err error) {
	r, err := s.recorded()
	if err != nil {
		return "", "", err
	}
	unit := UnitName(s.cfg.Gateway.Name)
	if r != nil {
		path = r.Path
	} else {
		dir, err := s.m.UnitDir(ctx)
		if err != nil {
			return "", "", err
		}
		path = filepath.Join(dir, unit)
	}
	whose, text, err := s.fileAt(path)
	switch whose {
	case missing:
		return path, "", nil
	case ours:
		return path, text, nil
	}
	return path, "", s.refuse(path, whose, text, err)
}

// refuse says why a unit file is not touched.
func (s *Service) refuse(path string, whose origin, text string, cause error) error {
	aside := "mv " + advisory.Quote(path) + " " + advisory.Quote(path+".mine")
	again := command(s.cfg.Gateway.Name, "install-service")
	switch whose {
	case another:
		return advisory.New("service-unit-foreign", fmt.Sprintf("%s is of another one's state: %s", path, writtenFor(text)), nil, "systemctl cat "+UnitName(s.cfg.Gateway.Name))
	case foreign:
		return advisory.New("service-unit-foreign", path+" was not written by Creel", cause, aside, again)
	case edited:
		return advisory.New("service-unit-edited", path+" was changed after Creel wrote it", nil, aside, again)
	}
	return advisory.New("service-unknown", "read "+path, cause)
}

// letLinger sees to it that the user's manager runs from boot on.
func (s *Service) letLinger(ctx context.Context, report gateway.Progress) error {
	if v, _ := s.m.Linger(ctx); v == health.OK {
		return nil
	}
	report("letting this user's services run without a login session")
	cause := s.m.SetLinger(ctx)
	v, why := s.m.Linger(ctx)
	switch v {
	case health.OK:
		return nil
	case health.Failed:
		return advisory.New("service-linger-off", "lingering stays "+why, cause, s.m.LingerCommand(true), command(s.cfg.Gateway.Name, "install-service"))
	}
	return advisory.New("service-unknown", "whether this user lingers", errors.Join(errors.New(why), cause), s.m.LingerCommand(true), command(s.cfg.Gateway.Name, "install-service"))
}

// awaitManager returns when the manager answers. One that lingering has just begun is
// waited for.
func (s *Service) awaitManager(ctx context.Context) error {
	waiting, cancel := budget.Context(ctx, budget.Operation, "wait for the "+s.m.Name()+" manager of systemd")
	defer cancel()
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for !s.m.Lives() {
		select {
		case <-tick.C:
			continue
		case <-waiting.Done():
		}
		break
	}
	return s.m.Reach(ctx)
}

// write puts the unit where it belongs, has it enabled, and reads back that the
// manager has it so. The record comes first: whatever happens then is found again.
func (s *Service) write(ctx context.Context, path, text string) error {
	unit := UnitName(s.cfg.Gateway.Name)
	st, err := s.m.Show(ctx, unit)
	switch {
	case err != nil:
		return advisory.New("service-unknown", "ask for "+unit, err)
	case st.Load == "masked":
		return advisory.New("service-masked", unit+" is masked", nil, s.m.Command("unmask", unit), command(s.cfg.Gateway.Name, "install-service"))
	case st.Path != "" && st.Path != path:
		return advisory.New("service-unit-foreign", "the manager knows a unit of this name already: "+st.Path, nil, s.m.Command("cat", unit))
	}
	if err := s.writeRecord(record{Version: recordVersion, Manager: s.m.Name(), Unit: unit, Path: path}); err != nil {
		return host.Explain(fmt.Errorf("record the service: %w", err), s.cfg.Gateway.Dir())
	}
	self, err := s.cfg.Executable()
	if err == nil {
		err = s.Point(self)
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = state.WriteFile(path, []byte(text), unitMode)
	}
	if err != nil {
		return host.Explain(fmt.Errorf("write the unit: %w", err), path)
	}
	if err := errors.Join(s.m.Reload(ctx), s.m.Enable(ctx, unit)); err != nil {
		return advisory.New("service-not-enabled", "have the unit enabled", err)
	}
	return s.written(ctx)
}

// written reads back what has to hold before the gateway is handed over.
func (s *Service) written(ctx context.Context) error {
	j := &findings{out: gateway.Service{Verdict: health.OK}}
	f := s.look(ctx)
	switch {
	case f.problem != nil:
		return f.problem
	case f.record == nil:
		return advisory.New("service-unknown", "the record of the service is gone again", nil)
	case f.away != nil:
		return f.away
	}
	judgeFile(j, f, s.m)
	judgeLoaded(j, f, s.m)
	judgeLinger(j, f, s.m)
	if j.out.Verdict != health.OK {
		return problem("the service was written and did not take effect", j.out)
	}
	return nil
}

// handOver ends the gateway as it was run and has the manager run it, unless the
// manager runs it already with the same unit. Sandboxes go on.
func (s *Service) handOver(ctx context.Context, r gateway.Runtime, before gateway.Observation, same bool, report gateway.Progress) error {
	if pid, err := s.PID(ctx); same && err == nil && before.Verdict == health.OK && pid == before.Identity.PID {
		return nil
	}
	report("handing the gateway over to systemd")
	if err := r.Stop(ctx, report); err != nil {
		return err
	}
	return r.Start(ctx, report)
}

// takeBack undoes what Install did, and has a gateway that ran run again.
func (s *Service) takeBack(ctx context.Context, r gateway.Runtime, before gateway.Observation, path, old string, report gateway.Progress) error {
	ctx, cancel := budget.Context(context.WithoutCancel(ctx), budget.Heavy, "take the service back")
	defer cancel()
	report("taking the service back")
	var problems []error
	if old != "" { // there was one before: it stays
		problems = append(problems, state.WriteFile(path, []byte(old), unitMode), s.m.Reload(ctx))
	} else if r, err := s.recorded(); err != nil {
		problems = append(problems, err)
	} else if r != nil {
		problems = append(problems, s.remove(ctx, *r))
	}
	if now := r.Observe(ctx); !before.Absent && now.Absent {
		problems = append(problems, r.Start(ctx, report))
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("take the service back: %w", err)
	}
	return nil
}
