package openshell

import (
	"context"
	"errors"
	"fmt"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/bundle"
	"creel/internal/gateway"
	"creel/internal/gateway/launch"
	"creel/internal/gateway/release"
	"creel/internal/gateway/upgrade"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/sandbox"
	"creel/internal/state"
)

var (
	_ gateway.Upgrader  = (*Runtime)(nil)
	_ gateway.Disturber = (*Runtime)(nil)
	_ gateway.Startable = (*Runtime)(nil)
)

// upgrades is where this gateway's upgrades take place.
func (r *Runtime) upgrades() upgrade.Config {
	return upgrade.Config{Gateway: r.cfg.Gateway, Runtime: runtimeName, AfterStep: r.cfg.AfterStep, Files: upgrade.Files{
		Databases: []string{state.ProcessDatabase},
		Plain:     []string{state.ProcessConfigFile, state.EndpointFile},
	}}
}

// walker is the runtime as an upgrade sees it.
type walker struct{ *Runtime }

// Launch implements upgrade.Gateway.
func (w walker) Launch(ctx context.Context, s upgrade.Side, report gateway.Progress) error {
	with, err := settingsOf(s)
	if err != nil {
		return err
	}
	return w.launch(ctx, report, s, with)
}

// records are what earlier starts and upgrades left on disk.
func (r *Runtime) records() (*upgrade.Record, *upgrade.Side, error) {
	return upgrade.Look(r.cfg.Gateway, runtimeName)
}

// candidateProgram is the program that would be started now.
type candidateProgram struct {
	binary string
	told   string // its version; empty when it is not known
}

// choose finds the program and asks it for its version, unless it is the file that
// was asked before. It refuses one that is older than the gateway whose database it
// would get (last; empty when that is not known), unless that was allowed.
func (r *Runtime) choose(ctx context.Context, last string, o gateway.UpgradeOptions) (candidateProgram, error) {
	binary, err := Find(r.cfg.Getenv)
	if err != nil {
		return candidateProgram{}, err
	}
	c := candidateProgram{binary: binary}
	now, err := identify(binary)
	if err != nil {
		return c, host.Explain(err, binary)
	}
	if known := r.served(); known != nil && known.Told != "" && known.Program == now {
		c.told = known.Told
	} else if c.told, err = askVersion(ctx, binary, r.cfg.Getenv); err != nil {
		return c, err
	}
	before, ok := release.Parse(last)
	after, ok2 := release.Parse(c.told)
	if ok && ok2 && after.Before(before) && !o.AllowDowngrade && r.hasDatabase() {
		return c, advisory.New("gateway-downgrade", fmt.Sprintf("%s is version %s, and OpenShell %s served from %s last", binary, after, before,
			r.cfg.Gateway.File(state.ProcessDatabase)), nil)
	}
	return c, nil
}

// lastVersion is the version that served last when no gateway runs.
func lastVersion(record *upgrade.Record, served *upgrade.Side) string {
	switch {
	case record != nil && record.Step == upgrade.Prepared:
		return record.From.Version
	case record != nil:
		return "" // whose the database is the walk settles
	case served != nil:
		return served.Version
	}
	return ""
}

