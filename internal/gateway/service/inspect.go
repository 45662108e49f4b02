package service

import (
	"context"
	"errors"
	"fmt"

	"strings"
	"sync"
	"time"

	"creel/internal/advisory"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/systemd"
)

// facts are what was asked about a service. What could not be asked has its error.
type facts struct {
	gateway string
	record  *record // nil: none is installed
	problem error   // why that could not be told

	file    origin
	text    string
	fileErr error

	away     error // why the manager cannot be asked
	state    systemd.State
	stateErr error

	linger    health.Verdict
	lingerWhy string

	// seen is what the chain of evidence says of the gateway.
	seen gateway.Observation

	tookFile, tookState, tookLinger time.Duration
}

// Inspect looks at everything that has to hold for the gateway to be kept. It
// changes nothing, and ends within the probe budget for each question. seen is what
// was just observed of the gateway.
func (s *Service) Inspect(ctx context.Context, seen gateway.Observation) gateway.Service {
	return s.Look(ctx)(seen)
}

// Look is Inspect for who observes the gateway meanwhile: what it returns judges.
func (s *Service) Look(ctx context.Context) func(seen gateway.Observation) gateway.Service {
	f := s.look(ctx)
	return func(seen gateway.Observation) gateway.Service {
		f.seen = seen
		return judge(f, s.m)
	}
}

func (s *Service) look(ctx context.Context) facts {
	f := facts{gateway: s.cfg.Gateway.Name}
	if f.record, f.problem = s.recorded(); f.record == nil {
		return f
	}
	f.tookFile = timed(func() { f.file, f.text, f.fileErr = s.fileAt(f.record.Path) })
	if f.away = s.m.Running(); f.away != nil {
		return f
	}
	var both sync.WaitGroup // neither waits for the other
	both.Go(func() { f.tookLinger = timed(func() { f.linger, f.lingerWhy = s.m.Linger(ctx) }) })
	both.Go(func() { f.tookState = timed(func() { f.state, f.stateErr = s.m.Show(ctx, f.record.Unit) }) })
	both.Wait()
	return f
}

func timed(ask func()) time.Duration {
	began := time.Now()
	ask()
	return time.Since(began)
}

// findings are the links of the proof; the first that failed decides, else the first
// that is unknown.
type findings struct {
	out gateway.Service
}

func (j *findings) add(probe string, v health.Verdict, took time.Duration, reason, answer string, hints ...string) {
	o := &j.out
	o.Evidence = append(o.Evidence, health.Evidence{Probe: probe, Answer: answer, Verdict: v, Took: health.Micros(took)})
	worse := v == health.Failed && o.Verdict != health.Failed || v == health.Unknown && o.Verdict == health.OK
	if worse {
		o.Verdict, o.Reason, o.Message, o.Hints = v, reason, probe+": "+answer, hints
	}
}

// judge decides what the facts mean.
func judge(f facts, m *systemd.Manager) gateway.Service {
	if f.problem != nil {
		return gateway.Service{Installed: true, Verdict: health.Unknown, Reason: reasonOf(f.problem), Message: f.problem.Error(), Hints: hintsOf(f.problem)}
	}
	if f.record == nil {
		return gateway.Service{Verdict: health.Failed, Reason: "service-not-installed",
			Message: "no service keeps gateway " + f.gateway + ": it is not started at boot"}
	}
	r := f.record
	j := &findings{out: gateway.Service{Installed: true, Manager: r.Manager, Unit: r.Unit, Path: r.Path, Verdict: health.OK}}
	judgeFile(j, f, m)
	if f.away != nil {
		verdict, reason := health.Unknown, reasonOf(f.away)
		if reason == "service-no-systemd" {
			verdict = health.Failed
		}
		j.add("manager", verdict, 0, reason, f.away.Error(), hintsOf(f.away)...)
		return j.out
	}
	if judgeLoaded(j, f, m) {
		judgeRun(j, f, m)
	}
	judgeLinger(j, f, m)
	if j.out.Verdict == health.OK {
		j.out.Message = fmt.Sprintf("gateway %s is kept by %s of the %s manager", f.gateway, r.Unit, r.Manager)
	}
	return j.out
}

func judgeFile(j *findings, f facts, m *systemd.Manager) {
	probe, path := "unit file", f.record.Path
	add := func(v health.Verdict, reason, answer string, hints ...string) {
		j.add(probe, v, f.tookFile, reason, answer, hints...)
	}
	again := command(f.gateway, "install-service")
	aside := "mv " + advisory.Quote(path) + " " + advisory.Quote(path+".mine")
	switch f.file {
	case ours:
		add(health.OK, "", path+", as written")
	case missing:
		add(health.Failed, "service-unit-missing", path+" is gone", again)
	case edited:
		add(health.Failed, "service-unit-edited", path+" was changed after Creel wrote it", aside, again, m.Command("edit", f.record.Unit))
	case foreign, another:
		add(health.Failed, "service-unit-foreign", path+" is another one's", aside, again)
	default:
		why := "it could not be read"
		if f.fileErr != nil {
			why = f.fileErr.Error()
		}
		add(health.Unknown, "service-unknown", why)
	}
}

