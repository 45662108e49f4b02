package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"creel/internal/advisory"
	"creel/internal/cli"
	"creel/internal/desired"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/registration"
	"creel/internal/sandbox"
	"creel/internal/state"
)

// destroy removes one sandbox. A gateway that answers does it; where positively
// none runs it is done here, and a tombstone tells the gateway at its next start.
// With one that lives and cannot be asked it is refused: it would be raced for the
// sandbox, might bring it back, and would not look at the tombstone.
func (g *graph) destroy(ctx context.Context, gatewayName, name string, report gateway.Progress) (bool, error) {
	runtime, err := g.runtime(gatewayName)
	if err != nil {
		// An unreadable desired state must not keep a sandbox from being destroyed.
		runtime = g.embedded(g.roots.Gateway(gatewayName), 0, false)
	}
	switch o := runtime.Observe(ctx); {
	case o.Verdict != health.OK && runtime.Name() != desired.Embedded:
		// Only that gateway knows what it runs: that it does not answer is no proof
		// that there is nothing.
		return false, advisory.New(o.Reason, "sandbox "+name+" cannot be destroyed without its gateway", errors.New(o.Message), o.Hints...)
	case o.Verdict == health.OK:
		c, err := runtime.Dial(ctx)
		if err != nil {
			return false, err
		}
		report("asking the gateway to delete sandbox " + name)
		existed, err := c.DeleteSandbox(ctx, name)
		return existed, errors.Join(err, c.Close())
	case !o.Absent:
		return false, cannotBeAsked(o)
	}
	paths := g.roots.Gateway(gatewayName)
	driver := g.driver(paths)
	handles, listErr := driver.Handles(ctx)
	i := slices.IndexFunc(handles, func(h sandbox.Handle) bool { return h.Name == name })
	if i < 0 {
		return false, listErr
	}
	report("no gateway runs; deleting sandbox " + name + " without it")
	return true, bury(ctx, driver, paths, handles[i])
}

// cannotBeAsked is why a gateway of which a process may live does nothing for us,
// and that without the process it can be done.
func cannotBeAsked(o gateway.Observation) error {
	hints := slices.Clone(o.Hints)
	for _, way := range []string{"creel gateway restart", "creel gateway stop"} {
		if !slices.Contains(hints, way) {
			hints = append(hints, way)
		}
	}
	return advisory.New(o.Reason, "the gateway may live and cannot be asked", errors.New(o.Message), hints...)
}

// bury destroys a sandbox while its gateway is down and leaves a tombstone, so
// that the record in the gateway's store is not taken for a sandbox to restore.
func bury(ctx context.Context, driver sandbox.Driver, paths state.Gateway, h sandbox.Handle) error {
	// The stone first: once the sandbox's directory is gone nothing else tells the
	// gateway that its record is not one to restore.
	if err := state.MkdirAll(paths.File(state.TombstonesDir)); err != nil {
		return fmt.Errorf("mark sandbox %s deleted: %w", h.Name, err)
	}
	if err := state.WriteFile(paths.Tombstone(h.ID), []byte(h.Name+"\n"), state.FileMode); err != nil {
		return fmt.Errorf("mark sandbox %s deleted: %w", h.Name, err)
	}
	if err := driver.Destroy(ctx, h); err != nil {
		return fmt.Errorf("destroy sandbox %s: %w", h.Name, err)
	}
	return nil
}