// PlanUpgrade implements gateway.Upgrader.
func (r *Runtime) PlanUpgrade(ctx context.Context, options gateway.UpgradeOptions) (gateway.Upgrade, error) {
	o, m := r.observe(ctx)
	record, served, err := r.records()
	if err != nil {
		return gateway.Upgrade{}, err
	}
	var u gateway.Upgrade
	switch {
	case o.Verdict == health.OK:
		u.From = gateway.Program{Version: o.Identity.Version, Executable: m.Binary}
		u.Differs = o.Drift
		if len(o.Drift) == 0 {
			u.To = u.From
			return u, nil
		}
		u.Disturbs = r.Disturbed(ctx)
		u.Notes = append(u.Notes, "openshell-gateway stops the containers of its sandboxes when it ends and starts them again; what runs in them starts anew")
		c, err := r.choose(ctx, o.Identity.Version, options)
		u.To = gateway.Program{Version: c.told, Executable: c.binary}
		return u, err
	case !o.Absent:
		return u, r.cannotUpgrade(o)
	}
	c, err := r.choose(ctx, lastVersion(record, served), options)
	u.To = gateway.Program{Version: c.told, Executable: c.binary}
	switch {
	case record != nil:
		u.From = shown(record.From)
		u.Differs = append(u.Differs, fmt.Sprintf("an upgrade %s was interrupted", upgrade.Between(record.From, record.To)))
	case served != nil && !served.SameProgram(upgrade.Side{Version: c.told}):
		u.From = shown(*served)
		u.Differs = append(u.Differs, fmt.Sprintf("version %s ran last", served))
	case err == nil:
		return u, advisory.New("gateway-not-running", fmt.Sprintf("gateway %s is not running, so that there is nothing to upgrade", r.cfg.Gateway.Name), nil)
	}
	u.Notes = append(u.Notes, "no gateway runs; the new one is started")
	return u, err
}

func shown(s upgrade.Side) gateway.Program {
	return gateway.Program{Version: s.Version, Executable: s.Executable}
}

func (r *Runtime) cannotUpgrade(o gateway.Observation) error {
	return advisory.New(o.Reason, fmt.Sprintf("gateway %s cannot be upgraded", r.cfg.Gateway.Name), errors.New(o.Message), o.Hints...)
}

// everySandbox stands for sandboxes that could not be listed.
const everySandbox = "every sandbox of this gateway"

// Disturbed implements gateway.Disturber: the containers of running sandboxes are
// stopped with the gateway.
func (r *Runtime) Disturbed(ctx context.Context) []string {
	if o := r.Observe(ctx); o.Absent {
		return nil
	} else if o.Verdict != health.OK {
		return []string{everySandbox}
	}
	c, err := r.Dial(ctx)
	if err != nil {
		return []string{everySandbox}
	}
	defer func() { _ = c.Close() }()
	all, err := c.Inspect(ctx, false)
	if err != nil {
		return []string{everySandbox}
	}
	var subjects []string
	for _, s := range all {
		if s.Wanted == sandbox.Running {
			subjects = append(subjects, "sandbox/"+s.Name)
		}
	}
	return subjects
}

// Upgrade implements gateway.Upgrader.
func (r *Runtime) Upgrade(ctx context.Context, options gateway.UpgradeOptions, report gateway.Progress) error {
	if report == nil {
		report = func(string) {}
	}
	if err := host.CheckWritable(r.cfg.Gateway.Dir()); err != nil {
		return err
	}
	o, m := r.observe(ctx)
	switch {
	case o.Absent:
		return r.bring(ctx, options, report)
	case o.Verdict != health.OK:
		return r.cannotUpgrade(o)
	case len(o.Drift) > 0:
		return r.replace(ctx, o, m, options, report)
	}
	report(fmt.Sprintf("gateway %s is running (pid %d), and nothing of it differs from what would be started", r.cfg.Gateway.Name, m.PID))
	return errors.Join(r.remember(m, o), r.finish())
}

// replace replaces a gateway that works by what would be started now.
func (r *Runtime) replace(ctx context.Context, o gateway.Observation, m marker, options gateway.UpgradeOptions, report gateway.Progress) error {
	g := r.cfg.Gateway
	if _, _, err := r.records(); err != nil {
		return err
	}
	c, err := r.choose(ctx, o.Identity.Version, options)
	if err != nil {
		return err
	}
	port := m.Port
	if r.cfg.PortExplicit && r.cfg.Port != 0 && r.cfg.Port != port {
		if port, err = r.choosePort(ctx); err != nil {
			return err
		}
	}
	to, err := r.side(c, port)
	if err != nil {
		return err
	}
	if err := r.secretsFor(ctx, c); err != nil {
		return err
	}
	old := upgrade.OldProgram(g)
	err = upgrade.KeepProgram(m.PID, old)
	from, sideErr := r.runningSide(m, o, old)
	if err = errors.Join(err, sideErr); err != nil {
		return advisory.New("gateway-upgrade-no-way-back", fmt.Sprintf("gateway %s is not stopped", g.Name), err)
	}
	report(fmt.Sprintf("upgrading gateway %s %s", g.Name, upgrade.Between(from, to)))
	return r.upgrades().Replace(ctx, walker{r}, from, to, report)
}

