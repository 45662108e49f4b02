package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/bundle"
	"creel/internal/bundle/dirstore"
	"creel/internal/gateway"
	"creel/internal/gateway/launch"
	"creel/internal/gateway/upgrade"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/state"
	"creel/internal/version"
)

var (
	_ gateway.Upgrader  = (*Runtime)(nil)
	_ gateway.Startable = (*Runtime)(nil)
)

// runtimeName is this runtime in records.
const runtimeName = "embedded"

// upgrades is where this gateway's upgrades take place. The records of sandboxes go
// along: a later daemon may write them in a form of its own.
func upgrades(g state.Gateway, afterStep func(string)) upgrade.Config {
	return upgrade.Config{Gateway: g, Runtime: runtimeName, AfterStep: afterStep, Files: upgrade.Files{
		Databases: []string{state.DatabaseFile},
		Plain:     []string{state.CredentialKeyFile, state.EndpointFile},
		Patterns:  []string{filepath.Join(state.SandboxesDir, "*", state.HandleFile)},
	}}
}

// upgrades is where this gateway's upgrades take place, for whoever walks them. A
// service is led back to the old gateway before anything else is: it may be what
// starts the next one, after a power cut.
func (r *Runtime) upgrades() upgrade.Config {
	c := upgrades(r.cfg.Gateway, r.cfg.AfterStep)
	c.BeforeReturn = func(old upgrade.Side) error {
		if kept, err := r.kept(); err != nil || !kept {
			return err
		}
		return r.cfg.Keeper.Point(old.Executable)
	}
	return c
}

// settings are what a daemon is launched with besides its executable.
type settings struct {
	Port         int  `json:"port,omitempty"`
	PortExplicit bool `json:"port_explicit,omitempty"`
}

func (s settings) encode() json.RawMessage {
	b, _ := json.Marshal(s) // numbers and truth values
	return b
}

// sideOf is the gateway of a build whose executable is kept among the versions.
func sideOf(roots state.Roots, creel, build string, s settings) upgrade.Side {
	return upgrade.Side{Version: creel, Build: build, Executable: filepath.Join(roots.Versions(), build, ExecutableName), Settings: s.encode()}
}

// wanted is the gateway that would be started now. Nothing is copied yet.
func (r *Runtime) wanted() (upgrade.Side, error) {
	id, err := version.Identify()
	if err != nil {
		return upgrade.Side{}, err
	}
	return sideOf(r.cfg.Gateway.Roots, version.Version(), id, settings{Port: r.cfg.Port, PortExplicit: r.cfg.PortExplicit}), nil
}

// walker is the runtime as an upgrade sees it.
type walker struct{ *Runtime }

// Launch implements upgrade.Gateway.
func (w walker) Launch(ctx context.Context, s upgrade.Side, report gateway.Progress) error {
	var with settings
	if err := json.Unmarshal(s.Settings, &with); len(s.Settings) > 0 && err != nil {
		return fmt.Errorf("read the settings of %s: %w", s, err)
	}
	moved := launch.Moved(w.cfg.Gateway, DefaultPort)
	if err := w.bringUp(ctx, s, with, report); err != nil {
		return err
	}
	if said := moved(w.Endpoint().Port); said != "" && !with.PortExplicit {
		report(said)
	}
	return nil
}

// bringUp has the service start the gateway, where there is one, and else launches it.
func (w walker) bringUp(ctx context.Context, s upgrade.Side, with settings, report gateway.Progress) error {
	switch kept, err := w.kept(); {
	case err != nil:
		return err
	case kept:
		if err := w.give(with); err != nil {
			return err
		}
		return w.startKept(ctx, report, s.Executable)
	}
	// What was left for a service that is gone is nobody's any more.
	path := w.cfg.Gateway.File(state.StartFile)
	if err := state.RemoveIfExists(path); err != nil {
		return host.Explain(err, path)
	}
	return w.launch(ctx, report, s.Executable, with)
}

