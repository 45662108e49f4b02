// Package supervisor runs one sandbox: its confinement, main process, inference
// relay, SSH server and logs. It outlives the gateway and reconnects to it; its
// own end takes the sandbox down. It must not write a credential anywhere, nor
// let the gateway's absence change what runs.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"creel/internal/advisory"
	"creel/internal/agent"
	"creel/internal/budget"
	"creel/internal/credential"
	"creel/internal/host"
	"creel/internal/inference/relay"
	"creel/internal/policy"
	"creel/internal/sandbox"
	"creel/internal/state"
	"creel/internal/supervisor/box"
	"creel/internal/supervisor/confine"
	"creel/internal/supervisor/logs"
	"creel/internal/supervisor/mainproc"
	"creel/internal/supervisor/session"
	"creel/internal/supervisor/sshd"
)

// relayPort is where the inference relay listens inside, where the tier leaves
// the choice.
const relayPort = 8787

// When unused pages of the program are given back.
const (
	firstShrink = 3 * time.Second
	nextShrink  = time.Minute
)

// starter starts the confinement; a test puts another one in.
type starter func(ctx context.Context, self string, p confine.Profile) (box.Box, error)

// running is a supervisor with everything started.
type running struct {
	launch  sandbox.Launch
	box     box.Box
	main    *mainproc.Main
	relay   *relay.Server
	session *session.Client
	log     *slog.Logger
}

// run does the work of Main. started is called once, when the sandbox is up. kill
// ends the sandbox without asking. It returns when everything has ended; the
// error says why the sandbox could not be started or has ended by itself.
func run(ctx context.Context, dir string, begin starter, started func() error, kill <-chan struct{}) (err error) {
	launch, document, err := readLaunch(dir)
	if err != nil {
		return err
	}
	lock, err := state.TryLock(filepath.Join(dir, state.SupervisorLock), "creel supervise")
	if busy := (*state.Busy)(nil); errors.As(err, &busy) {
		return advisory.New("supervisor-running", "start supervisor", err)
	} else if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	// Last of all: a free lock says that nothing of this sandbox is left.
	defer func() { err = errors.Join(err, lock.Unlock()) }()

	agentLog, err := logs.OpenFile(filepath.Join(dir, state.LogDir, state.AgentLogFile))
	if err != nil {
		return fmt.Errorf("open agent log: %w", err)
	}
	defer func() { _ = agentLog.Close() }()
	ownLog, err := logs.OpenFile(filepath.Join(dir, state.LogDir, state.SupervisorLogFile))
	if err != nil {
		return fmt.Errorf("open supervisor log: %w", err)
	}
	defer func() { _ = ownLog.Close() }()
	lines := logs.Open(agentLog)
	r := &running{launch: launch, log: lines.Logger(ownLog)}
	defer func() {
		if err != nil {
			r.log.Error("supervisor ends", slog.Any("error", err))
		}
	}()

	starting, cancel := budget.Context(ctx, budget.SandboxReady, "start sandbox "+launch.Name)
	defer cancel()
	if r.box, err = begin(starting, launch.Executable, profile(launch, document)); err != nil {
		return fmt.Errorf("confine sandbox: %w", err)
	}
	// A kill is heard from here on: whatever waits for the Box below ends with it.
	killed := make(chan struct{})
	defer func() { <-killed }()
	over := make(chan struct{})
	defer close(over)
	go func() {
		defer close(killed)
		select {
		case <-kill:
			r.log.Warn("killing the sandbox")
		case <-over:
		}
		if err := r.box.Close(); err != nil {
			r.log.Error("close confinement", slog.Any("error", err))
		}
	}()
	return r.serve(ctx, starting, lines, started)
}

// profile is what the confinement of a sandbox should be.
func profile(l sandbox.Launch, p policy.Document) confine.Profile {
	tier := l.Spec.Confinement
	if tier == "" {
		tier = sandbox.TierAuto
	}
	return confine.Profile{
		SandboxID: l.ID, Tier: tier, RiskAccepted: l.Spec.RiskAccepted,
		Workspace: filepath.Join(l.Dir, state.WorkspaceDir), Executable: l.Executable,
		HostUID: l.HostUID, HostGID: l.HostGID, Hostname: l.Name,
		RelayPort: relayPort, DashboardPort: l.Spec.Dashboard.TargetPort,
		ReadOnly: p.Filesystem.ReadOnly, ReadWrite: p.Filesystem.ReadWrite, Hidden: l.Hidden,
	}
}