// Startable implements gateway.Startable. As before a start, bootstrap secrets that
// nobody uses are repaired.
func (r *Runtime) Startable(ctx context.Context) error {
	if err := host.CheckWritable(r.cfg.Gateway.Dir()); err != nil {
		return err
	}
	record, served, err := r.records()
	if err != nil {
		return err
	}
	c, err := r.choose(ctx, lastVersion(record, served), gateway.UpgradeOptions{})
	if err != nil {
		return err
	}
	if r.cfg.PortExplicit && r.cfg.Port != 0 && r.cfg.Port != r.Endpoint().Port {
		if _, err := r.choosePort(ctx); err != nil {
			return err
		}
	}
	return r.secretsFor(ctx, c)
}

// side is the gateway of a program on a port.
func (r *Runtime) side(c candidateProgram, port int) (upgrade.Side, error) {
	with, err := r.settings(c.binary, port, c.told)
	if err != nil {
		return upgrade.Side{}, err
	}
	return with.side("", c.binary)
}

// secretsFor repairs the secrets that a gateway waits for. On a good set this only
// looks.
func (r *Runtime) secretsFor(ctx context.Context, c candidateProgram) error {
	v, _ := release.Parse(c.told)
	if r.cfg.Plaintext && !v.AtLeast(0, 0, 47) {
		return nil // it has no certificate and signs no tokens
	}
	ctx, cancel := budget.Context(ctx, budget.Operation, "repair the bootstrap secrets")
	defer cancel()
	_, err := bundle.Repair(ctx, r.Secrets(), time.Now(), bundle.RepairOptions{})
	return err
}

// bring starts a gateway where positively none runs: plainly, or so that there is a
// way back where another version ran last.
func (r *Runtime) bring(ctx context.Context, options gateway.UpgradeOptions, report gateway.Progress) error {
	g := r.cfg.Gateway
	record, served, err := r.records()
	if err != nil {
		return err
	}
	c, err := r.choose(ctx, lastVersion(record, served), options)
	if err != nil {
		return err
	}
	if err := removeMarker(g); err != nil {
		return host.Explain(err, g.Dir())
	}
	if err := r.secretsFor(ctx, c); err != nil {
		return err
	}
	moved := launch.Moved(g, DefaultPort)
	port, err := r.choosePort(ctx)
	if err != nil {
		return err
	}
	if said := moved(port); said != "" && !r.cfg.PortExplicit {
		report(said)
	}
	to, err := r.side(c, port)
	switch {
	case err != nil:
		return err
	case record != nil:
		return r.upgrades().Resume(ctx, walker{r}, *record, to, report)
	case !r.hasDatabase() || served != nil && served.SameProgram(to):
		return walker{r}.Launch(ctx, to, report)
	case served == nil:
		served = &upgrade.Side{} // its database is put back all the same
	case !available(*served):
		served.Executable = ""
	}
	return r.upgrades().Launch(ctx, walker{r}, *served, to, report)
}

// finish forgets an upgrade that was interrupted, now that a gateway is healthy.
func (r *Runtime) finish() error {
	record, _, err := r.records()
	if err != nil || record == nil {
		return err
	}
	return r.upgrades().Finish()
}

// unfinished says that an upgrade was interrupted.
func (r *Runtime) unfinished() []health.Caveat {
	record, _, err := r.records()
	if p, ok := advisory.Of(err); ok {
		return []health.Caveat{{Advisory: p.ID, Message: p.Error()}}
	}
	if record == nil {
		return nil
	}
	return []health.Caveat{{Advisory: "gateway-upgrade-unfinished",
		Message: fmt.Sprintf("an upgrade %s was interrupted; the gateway is healthy", upgrade.Between(record.From, record.To))}}
}
