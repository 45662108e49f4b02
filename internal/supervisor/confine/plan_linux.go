package confine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"creel/internal/advisory"
	"creel/internal/sandbox"
)

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
