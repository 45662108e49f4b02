package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway/launch"
	"creel/internal/host"
)

// execRefused is the exit code by which systemd says that it could not execute the
// program (systemd.exec(5), "Process Exit Codes").
const execRefused = 203

// lastWords is the line by which a daemon that fails names the advisory: nobody
// listens to it but its log.
var lastWords = regexp.MustCompile(`level=ERROR msg="gateway ended" advisory=([a-z0-9-]+)`)

// Start has the manager run the gateway, and returns when that says it is ready or
// has failed. A gateway that did not come up is not tried again behind anybody's back.
func (s *Service) Start(ctx context.Context, executable string) error {
	r, err := s.recorded()
	if err != nil {
		return err
	}
	if r == nil {
		return advisory.New("service-not-installed", "no service keeps gateway "+s.cfg.Gateway.Name, nil)
	}
	if err := s.runnable(ctx, *r); err != nil {
		return err
	}
	if err := s.Point(executable); err != nil {
		return host.Explain(err, s.Program())
	}
	log := s.cfg.Gateway.Log()
	var offset int64
	if fi, err := os.Stat(log); err == nil {
		offset = fi.Size()
	}
	cause := s.m.Start(ctx, r.Unit)
	if cause == nil {
		return nil
	}
	ctx, cancel := budget.Context(context.WithoutCancel(ctx), budget.Operation, "end what is left of "+r.Unit)
	defer cancel()
	st, _ := s.m.Show(ctx, r.Unit) // without an answer the failure is told without it
	ended, id := "systemd could not start it", ""
	if st.Ended.Known && st.Result != "success" {
		ended = st.Ended.String() + " before becoming ready"
		if !st.Ended.Signal && st.Ended.Code == execRefused {
			id = "service-exec-refused"
		}
	}
	if said := lastWords.FindAllStringSubmatch(launch.ReadFrom(log, offset), -1); id == "" && len(said) > 0 {
		// That it failed is no reason: what the log shows may be one.
		if last := said[len(said)-1][1]; last != launch.StartFailed {
			id = last
		}
	}
	why := fmt.Errorf("%s (%s): %w", r.Unit, orNone(st.Result), cause)
	return errors.Join(launch.Report(ended+"; "+why.Error(), log, offset, nil, id, why), s.m.Stop(ctx, r.Unit))
}

// runnable refuses to start what Creel did not write, or nobody would start.
func (s *Service) runnable(ctx context.Context, r record) error {
	switch whose, _, err := s.fileAt(r.Path); whose {
	case ours, edited:
	case missing:
		return advisory.New("service-unit-missing", r.Path+" is gone", nil)
	case unread:
		return advisory.New("service-unknown", "read the unit of gateway "+s.cfg.Gateway.Name, err)
	default:
		return advisory.New("service-unit-foreign", r.Path+" is not what Creel wrote for gateway "+s.cfg.Gateway.Name, nil)
	}
	return s.m.Reach(ctx)
}

// Stop has the manager end the gateway's main process, and returns when it has
// ended. Sandboxes go on.
func (s *Service) Stop(ctx context.Context) error {
	if err := s.m.Reach(ctx); err != nil {
		return err
	}
	unit := UnitName(s.cfg.Gateway.Name)
	if err := s.m.Stop(ctx, unit); err != nil {
		return fmt.Errorf("stop the service: %w", err)
	}
	st, err := s.m.Show(ctx, unit)
	switch {
	case err != nil:
		return advisory.New("service-unknown", "whether the service has ended", err)
	case st.Active != "inactive" && st.Active != "failed" || st.MainPID != 0:
		return advisory.New("gateway-stop-failed", fmt.Sprintf("%s is %s (main process %d) after it was stopped", unit, st.Active, st.MainPID), nil)
	}
	return nil
}

// PID is the unit's main process, 0 when none runs.
func (s *Service) PID(ctx context.Context) (int, error) {
	st, err := s.m.Show(ctx, UnitName(s.cfg.Gateway.Name))
	return st.MainPID, err
}