// uninstall removes everything of one gateway, whatever state it is in. What
// cannot be removed does not keep the rest from being removed.
func (g *graph) uninstall(ctx context.Context, name string, plan bool, report gateway.Progress) (cli.Removal, error) {
	paths := g.roots.Gateway(name)
	driver := g.driver(paths)
	runtime, err := g.runtime(name)
	if err != nil {
		// An unreadable desired state must not keep it from being removed.
		runtime = g.embedded(paths, 0, false)
	}
	handles := everyHandle(ctx, driver, paths)
	removal := cli.Removal{}
	for _, h := range handles {
		removal.Sandboxes = append(removal.Sandboxes, h.Name)
	}
	if held, holder, err := state.Held(paths.File(state.DaemonLockFile)); err == nil && held {
		removal.Processes = append(removal.Processes, fmt.Sprintf("gateway daemon (pid %d)", holder.PID))
	}
	keeper := g.service(paths)
	unit, unitErr := keeper.Find(ctx)
	if unit != "" {
		removal.Paths = append(removal.Paths, unit)
	}
	if unitErr != nil && plan { // once: what is planned is done next
		report(unitErr.Error())
	}
	if _, err := os.Lstat(paths.File(state.ProcessFile)); err == nil {
		removal.Processes = append(removal.Processes, "openshell-gateway")
	}
	if held, holder, err := state.Held(paths.File(state.PortForwardLock)); err == nil && held {
		removal.Processes = append(removal.Processes, fmt.Sprintf("port-forward (pid %d)", holder.PID))
	}
	contained, unknown := inGateway(ctx, runtime)
	store, left, unread := inCluster(ctx, runtime)
	for _, stays := range []string{unknown, unread} {
		if stays != "" {
			removal.Stays = append(removal.Stays, stays)
		}
	}
	for _, l := range left {
		removal.Cluster = append(removal.Cluster, l.String())
	}
	removal.Sandboxes = append(removal.Sandboxes, contained...)
	var own []string
	for _, p := range []string{paths.Dir(), paths.RunDir(), paths.Desired()} {
		if _, err := os.Lstat(p); err == nil {
			own = append(own, p)
		}
	}
	removal.Paths = append(append(removal.Paths, own...), registration.Ours(paths)...)
	if versions := g.roots.Versions(); len(own) > 0 && g.last(name) {
		if _, err := os.Lstat(versions); err == nil {
			removal.Paths = append(removal.Paths, versions)
		}
	}
	if plan {
		return removal, nil
	}
	var problems []error
	for _, sandbox := range contained {
		report("removing sandbox " + sandbox)
		if err := deleteIn(ctx, runtime, sandbox); err != nil {
			problems = append(problems, fmt.Errorf("delete sandbox %s: %w", sandbox, err))
		}
	}
	// Before the gateway is stopped: the unit would have it started again.
	kept, err := keeper.Uninstall(ctx, nil, report)
	if err != nil {
		problems = append(problems, fmt.Errorf("remove the service of gateway %s: %w", name, err))
	}
	if kept && os.Geteuid() != 0 {
		removal.Stays = append(removal.Stays, "lingering, which others may count on by now (loginctl disable-linger)")
	}
	for _, end := range ways(runtime, paths) {
		if err := end(ctx, report); err != nil {
			problems = append(problems, fmt.Errorf("stop gateway %s: %w", name, err))
		}
	}
	if len(left) > 0 {
		report("removing what Creel made in the cluster")
		if err := store.Remove(ctx, left); err != nil {
			problems = append(problems, fmt.Errorf("remove what Creel made in the cluster: %w", err))
		}
	}
	for _, h := range handles {
		report("removing sandbox " + h.Name)
		if err := driver.Destroy(ctx, h); err != nil {
			problems = append(problems, fmt.Errorf("destroy sandbox %s: %w", h.Name, err))
		}
	}
	if err := registration.Remove(paths); err != nil {
		problems = append(problems, fmt.Errorf("remove registration: %w", err))
	}
	if len(problems) > 0 {
		// The records are what a second attempt works from.
		return removal, errors.Join(problems...)
	}
	report("removing state")
	problems = append(problems, state.Sweep(paths.Desired()))
	for _, p := range own {
		problems = append(problems, os.RemoveAll(p))
	}
	problems = append(problems, g.removeEmptyRoots())
	return removal, errors.Join(problems...)
}

// inGateway lists the sandboxes that only the gateway itself can remove, because it
// runs them in containers of its own. Where it does not answer they stay, which is said.
func inGateway(ctx context.Context, runtime gateway.Runtime) (names []string, stays string) {
	if runtime.Name() != desired.OpenShell {
		return nil, ""
	}
	if o := runtime.Observe(ctx); o.Verdict != health.OK {
		if !o.Absent {
			stays = "containers of the gateway's sandboxes, if there are any: the gateway does not answer"
		}
		return nil, stays
	}
	c, err := runtime.Dial(ctx)
	if err != nil {
		return nil, ""
	}
	defer func() { _ = c.Close() }()
	all, err := c.Inspect(ctx, false)
	if err != nil {
		return nil, ""
	}
	for _, s := range all {
		names = append(names, s.Name)
	}
	return names, ""
}

func deleteIn(ctx context.Context, runtime gateway.Runtime, name string) error {
	c, err := runtime.Dial(ctx)
	if err != nil {
		return err
	}
	_, err = c.DeleteSandbox(ctx, name)
	return errors.Join(err, c.Close())
}

// everyHandle lists the sandboxes on disk; one whose record cannot be read is
// listed by its directory alone.
func everyHandle(ctx context.Context, driver sandbox.Driver, paths state.Gateway) []sandbox.Handle {
	handles, _ := driver.Handles(ctx) // unreadable records are found below
	entries, err := os.ReadDir(paths.Sandboxes())
	if err != nil {
		return handles
	}
	for _, e := range entries {
		known := slices.ContainsFunc(handles, func(h sandbox.Handle) bool { return h.ID == e.Name() })
		if !known && e.IsDir() {
			handles = append(handles, sandbox.Handle{Version: 1, ID: e.Name(), Name: e.Name(), Gateway: paths.Name, Driver: driver.Name()})
		}
	}
	return handles
}

// last reports that no gateway but the one of this name has a state directory.
func (g *graph) last(name string) bool {
	left, err := os.ReadDir(filepath.Join(g.roots.State, state.GatewaysDir))
	return err != nil || !slices.ContainsFunc(left, func(e fs.DirEntry) bool { return e.Name() != name })
}

// removeEmptyRoots removes the copies of this executable and the empty
// directories, once no gateway is left.
func (g *graph) removeEmptyRoots() error {
	if !g.last("") {
		return nil
	}
	if err := os.RemoveAll(g.roots.Versions()); err != nil {
		return err
	}
	for _, dir := range []string{
		filepath.Join(g.roots.State, state.GatewaysDir), filepath.Join(g.roots.Run, state.GatewaysDir), g.roots.DesiredFiles(),
		g.roots.Run, g.roots.State, g.roots.Config,
	} {
		// A directory that holds anything else is not ours to remove.
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !notEmpty(dir) {
			return err
		}
	}
	return nil
}

func notEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) > 0
}
