// Package process runs sandboxes as confined processes of this machine: one
// supervisor a sandbox, which outlives whoever started it. It launches, finds and
// ends supervisors and keeps the sandboxes' directories; what happens inside is
// the supervisor's. It must not talk to a gateway.
package process

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"creel/internal/advisory"
	"creel/internal/credential"
	"creel/internal/sandbox"
	"creel/internal/state"
	"creel/internal/supervisor/confine"
)

// Name is the driver's name in handles.
const Name = "process"

// lastHostUID ends the range of user ids that Linux distributions leave to
// containers; it begins at confine.FirstHostUID (systemd's "Users, Groups, UIDs
// and GIDs").
const lastHostUID = 1879048191

// Options add to what a Driver does by default.
type Options struct {
	// Hidden are directories that no sandbox may see, beside Creel's own.
	Hidden []string
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Driver runs the sandboxes of one gateway.
type Driver struct {
	gateway state.Gateway
	self    func() (string, error)
	options Options

	// preparing keeps two new sandboxes from taking one user id.
	preparing sync.Mutex
}

var _ sandbox.Driver = (*Driver)(nil)

// New makes the driver of a gateway. self names the executable that supervisors
// run: one that stays where it is for as long as they do.
func New(g state.Gateway, self func() (string, error), o Options) *Driver {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Driver{gateway: g, self: self, options: o}
}

// Name is "process".
func (d *Driver) Name() string { return Name }

// Prepare makes the sandbox's durable directories and its handle. An existing
// handle is kept but for its Spec, which becomes the given one.
func (d *Driver) Prepare(ctx context.Context, id, name, gateway string, spec sandbox.Spec) (sandbox.Handle, error) {
	if err := checkID(id); err != nil {
		return sandbox.Handle{}, err
	}
	if err := sandbox.CheckName(name); err != nil {
		return sandbox.Handle{}, err
	}
	d.preparing.Lock()
	defer d.preparing.Unlock()
	paths := d.gateway.Sandbox(id)
	h, err := readHandle(paths)
	switch {
	case err == nil:
		if h.Name != name || h.Gateway != gateway {
			return h, fmt.Errorf("sandbox %s is %q of gateway %q already", id, h.Name, h.Gateway)
		}
		h.Spec, h.Version = spec, versionFor(spec)
	case errors.Is(err, fs.ErrNotExist):
		h = sandbox.Handle{Version: versionFor(spec), ID: id, Name: name, Gateway: gateway, CreatedAt: d.options.Now().UTC(),
			Driver: Name, HostUID: os.Geteuid(), HostGID: os.Getegid(), Spec: spec}
		if os.Geteuid() == 0 {
			// A workspace without a handle has an owner, who must not change.
			if h.HostUID = d.workspaceUID(id); h.HostUID == 0 {
				if h.HostUID, err = d.freeUID(id); err != nil {
					return h, err
				}
			}
			h.HostGID = h.HostUID
		}
	default:
		return h, err
	}
	if err := ctx.Err(); err != nil {
		return h, context.Cause(ctx)
	}
	if err := makeDirectories(paths, h); err != nil {
		return h, fmt.Errorf("prepare sandbox %s: %w", name, err)
	}
	// Last: a handle makes the sandbox exist.
	return h, writeHandle(paths, h)
}

func makeDirectories(paths state.Sandbox, h sandbox.Handle) error {
	for _, dir := range []string{paths.Dir(), paths.Workspace(), paths.File(state.LogDir)} {
		if err := state.MkdirAll(dir); err != nil {
			return err
		}
	}
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(paths.Workspace(), h.HostUID, h.HostGID)
}

// freeUID chooses a user id that no other sandbox under the same roots has. It
// begins at a number derived from the sandbox's id, so that sandboxes of other
// roots hardly meet it.
func (d *Driver) freeUID(id string) (int, error) {
	pattern := filepath.Join(d.gateway.Roots.State, state.GatewaysDir, "*", state.SandboxesDir, "*")
	dirs, err := filepath.Glob(pattern)
	if err != nil {
		return 0, fmt.Errorf("list sandboxes: %w", err)
	}
	taken := map[int]bool{}
	for _, dir := range dirs {
		// A handle that cannot be read still owns its workspace.
		var owner fs.FileInfo
		if owner, err = os.Lstat(filepath.Join(dir, state.WorkspaceDir)); err == nil {
			taken[ownerOf(owner)] = true
		}
	}
	return chooseUID(id, taken), nil
}

// workspaceUID is the user id that a sandbox has of its own, by its workspace's
// owner; 0 when there is none.
func (d *Driver) workspaceUID(id string) int {
	fi, err := os.Lstat(d.gateway.Sandbox(id).Workspace())
	if err != nil {
		return 0
	}
	if uid := ownerOf(fi); uid >= confine.FirstHostUID && uid <= lastHostUID {
		return uid
	}
	return 0
}

func chooseUID(id string, taken map[int]bool) int {
	const span = lastHostUID - confine.FirstHostUID + 1
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(id)) // a hash cannot fail
	for offset := int(sum.Sum32()) % span; ; offset = (offset + 1) % span {
		if uid := confine.FirstHostUID + offset; !taken[uid] {
			return uid
		}
	}
}

