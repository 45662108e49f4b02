package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/sandbox"
	"creel/internal/state"
	"creel/internal/supervisor/confine"
)

// Stop ends the sandbox's supervisor, and with it everything inside, and returns
// when that has ended.
func (d *Driver) Stop(ctx context.Context, h sandbox.Handle) error {
	if err := checkID(h.ID); err != nil {
		return err
	}
	if h.HostUID == 0 { // who has no handle to read has none to know it from
		h.HostUID = d.workspaceUID(h.ID)
	}
	lock := d.gateway.Sandbox(h.ID).File(state.SupervisorLock)
	// The supervisor gives its agent the same time to end; this is longer by a
	// probe, so that it can finish what it does.
	grace := budget.Of(budget.SandboxStop) + budget.Of(budget.Probe)
	if err := end(ctx, lock, syscall.SIGTERM, grace); err != nil {
		var late *late
		if !errors.As(err, &late) {
			return advisory.New("sandbox-stop-failed", "stop sandbox "+h.Name, err)
		}
		if err := end(ctx, lock, syscall.SIGKILL, budget.Of(budget.SandboxStop)); err != nil {
			return advisory.New("sandbox-stop-failed", "kill the supervisor of sandbox "+h.Name, err)
		}
	}
	sweep, cancel := budget.Context(ctx, budget.SandboxStop, "kill what is left of sandbox "+h.Name)
	defer cancel()
	if _, err := confine.Sweep(sweep, h.ID, h.HostUID); err != nil {
		return advisory.New("sandbox-stop-failed", "stop sandbox "+h.Name, err)
	}
	return nil
}

// late is the error of a lock that is still held at the end of the grace.
type late struct{ grace time.Duration }

func (l *late) Error() string { return fmt.Sprintf("its lock is still held after %s", l.grace) }

// end signals the holder of a lock and waits until nobody holds it and the
// supervisor that did has ended.
func end(ctx context.Context, lock string, sig syscall.Signal, grace time.Duration) error {
	deadline := time.NewTimer(grace)
	defer deadline.Stop()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	last, signalled := 0, 0
	for {
		held, holder, err := state.Held(lock)
		if err != nil {
			return err
		}
		if held && holder.PID != 0 {
			last = holder.PID
		}
		if !held && !supervises(last, filepath.Dir(lock)) {
			return nil
		}
		// A holder that has not written its name yet has none to signal.
		if held && holder.PID != 0 && holder.PID != signalled {
			sent, err := signalHolder(lock, holder, sig)
			if err != nil {
				return err
			}
			if sent {
				signalled = holder.PID
			}
		}
		select {
		case <-look.C:
		case <-deadline.C:
			return &late{grace}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// signalHolder signals a lock's holder if the process of that number is it: it
// was there when the lock was taken, and the lock is held after the process was
// taken hold of.
func signalHolder(lock string, holder state.Holder, sig syscall.Signal) (bool, error) {
	p, err := os.FindProcess(holder.PID) // holds it, where the system can
	if err != nil {
		return false, nil // it has ended; the lock tells
	}
	defer func() { _ = p.Release() }()
	if !isHolder(lock, holder) {
		return false, nil // it has ended, or the number is another's by now
	}
	if held, now, err := state.Held(lock); err != nil || !held || now.PID != holder.PID {
		return false, err
	}
	if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return false, fmt.Errorf("signal process %d: %w", holder.PID, err)
	}
	return true, nil
}

// isHolder recognises a lock's holder: it runs the supervisor of that directory,
// or has begun before the lock was taken. The clock may have been set since,
// and another build may have another command line; hence either.
func isHolder(lock string, holder state.Holder) bool {
	if supervises(holder.PID, filepath.Dir(lock)) {
		return true
	}
	began, err := startTime(holder.PID)
	return err == nil && !began.After(holder.Since.Add(startSlack))
}

// startSlack is how much later than its lock a process may seem to have begun:
// the kernel counts its beginning in hundredths of a second, from a boot time
// in whole seconds.
const startSlack = 2 * time.Second

// Destroy stops the sandbox and removes everything of it.
func (d *Driver) Destroy(ctx context.Context, h sandbox.Handle) error {
	if err := d.Stop(ctx, h); err != nil {
		return err
	}
	paths := d.gateway.Sandbox(h.ID)
	if _, err := os.Lstat(paths.Dir()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// Nobody may start it while it goes.
	lock, err := takeLock(ctx, paths.File(state.SupervisorLock))
	if err != nil {
		return fmt.Errorf("destroy sandbox %s: %w", h.Name, err)
	}
	// The handle goes last: what is half removed can be removed again by it.
	entries, err := os.ReadDir(paths.Dir())
	if err == nil {
		for _, e := range entries {
			if e.Name() == state.HandleFile || e.Name() == state.SupervisorLock {
				continue
			}
			if err = remove(ctx, paths.File(e.Name())); err != nil {
				break
			}
		}
	}
	if err == nil {
		err = remove(ctx, paths.Dir())
	}
	if err := errors.Join(err, lock.Unlock()); err != nil {
		return fmt.Errorf("destroy sandbox %s: %w", h.Name, err)
	}
	return nil
}

// takeLock waits for a lock that somebody may hold for the time of a question.
func takeLock(ctx context.Context, path string) (*state.Lock, error) {
	ctx, cancel := budget.Context(ctx, budget.Lock, "take the supervisor's lock")
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		l, err := state.TryLock(path, "creel destroy")
		var busy *state.Busy
		if err == nil || !errors.As(err, &busy) {
			return l, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, errors.Join(err, context.Cause(ctx))
		}
	}
}

// remove removes a tree, also directories that their owner has closed to
// himself. It follows no link. Nothing runs any more that could change the tree
// meanwhile.
func remove(ctx context.Context, path string) error {
	err := os.RemoveAll(path)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	opened := filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if e.IsDir() { // before it is read
			return os.Chmod(p, 0o700)
		}
		return nil
	})
	if opened != nil {
		return errors.Join(err, opened)
	}
	return os.RemoveAll(path)
}
