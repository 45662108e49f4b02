package process

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/credential"
	"creel/internal/sandbox"
	"creel/internal/state"
	"creel/internal/supervisor/confine"
)

// word is the one line that a supervisor writes when it knows how it went.
type word struct {
	OK       bool   `json:"ok"`
	PID      int    `json:"pid"`
	Advisory string `json:"advisory"`
	Error    string `json:"error"`
}

// Start runs the sandbox's supervisor and returns when it has said that it is up
// or has failed.
func (d *Driver) Start(ctx context.Context, h sandbox.Handle, token, dashboard, relay credential.Secret) error {
	if runtime.GOOS != "linux" {
		return advisory.New("os-unsupported", "sandboxes cannot be confined on "+runtime.GOOS, nil)
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if token.Empty() {
		return fmt.Errorf("start sandbox %s: its supervisor has no token", h.Name)
	}
	if err := d.Renew(ctx, h, token); err != nil {
		return err
	}
	switch live := d.Observe(ctx, h); {
	case !live.Known:
		return fmt.Errorf("find out whether sandbox %s runs: %s", h.Name, live.Reason)
	case live.Alive:
		return nil
	}
	ctx, cancel := budget.Context(ctx, budget.SandboxReady, "start the supervisor of sandbox "+h.Name)
	defer cancel()
	// A supervisor that was killed may have left programs behind.
	if _, err := confine.Sweep(ctx, h.ID, h.HostUID); err != nil {
		return advisory.New("sandbox-stop-failed", "clear what is left of sandbox "+h.Name, err)
	}
	self, err := d.self()
	if err != nil {
		return fmt.Errorf("find the executable for the supervisor: %w", err)
	}
	if err := d.writeLaunch(h, self, dashboard, relay); err != nil {
		return err
	}
	return d.launch(ctx, h, self)
}

func (d *Driver) writeLaunch(h sandbox.Handle, self string, dashboard, relay credential.Secret) error {
	return d.writeLaunchFile(h, sandbox.Launch{ID: h.ID, Name: h.Name, Gateway: h.Gateway, GatewaySocket: d.gateway.Socket(),
		Dir: d.gateway.Sandbox(h.ID).Dir(), Executable: self, Spec: h.Spec, HostUID: h.HostUID, HostGID: h.HostGID,
		DashboardToken: dashboard.Reveal(), RelayToken: relay.Reveal(), Hidden: d.hidden()})
}

func (d *Driver) writeLaunchFile(h sandbox.Handle, launch any) error {
	b, err := json.Marshal(launch)
	if err != nil {
		return err
	}
	if err := state.WriteFile(d.gateway.Sandbox(h.ID).File(state.LaunchFile), b, state.FileMode); err != nil {
		return fmt.Errorf("write the launch file of sandbox %s: %w", h.Name, err)
	}
	return nil
}

// redirect writes this gateway's socket into a launch file that names another: the
// gateway may be started with another directory for sockets than before (by a
// service manager in place of a shell), and supervisors that live look there where
// it went.
func (d *Driver) redirect(h sandbox.Handle) error {
	return d.patchLaunch(h, "gateway_socket", d.gateway.Socket())
}

// patchLaunch sets a field of the launch file, if there is one, and touches nothing
// else of it, not even what a newer build wrote there.
func (d *Driver) patchLaunch(h sandbox.Handle, field, value string) error {
	path := d.gateway.Sandbox(h.ID).File(state.LaunchFile)
	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // never started
	}
	if err != nil {
		return fmt.Errorf("read the launch file of sandbox %s: %w", h.Name, err)
	}
	launch := map[string]json.RawMessage{}
	if json.Unmarshal(old, &launch) != nil || launch == nil { // the decoder's words may quote a token
		return fmt.Errorf("read the launch file of sandbox %s: it is damaged", h.Name)
	}
	var named string
	if err := json.Unmarshal(launch[field], &named); err == nil && named == value {
		return nil
	}
	if launch[field], err = json.Marshal(value); err != nil {
		return err
	}
	return d.writeLaunchFile(h, launch)
}

// launch starts the supervisor and waits for its word, its end or the budget.
func (d *Driver) launch(ctx context.Context, h sandbox.Handle, self string) error {
	paths := d.gateway.Sandbox(h.ID)
	log, err := os.OpenFile(paths.Log(state.SupervisorLogFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, state.FileMode)
	if err != nil {
		return fmt.Errorf("open the supervisor's log: %w", err)
	}
	defer func() { _ = log.Close() }()
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = ready.Close() }()
	cmd := exec.Command(self, "supervise", "--dir", paths.Dir())
	cmd.Env = scrub(os.Environ())
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{theirs}
	detach(cmd)
	if err := errors.Join(cmd.Start(), theirs.Close()); err != nil {
		return advisory.New("sandbox-start-failed", "run the supervisor of sandbox "+h.Name, err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // for as long as it lives: it is this process's to reap
	said := make(chan word, 1)
	go func() { said <- listen(ready) }()
	var failure error
	select {
	case w := <-said:
		if w.OK {
			return nil
		}
		failure = explain(h, w)
	case <-ctx.Done():
		failure = advisory.New("sandbox-start-failed", "wait for the supervisor of sandbox "+h.Name, context.Cause(ctx))
	}
	// Whatever it did not say in time it shall not do later.
	exit := endChild(cmd, exited)
	if exit != nil && strings.HasSuffix(failure.Error(), silent) {
		failure = fmt.Errorf("%w (%v)", failure, exit)
	}
	sweep, cancel := budget.Context(context.WithoutCancel(ctx), budget.SandboxStop, "clear what is left of sandbox "+h.Name)
	defer cancel()
	_, err = confine.Sweep(sweep, h.ID, h.HostUID)
	return errors.Join(failure, err)
}

const silent = "ended without saying why"

func explain(h sandbox.Handle, w word) error {
	if _, known := advisory.Lookup(w.Advisory); !known {
		w.Advisory = "sandbox-start-failed"
	}
	if w.Error == "" {
		w.Error = "the supervisor " + silent
	}
	return advisory.New(w.Advisory, fmt.Sprintf("start sandbox %s: %s", h.Name, w.Error), nil)
}

// listen reads the supervisor's word. Silence is a word that is not OK.
func listen(r io.Reader) word {
	var w word
	line, err := bufio.NewReader(io.LimitReader(r, 1<<16)).ReadBytes('\n')
	if err != nil {
		return word{}
	}
	if err := json.Unmarshal(line, &w); err != nil {
		return word{Error: fmt.Sprintf("the supervisor said %.100q: %v", line, err)}
	}
	return w
}

// endChild returns how a supervisor that failed ended, after killing it if it
// does not by itself.
func endChild(cmd *exec.Cmd, exited <-chan error) error {
	grace := time.NewTimer(budget.Of(budget.Lock))
	defer grace.Stop()
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case err := <-exited:
		return err
	case <-grace.C:
	}
	_ = cmd.Process.Kill()
	return <-exited
}

// scrub keeps what a supervisor needs of an environment and nothing else: no
// variable may carry a secret into it.
func scrub(env []string) []string {
	var out []string
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if slices.Contains([]string{"PATH", "HOME", "LANG", "TZ"}, name) || strings.HasPrefix(name, "CREEL_BUDGET_") {
			out = append(out, v)
		}
	}
	return out
}