// Renew replaces the supervisor's credential for the gateway, and tells a
// supervisor that was started under another socket's path where the gateway is now.
func (d *Driver) Renew(_ context.Context, h sandbox.Handle, token credential.Secret) error {
	if err := checkID(h.ID); err != nil {
		return err
	}
	if err := state.WriteFile(d.gateway.Sandbox(h.ID).File(state.TokenFile), []byte(token.Reveal()), state.FileMode); err != nil {
		return fmt.Errorf("write the token of sandbox %s: %w", h.Name, err)
	}
	return d.redirect(h)
}

// NewDashboardToken replaces the token in the launch file.
func (d *Driver) NewDashboardToken(_ context.Context, h sandbox.Handle, dashboard credential.Secret) error {
	if err := checkID(h.ID); err != nil {
		return err
	}
	return d.patchLaunch(h, "dashboard_token", dashboard.Reveal())
}

// Observe tells whether the sandbox's supervisor lives: whether its lock is held.
func (d *Driver) Observe(_ context.Context, h sandbox.Handle) sandbox.Liveness {
	if err := checkID(h.ID); err != nil {
		return sandbox.Liveness{Reason: err.Error()}
	}
	held, holder, err := state.Held(d.gateway.Sandbox(h.ID).File(state.SupervisorLock))
	switch {
	case err != nil:
		return sandbox.Liveness{Reason: err.Error()}
	case held:
		return sandbox.Liveness{Alive: true, Known: true, PID: holder.PID, Reason: "its lock is held"}
	}
	return sandbox.Liveness{Known: true, Reason: "no supervisor holds its lock"}
}

// hidden are the directories that the sandbox must not see.
func (d *Driver) hidden() []string {
	r := d.gateway.Roots
	out := []string{r.Config, r.State, r.Run, r.OpenShell}
	// All three below one directory: that is CREEL_HOME.
	if home := filepath.Dir(r.State); home == filepath.Dir(r.Config) && home == filepath.Dir(r.Run) {
		out = append(out, home)
	}
	out = append(out, d.options.Hidden...)
	return slices.DeleteFunc(out, func(p string) bool { return p == "" })
}

// checkID keeps an id from naming another directory than one of the sandboxes'.
func checkID(id string) error {
	if id == "" || id == "." || id == ".." || filepath.Base(id) != id || len(id) > 128 {
		return fmt.Errorf("sandbox id %q is not the name of a directory", id)
	}
	return nil
}

func corrupt(path string, cause error) error {
	return advisory.New("sandbox-record-corrupt", "read "+path, cause).At(path)
}
