package confine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"creel/internal/advisory"
	"creel/internal/sandbox"
)

// Start confines self (an executable whose "confine" subcommand calls Main) and
// returns when its first process answered and every protection that its tier
// needs was observed. ctx bounds the start, not the life of the Box.
func Start(ctx context.Context, self string, p Profile) (*Box, error) {
	var support Support
	if p.Tier != sandbox.TierUnconfined {
		support = probe(ctx, self)
	}
	tier, reason, err := Choose(p.Tier, support, p.RiskAccepted)
	if err != nil {
		return nil, err
	}
	if more := uncovered(tier); more != "" {
		reason += "; " + more
	}
	b := &Box{pending: map[uint64]chan reply{}, processes: map[uint64]*Process{}, broken: make(chan struct{}), done: make(chan struct{})}
	if b.plan, err = makePlan(tier, p); err != nil {
		return nil, err
	}
	if tier != sandbox.TierNamespaces {
		if err := b.reservePorts(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.start(ctx, self, reason); err != nil {
		if b.relay != nil {
			err = errors.Join(err, b.relay.Close())
		}
		return nil, err
	}
	return b, nil
}

// start runs the first process and waits for its answer.
func (b *Box) start(ctx context.Context, self, reason string) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("make the control socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "control")
	defer func() { _ = theirs.Close() }()
	conn, err := net.FileConn(ours)
	if err := errors.Join(err, ours.Close()); err != nil {
		return fmt.Errorf("make the control socket: %w", err)
	}
	b.conn = conn.(*net.UnixConn)
	encoded, err := json.Marshal(b.plan)
	if err != nil {
		return errors.Join(err, b.conn.Close())
	}
	planFile, err := inMemory("plan", encoded)
	if err != nil {
		return errors.Join(err, b.conn.Close())
	}
	defer func() { _ = planFile.Close() }()
	cmd := exec.Command(self, "confine")
	cmd.Env = []string{"PATH=" + defaultPath, stageVariable + "=" + stagePrepare}
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{theirs, planFile}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if b.plan.Tier == sandbox.TierNamespaces {
		cmd.SysProcAttr = namespaces(b.plan.DropTo, b.plan.Profile.HostUID, b.plan.Profile.HostGID)
	}
	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		// The parent-death signal comes when this thread ends, so the thread stays
		// as long as the child does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is told by its last words, or does not matter
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		return errors.Join(advisory.New("confinement-failed", "start the first process", err), b.conn.Close())
	}
	b.pid = cmd.Process.Pid
	b.kill = func() error {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill the first process: %w", err)
		}
		return nil
	}
	_ = theirs.Close() // else its end would not be seen here
	o, err := b.hello(ctx)
	if err == nil {
		var outside map[string]string
		if outside, err = ownNamespaces(); err == nil {
			b.confinement, err = judge(o, outside, reason, b.plan.DropTo)
		}
	}
	if err != nil {
		err = errors.Join(err, b.kill())
		<-exited
		return errors.Join(err, b.conn.Close())
	}
	received := make(chan struct{})
	go func() {
		defer close(received)
		b.receive()
	}()
	go func() {
		<-exited
		if b.plan.Tier != sandbox.TierNamespaces {
			b.sweep()
		}
		_ = b.conn.Close()
		<-received
		b.mu.Lock()
		if b.relay != nil {
			_ = b.relay.Close()
		}
		b.mu.Unlock()
		close(b.done)
	}()
	return nil
}

// hello waits for the first event: ready, gave up, or gone.
func (b *Box) hello(ctx context.Context) (observed, error) {
	stop := context.AfterFunc(ctx, func() { _ = b.conn.CloseRead() })
	defer stop()
	buffer := make([]byte, maxMessage)
	n, err := b.conn.Read(buffer)
	if ctx.Err() != nil {
		return observed{}, advisory.New("confinement-failed", "wait for the first process", context.Cause(ctx))
	}
	if err != nil || n == 0 {
		return observed{}, advisory.New("confinement-failed", "the first process ended without a word", nil)
	}
	e, err := decodeEvent(buffer[:n])
	switch {
	case err != nil:
		return observed{}, advisory.New("confinement-failed", "understand the first process", err)
	case e.Ready == nil:
		var cause error
		if e.Errno != 0 && !strings.Contains(e.Error, e.Errno.Error()) {
			cause = e.Errno
		}
		return observed{}, advisory.New(e.Advisory, e.Error, cause)
	}
	return *e.Ready, nil
}

// namespaces are the attributes of a process in namespaces of its own. Ambient
// capabilities carry the new user namespace's privileges over the exec, because
// root is not mapped into it.
func namespaces(dropTo bool, uid, gid int) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: InsideUID, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: InsideGID, HostID: gid, Size: 1}},
		// Only root may keep the right to drop supplementary groups.
		GidMappingsEnableSetgroups: dropTo,
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_SETPCAP, unix.CAP_SETUID, unix.CAP_SETGID,
			unix.CAP_DAC_OVERRIDE, unix.CAP_SYS_CHROOT},
		Pdeathsig: unix.SIGKILL,
		Setsid:    true,
	}
}