// serve starts what runs in and beside the confinement, and runs it until ctx
// or the Box ends.
func (r *running) serve(ctx, starting context.Context, lines *logs.Log, started func() error) error {
	shell := firstFile("/bin/bash", "/bin/sh")
	listener, err := r.box.Listen(starting, r.box.RelayPort())
	if err != nil {
		return advisory.New("relay-failed", "open inference relay inside the sandbox", err)
	}
	defer func() { _ = listener.Close() }()
	addresses := host.Sources{}.Seat().Addresses
	outside, err := environment(r.launch, r.box, shell, addresses, false)
	if err != nil {
		return err
	}
	inside, err := environment(r.launch, r.box, shell, addresses, true)
	if err != nil {
		return err
	}
	server, err := sshd.New(sshd.Config{Box: r.box, Env: outside, Shell: shell, Log: r.log,
		SFTP: firstFile("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")})
	if err != nil {
		return err
	}
	// The state can be asked for as soon as the session exists, so the session is
	// run only when all of it is there.
	r.session = session.New(session.Config{
		Socket: r.launch.GatewaySocket, Moved: redirection(r.launch.Dir), RelaySocket: relaySocket,
		TokenFile: filepath.Join(r.launch.Dir, state.TokenFile),
		SandboxID: r.launch.ID, InstanceID: uuid.NewString(), Log: r.log, Lines: lines,
		State: r.state, Dial: r.box.Dial, SSH: server.Serve,
	})
	r.relay = relay.New(relay.Config{Token: credential.NewSecret(r.launch.RelayToken), Routes: r.session.Routes(), Log: r.log})

	argv, tty := command(r.launch.Spec, r.box, shell)
	r.main, err = mainproc.Start(starting, mainproc.Config{
		Box: r.box, Command: confine.Command{Argv: argv, Env: inside, TTY: tty}, Restart: r.launch.Spec.Restart,
		// The driver kills a supervisor that takes the whole budget.
		Grace: budget.Of(budget.SandboxStop) * 3 / 4,
		Lines: lines, Log: r.log, Change: r.session.Changed, Exit: r.session.Exited,
	})
	if err != nil {
		id := "main-process-failed"
		if errors.Is(err, syscall.ENOENT) {
			id = "program-missing"
		}
		return advisory.New(id, fmt.Sprintf("start %q inside the sandbox", argv[0]), err)
	}

	// What serves the sandbox goes on while the main process is asked to end.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	all.Go(func() { r.session.Run(serving) })
	all.Go(func() {
		if err := r.relay.Serve(serving, listener); err != nil {
			r.log.Error("inference relay", slog.Any("error", err))
		}
	})
	all.Go(func() { r.shrink(serving) })
	mainDone := make(chan struct{})
	all.Go(func() {
		defer close(mainDone)
		r.main.Run(ctx)
	})
	if err := started(); err != nil {
		r.log.Warn("say that the sandbox is up", slog.Any("error", err)) // whoever asked is gone; the sandbox is not
	}
	r.log.Info("sandbox is up", slog.String("tier", string(r.box.Confinement().Tier)))

	select {
	case <-r.box.Done():
		return r.ended(ctx)
	case <-ctx.Done():
	}
	r.log.Info("stopping")
	<-mainDone
	if err := r.box.Close(); err != nil {
		return fmt.Errorf("end what is left inside: %w", err)
	}
	r.main.Drain()
	r.farewell()
	return nil
}

// shrink gives back, now and then, the pages of the program that are not in use:
// soon after the start, which needs most of them, and seldom after that.
func (r *running) shrink(ctx context.Context) {
	timer := time.NewTimer(firstShrink)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if err := releaseProgram(); err != nil {
			r.log.Info("memory of the start is kept", slog.Any("error", err))
			return
		}
		timer.Reset(nextShrink)
	}
}

// ended says why the Box is gone.
func (r *running) ended(ctx context.Context) error {
	r.main.Drain()
	if ctx.Err() != nil {
		return nil
	}
	return errors.New("the sandbox's first process has ended")
}

// farewell gives the session a moment to report the last state.
func (r *running) farewell() {
	timer := time.NewTimer(farewell)
	defer timer.Stop()
	select {
	case <-r.session.Settled():
	case <-timer.C:
	}
}

// farewell is how long the last report may take; the gateway will learn of the
// end in any case.
const farewell = 200 * time.Millisecond

// state is what the gateway is told.
func (r *running) state() sandbox.State {
	s := sandbox.State{
		Confinement: r.box.Confinement(), Main: r.main.State(), SupervisorPID: os.Getpid(),
		AgentPort: r.box.DashboardPort(), RelayRequests: r.relay.Answered(), PolicyApplied: r.launch.Spec.PolicyHash,
		ReadsPreface: agent.ReadsPreface(r.launch.Spec.Agent, r.launch.Spec.Command),
	}
	if s.Confinement.Tier != sandbox.TierUnconfined {
		s.PolicyEnforced = s.PolicyApplied
	}
	return s
}

// firstFile returns the first of paths that exists, "" when none does.
func firstFile(paths ...string) string {
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil && !info.IsDir() {
			return p
		}
	}
	return ""
}