// PlanUpgrade implements gateway.Upgrader.
func (r *Runtime) PlanUpgrade(ctx context.Context, _ gateway.UpgradeOptions) (gateway.Upgrade, error) {
	o := r.Observe(ctx)
	to, err := r.wanted()
	if err != nil {
		return gateway.Upgrade{}, err
	}
	u := gateway.Upgrade{To: program(to)}
	switch {
	case o.Verdict == health.OK:
		u.From = gateway.Program{Version: o.Identity.Version, BuildID: o.Identity.BuildID,
			Executable: sideOf(r.cfg.Gateway.Roots, "", o.Identity.BuildID, settings{}).Executable}
		if u.Differs = o.Drift; len(o.Drift) > 0 {
			u.Notes = append(u.Notes, "sandboxes go on; the API and the dashboards are away for a moment")
			return u, r.refused(ctx)
		}
		return u, nil
	case !o.Absent:
		return u, r.cannotUpgrade(o)
	}
	if problem := r.unusable(ctx, true); problem != nil {
		return u, problem
	}
	record, served, err := r.records()
	switch {
	case err != nil:
		return u, err
	case record != nil:
		u.From = program(record.From)
		u.Differs = append(u.Differs, fmt.Sprintf("an upgrade %s was interrupted", upgrade.Between(record.From, record.To)))
	case served != nil && !served.SameProgram(to):
		u.From = program(*served)
		u.Differs = append(u.Differs, fmt.Sprintf("the gateway that ran last was another build of creel (%s; this is %s)", served, to))
	default:
		return u, advisory.New("gateway-not-running", fmt.Sprintf("gateway %s is not running, so that there is nothing to upgrade", r.cfg.Gateway.Name), nil)
	}
	u.Notes = append(u.Notes, "no gateway runs; the new one is started")
	return u, nil
}

func program(s upgrade.Side) gateway.Program {
	return gateway.Program{Version: s.Version, BuildID: s.Build, Executable: s.Executable}
}

func (r *Runtime) cannotUpgrade(o gateway.Observation) error {
	return advisory.New(o.Reason, fmt.Sprintf("gateway %s cannot be upgraded", r.cfg.Gateway.Name), errors.New(o.Message), o.Hints...)
}

// records are what earlier starts and upgrades left on disk.
func (r *Runtime) records() (*upgrade.Record, *upgrade.Side, error) {
	return upgrade.Look(r.cfg.Gateway, runtimeName)
}

// refused is why this build could not take over from a daemon that runs. Whether the
// database is whole is not asked: a daemon writes to it.
func (r *Runtime) refused(ctx context.Context) error {
	if _, _, err := r.records(); err != nil {
		return err
	}
	if err := r.bindable(ctx, r.Endpoint()); err != nil {
		return err
	}
	if err := r.secretsGood(ctx); err != nil {
		return err
	}
	if r.cfg.Usable == nil {
		return nil
	}
	if problem, ok := advisory.Of(r.cfg.Usable(ctx)); ok && problem.ID != "database-corrupt" {
		return problem
	}
	return nil
}

// Startable implements gateway.Startable.
func (r *Runtime) Startable(ctx context.Context) error {
	err := r.refused(ctx)
	if err == nil {
		err = r.placeable()
	}
	if err == nil {
		_, err = Self(r.cfg.Gateway.Roots)
	}
	return err
}

// secretsGood reports why no daemon would prove itself with the bootstrap secrets that
// are there now.
func (r *Runtime) secretsGood(ctx context.Context) error {
	snapshot, err := dirstore.New(r.cfg.Gateway).Load(ctx, dirstore.Requirements())
	if err != nil {
		return fmt.Errorf("load bootstrap secrets: %w", err)
	}
	return bundle.Inspect(snapshot, dirstore.Requirements(), time.Now()).Problem()
}

