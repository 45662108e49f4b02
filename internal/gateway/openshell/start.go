package openshell

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/gateway/launch"
	"creel/internal/gateway/upgrade"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/state"
)

// askAgain is the pause between two looks at a gateway that is on its way up.
const askAgain = 25 * time.Millisecond

// Start reuses the gateway that runs if the chain holds and nothing has drifted,
// adopts one whose marker was lost, replaces one that has drifted (as Upgrade does),
// and else stops what it can identify and launches a new one. It returns when the
// whole chain holds, the process has ended or the gateway-start budget is used up. A
// gateway that did not come up is not left behind.
func (r *Runtime) Start(ctx context.Context, report gateway.Progress) error {
	if report == nil {
		report = func(string) {}
	}
	g := r.cfg.Gateway
	if err := host.CheckWritable(g.Dir()); err != nil {
		return err
	}
	if _, err := Find(r.cfg.Getenv); err != nil {
		return err
	}
	o, m := r.observe(ctx)
	switch {
	case o.Verdict == health.OK && len(o.Drift) == 0:
		report(fmt.Sprintf("gateway %s is running (pid %d)", g.Name, m.PID))
		return errors.Join(r.remember(m, o), r.finish())
	case o.Verdict == health.Unknown:
		// Nothing is ended or replaced on a question that could not be asked.
		return advisory.New(o.Reason, fmt.Sprintf("gateway %s cannot be started", g.Name), errors.New(o.Message))
	case o.Verdict == health.OK:
		report("replacing: " + strings.Join(o.Drift, "; "))
		return r.replace(ctx, o, m, gateway.UpgradeOptions{}, report)
	case !o.Absent:
		report("restarting: " + o.Message)
	}
	if held, holder, err := state.Held(g.File(state.DaemonLockFile)); err != nil || held {
		return advisory.New("gateway-already-running", fmt.Sprintf("gateway %s runs as a daemon of Creel (pid %d)", g.Name, holder.PID), err)
	}
	if !o.Absent {
		if err := r.Stop(ctx, report); err != nil {
			return err
		}
	}
	return r.bring(ctx, gateway.UpgradeOptions{}, report)
}

// remember writes the marker of a gateway that was adopted or told its version.
func (r *Runtime) remember(m marker, o gateway.Observation) error {
	if written, err := readMarker(r.cfg.Gateway); err == nil && written == m && m.OpenShell == o.Identity.Version {
		return nil
	}
	m.OpenShell = o.Identity.Version
	return host.Explain(writeMarker(r.cfg.Gateway, m), r.cfg.Gateway.Dir())
}

// proven records a gateway that was launched and is healthy, so that it can be
// launched again and nothing older gets its database.
func (r *Runtime) proven(m marker, o gateway.Observation, with settings) error {
	err := r.remember(m, o)
	if err == nil {
		// What was launched may be a copy of the file that was asked for its version.
		with.Program, err = identify(m.Binary)
	}
	var s upgrade.Side
	if err == nil {
		s, err = with.side(o.Identity.Version, m.Binary)
	}
	if err == nil {
		err = upgrade.WriteServed(r.cfg.Gateway, runtimeName, s)
	}
	return host.Explain(err, r.cfg.Gateway.Dir())
}

// ports is how many are tried when none was asked for.
const ports = 50

// choosePort is the wanted port, else the one of last time, else the next free one.
// The gateway binds it itself, so that it may be taken in between: then the
// gateway says so in its log.
func (r *Runtime) choosePort(ctx context.Context) (int, error) {
	first := DefaultPort
	if last, err := launch.ReadEndpoint(r.cfg.Gateway); err == nil {
		first = last.Port
	}
	if r.cfg.Port != 0 {
		first = r.cfg.Port
	}
	for port := first; port < first+ports && port <= 65535; port++ {
		s := host.CheckPort(ctx, bind, port)
		switch {
		case s.Free:
			return port, nil
		case r.cfg.PortExplicit:
			return 0, advisory.New("port-in-use", fmt.Sprintf("port %d of the gateway is in use%s", port, by(port)), nil)
		}
	}
	return 0, advisory.New("port-in-use", fmt.Sprintf("no port from %d on is free", first), nil)
}

func by(port int) string {
	if u, ok := host.PortHolder(port); ok {
		return " by " + u.String()
	}
	return ""
}

// launch starts the gateway of a side.
func (r *Runtime) launch(ctx context.Context, report gateway.Progress, s upgrade.Side, with settings) error {
	g, binary := r.cfg.Gateway, s.Executable
	ctx, cancel := budget.Context(ctx, budget.GatewayStart, "start gateway "+g.Name)
	defer cancel()
	if err := state.MkdirAll(g.Dir()); err != nil {
		return host.Explain(err, g.Dir())
	}
	if with.Config != "" {
		path := g.File(state.ProcessConfigFile)
		if err := state.WriteFile(path, []byte(with.Config), state.FileMode); err != nil {
			return host.Explain(fmt.Errorf("write the gateway's configuration: %w", err), path)
		}
	}
	launch.RotateLog(r.log()) // what cannot be rotated is appended to
	report("starting " + binary)
	cmd := exec.Command(binary)
	cmd.Env = with.Environment
	c, err := launch.Start(cmd, r.log())
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		return advisory.New("gateway-executable-broken", "gateway failed to start", err)
	case err != nil:
		return host.Explain(fmt.Errorf("start %s: %w", binary, err), binary)
	}
	c.Port = with.Port
	m := marker{Mark: launch.MarkOf(g.Name, c.PID(), c.Began(), time.Now().UTC().Truncate(time.Second)),
		Driver: driverName, Port: with.Port, Plaintext: with.Plaintext, EnvironmentHash: hash(with.Environment, with.Config), Binary: binary,
		DockerHost: with.DockerHost}
	var last gateway.Observation
	failed := func(why error) error {
		err := c.Failed("", "", last.Evidence, why)
		return errors.Join(err, c.EndSession(), removeMarker(g))
	}
	if m.ProcessStart == 0 { // it ended before anybody could look
		<-c.Exited()
		return failed(nil)
	}
	if err := writeMarker(g, m); err != nil {
		return failed(host.Explain(fmt.Errorf("record the gateway: %w", err), g.Dir()))
	}
	report(fmt.Sprintf("waiting for the gateway (pid %d) at %s", m.PID, m.endpoint().URL()))
	for {
		o, _ := r.observe(ctx)
		if last.Evidence == nil || !launch.Over(ctx) {
			last = o // not one that was cut short, if there is another
		}
		select {
		case <-c.Exited(): // whatever answered, it was not this one
			return failed(nil)
		default:
		}
		if o.Verdict == health.OK && o.Identity.PID == m.PID {
			report(o.Message)
			return r.proven(m, o, with)
		}
		t := time.NewTimer(askAgain)
		select {
		case <-t.C:
		case <-c.Exited():
			t.Stop()
			return failed(nil)
		case <-ctx.Done():
			t.Stop()
			return failed(context.Cause(ctx))
		}
	}
}