func judgeLinger(j *findings, f facts, m *systemd.Manager) {
	reason := "service-linger-off"
	if f.linger == health.Unknown {
		reason = "service-unknown"
	}
	j.add("linger", f.linger, f.tookLinger, reason, f.lingerWhy, m.LingerCommand(true), command(f.gateway, "install-service"))
}

// judgeLoaded is whether the manager has the unit as it was written, and starts it
// at boot. Without the unit there is nothing to say of what it runs: then it returns
// false.
func judgeLoaded(j *findings, f facts, m *systemd.Manager) bool {
	unit, st := f.record.Unit, f.state
	probe := "unit"
	add := func(v health.Verdict, reason, answer string, hints ...string) {
		j.add(probe, v, f.tookState, reason, answer, hints...)
	}
	again := command(f.gateway, "install-service")
	if f.stateErr != nil {
		add(health.Unknown, "service-manager-unreachable", f.stateErr.Error(), m.Command("status", unit))
		return false
	}
	switch {
	case st.Load == "masked", st.File == "masked":
		add(health.Failed, "service-masked", unit+" is masked", m.Command("unmask", unit), again)
		return false
	case st.Load == "not-found":
		add(health.Failed, "service-unit-missing", "the manager knows no "+unit, again)
		return false
	case st.Load != "loaded":
		add(health.Failed, "service-unit-foreign", strings.TrimSpace(unit+" is "+st.Load+" "+st.LoadWhy), m.Command("status", unit))
		return false
	case st.Path != f.record.Path:
		add(health.Failed, "service-unit-foreign", "the manager has loaded "+st.Path, m.Command("cat", unit))
		return false
	case st.Stale:
		add(health.Failed, "service-unit-stale", "the file is another one than the manager has loaded", m.Command("daemon-reload"), again)
	}
	if st.File == "enabled" {
		add(health.OK, "", "loaded, enabled"+dropIns(st))
	} else {
		add(health.Failed, "service-not-enabled", fmt.Sprintf("it is %s: nothing starts it at boot", orNone(st.File)), m.Command("enable", unit), again)
	}
	return true
}

// judgeRun is whether the unit runs, and whether what it runs is the gateway that
// answers.
func judgeRun(j *findings, f facts, m *systemd.Manager) {
	unit, st := f.record.Unit, f.state
	if st.Active != "active" && f.seen.Verdict == health.OK && f.seen.Identity.PID != 0 {
		j.add("run", health.Failed, 0, "service-other-process", fmt.Sprintf("the unit is %s, and the gateway that answers is process %d", st.Active, f.seen.Identity.PID),
			command(f.gateway, "restart"))
		return
	}
	if st.Active != "active" {
		answer := fmt.Sprintf("%s (%s)", st.Active, st.Sub)
		if st.Ended.Known && st.Result != "success" {
			answer += ", " + st.Ended.String()
		}
		j.add("run", health.Failed, 0, "service-not-active", answer, command(f.gateway, "start"), m.Journal(unit))
		return
	}
	answer := fmt.Sprintf("active (%s), main process %d", st.Sub, st.MainPID)
	if st.Restarts > 0 {
		answer += fmt.Sprintf(", started again %d times", st.Restarts)
	}
	j.add("run", health.OK, 0, "", answer)
	switch pid := f.seen.Identity.PID; {
	case f.seen.Verdict != health.OK || pid == 0:
		j.add("main process", health.Unknown, 0, "service-unknown", "no gateway was proven, so not that it is the main process", command(f.gateway, "status"))
	case st.MainPID != pid:
		j.add("main process", health.Failed, 0, "service-other-process",
			fmt.Sprintf("the gateway that answers is process %d, the unit's is %d", pid, st.MainPID), command(f.gateway, "restart"))
	default:
		j.add("main process", health.OK, 0, "", fmt.Sprintf("%d is the gateway that answers", pid))
	}
}

func dropIns(st systemd.State) string {
	if len(st.DropIns) == 0 {
		return ""
	}
	return ", changed by " + strings.Join(st.DropIns, " ")
}

func orNone(s string) string {
	if s == "" {
		return "not enabled"
	}
	return s
}

func reasonOf(err error) string {
	if p, ok := advisory.Of(err); ok {
		return p.ID
	}
	return "service-unknown"
}

func hintsOf(err error) []string {
	if p, ok := advisory.Of(err); ok {
		return p.Commands()
	}
	return nil
}

// usualName is the gateway that a command means without being told.
const usualName = "creel"

// command is a next step for this gateway.
func command(gateway, verb string) string {
	line := "creel gateway " + verb
	if gateway != usualName {
		line += " --gateway " + advisory.Quote(gateway)
	}
	return line
}

// problem is why a service is not what it should be, as an error.
func problem(detail string, s gateway.Service) error {
	return advisory.New(s.Reason, detail, errors.New(s.Message), s.Hints...)
}