// Upgrade implements gateway.Upgrader.
func (r *Runtime) Upgrade(ctx context.Context, _ gateway.UpgradeOptions, report gateway.Progress) error {
	if report == nil {
		report = func(string) {}
	}
	g := r.cfg.Gateway
	o, err := r.settled(ctx, report)
	switch {
	case err != nil:
		return err
	case o.Absent:
		return r.bring(ctx, report)
	case o.Verdict != health.OK:
		return r.cannotUpgrade(o)
	}
	if err := r.finish(); err != nil {
		return err
	}
	if len(o.Drift) == 0 {
		report(fmt.Sprintf("gateway %s is running (pid %d), and nothing of it differs from what would be started", g.Name, o.Identity.PID))
		return nil
	}
	if err := r.Startable(ctx); err != nil {
		return err
	}
	to, err := r.wanted()
	if err != nil {
		return err
	}
	from := sideOf(g.Roots, o.Identity.Version, o.Identity.BuildID, settings{Port: o.Endpoint.Port})
	if err := keepRunning(o.Identity, from.Executable); err != nil {
		return advisory.New("gateway-upgrade-no-way-back", fmt.Sprintf("gateway %s is not stopped", g.Name), err)
	}
	report(fmt.Sprintf("upgrading gateway %s %s", g.Name, upgrade.Between(from, to)))
	return r.upgrades().Replace(ctx, walker{r}, from, to, report)
}

// settled is settle within the budget of a start.
func (r *Runtime) settled(ctx context.Context, report gateway.Progress) (gateway.Observation, error) {
	ctx, cancel := budget.Context(ctx, budget.GatewayStart, "wait for gateway "+r.cfg.Gateway.Name)
	defer cancel()
	return r.settle(ctx, report)
}

// keepRunning makes sure that the executable of a daemon that was identified can be
// launched again after the daemon has ended.
func keepRunning(who gateway.Identity, path string) error {
	if id, err := version.BuildIDOf(path); err == nil && id == who.BuildID {
		return nil
	}
	if err := upgrade.KeepProgram(who.PID, path); err != nil {
		return err
	}
	id, err := version.BuildIDOf(path)
	if err == nil && id != who.BuildID {
		err = fmt.Errorf("process %d runs build %.12s, and says that it is %.12s", who.PID, id, who.BuildID)
	}
	return err
}

// bring starts a daemon where positively none runs: plainly, or so that there is a way
// back where another build ran last.
func (r *Runtime) bring(ctx context.Context, report gateway.Progress) error {
	g := r.cfg.Gateway
	if err := r.placeable(); err != nil {
		return err
	}
	if problem := r.unusable(ctx, true); problem != nil {
		return problem // the daemon would say the same, after it was made
	}
	record, served, err := r.records()
	if err != nil {
		return err
	}
	to, err := r.wanted()
	if err != nil {
		return err
	}
	if _, err := Self(g.Roots); err != nil {
		return err
	}
	switch _, missing := os.Lstat(g.Database()); {
	case record != nil:
		return r.upgrades().Resume(ctx, walker{r}, *record, to, report)
	case missing != nil || served != nil && served.SameProgram(to):
		return walker{r}.Launch(ctx, to, report)
	case served == nil:
		served = &upgrade.Side{} // its database is put back all the same
	default:
		if _, err := os.Stat(served.Executable); err != nil {
			served.Executable = ""
		}
	}
	return r.upgrades().Launch(ctx, walker{r}, *served, to, report)
}

// placeable reports why no daemon could be made here.
func (r *Runtime) placeable() error {
	if err := host.CheckSocketPath(r.cfg.Gateway.Socket()); err != nil {
		return err
	}
	return host.CheckWritable(r.cfg.Gateway.Dir())
}

// finish forgets an upgrade that was interrupted, now that a gateway is healthy.
func (r *Runtime) finish() error {
	record, _, err := r.records()
	if err != nil || record == nil {
		return err
	}
	return r.upgrades().Finish()
}
