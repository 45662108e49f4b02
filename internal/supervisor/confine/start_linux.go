package confine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
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

// makePlan settles on the host's side what the first process will do.
func makePlan(tier sandbox.Tier, p Profile) (plan, error) {
	if p.SandboxID == "" || !filepath.IsAbs(p.Workspace) || !filepath.IsAbs(p.Executable) {
		return plan{}, errors.New("profile lacks an id, or an absolute workspace or executable")
	}
	if p.Hostname == "" {
		p.Hostname = "sandbox"
	}
	var err error
	if p.Workspace, err = filepath.EvalSymlinks(p.Workspace); err != nil {
		return plan{}, fmt.Errorf("resolve the workspace: %w", err)
	}
	if p.Executable, err = filepath.EvalSymlinks(p.Executable); err != nil {
		return plan{}, fmt.Errorf("resolve the executable: %w", err)
	}
	resolve := func(path string) (string, error) {
		resolved, err := filepath.EvalSymlinks(path)
		if errors.Is(err, os.ErrNotExist) {
			return "", nil
		}
		return resolved, err
	}
	var hidden []string
	for _, h := range p.Hidden {
		if r, err := resolve(h); err == nil && r != "" {
			hidden = append(hidden, r)
		}
	}
	homes := homeDirectories(p.HostUID)
	out := plan{Profile: p, Tier: tier, DropTo: os.Geteuid() == 0}
	if out.DropTo && (p.HostUID == 0 || p.HostGID == 0) {
		return plan{}, errors.New("the programs of a sandbox may not be root outside: host_uid and host_gid are 0")
	}
	if !out.DropTo && p.HostUID != os.Geteuid() {
		return plan{}, fmt.Errorf("only root can start a sandbox as another user (uid %d)", p.HostUID)
	}
	if out.Grants, err = grants(p.ReadOnly, p.ReadWrite, resolve, homes, hidden); err != nil {
		return plan{}, err
	}
	shown := append(systemDirectories(), "/opt")
	for _, g := range out.Grants {
		shown = append(shown, g.Resolved)
	}
	for _, h := range append(slices.Clone(hidden), homes...) {
		if slices.ContainsFunc(shown, func(d string) bool { return within(h, d) }) && !slices.Contains(out.Masks, h) {
			out.Masks = append(out.Masks, h)
		}
	}
	if tier != sandbox.TierNamespaces && out.DropTo {
		if err := openWay(p.Workspace, hidden); err != nil {
			return plan{}, err
		}
		if err := reachable(p.Workspace, p.HostUID, p.HostGID); err != nil {
			return plan{}, err
		}
	}
	return out, nil
}

// homeDirectories are the homes that a policy may not show as a whole.
func homeDirectories(uid int) []string {
	homes := []string{"/root", "/home"}
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		homes = append(homes, u.HomeDir)
	}
	if u, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil {
		homes = append(homes, u.HomeDir)
	}
	homes = append(homes, os.Getenv("HOME"))
	var out []string
	for _, h := range homes {
		if r, err := filepath.EvalSymlinks(h); err == nil && r != "/" && filepath.IsAbs(r) && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

// openWay lets every user traverse, not list, the caller's own directories above
// a workspace. Without namespaces the sandbox's user has to walk the real path;
// what else lies there has modes of its own.
func openWay(workspace string, own []string) error {
	for dir := filepath.Dir(workspace); dir != "/"; dir = filepath.Dir(dir) {
		if !slices.ContainsFunc(own, func(d string) bool { return within(dir, d) }) {
			continue
		}
		fi, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("open the way to the workspace: %w", err)
		}
		if fi.Mode().Perm()&0o001 != 0 {
			continue
		}
		if err := os.Chmod(dir, fi.Mode().Perm()|0o011); err != nil {
			return fmt.Errorf("open the way to the workspace: %w", err)
		}
	}
	return nil
}

// reachable reports whether a user can traverse every directory down to path.
func reachable(path string, uid, gid int) error {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return fmt.Errorf("look at %s: %w", dir, err)
		}
		bit := uint32(unix.S_IXOTH)
		switch {
		case int(st.Uid) == uid:
			bit = unix.S_IXUSR
		case int(st.Gid) == gid:
			bit = unix.S_IXGRP
		}
		if st.Mode&bit == 0 {
			return advisory.New("workspace-unreachable",
				fmt.Sprintf("without namespaces uid %d has to walk to %s and may not traverse %s: choose a CREEL_HOME that every user may traverse, such as /var/lib/creel",
					uid, path, dir), nil)
		}
		if dir == "/" {
			return nil
		}
	}
}

// reservePorts takes the relay's port, and settles the dashboard's, on the host's
// loopback that the programs share. A port that is taken is replaced by a free one.
func (b *Box) reservePorts(ctx context.Context) error {
	p := &b.plan.Profile
	l, err := listenOrFree(ctx, p.RelayPort)
	if err != nil {
		return fmt.Errorf("reserve the relay's port: %w", err)
	}
	b.relay, p.RelayPort = l, l.Addr().(*net.TCPAddr).Port
	if p.DashboardPort == 0 {
		return nil
	}
	d, err := listenOrFree(ctx, p.DashboardPort)
	if err != nil {
		return errors.Join(fmt.Errorf("find a port for the dashboard: %w", err), l.Close())
	}
	p.DashboardPort = d.Addr().(*net.TCPAddr).Port
	return d.Close()
}

func listenOrFree(ctx context.Context, port int) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil && port != 0 {
		return config.Listen(ctx, "tcp4", "127.0.0.1:0")
	}
	return l, err
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
	planFile, err := inMemory(b.plan)
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

// inMemory puts the plan into a file without a name.
func inMemory(p plan) (*os.File, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("creel-plan", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "plan")
	if _, err := f.Write(b); err != nil {
		return nil, errors.Join(fmt.Errorf("write the plan: %w", err), f.Close())
	}
	return f, nil
}
