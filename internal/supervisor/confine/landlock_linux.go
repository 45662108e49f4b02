package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"creel/internal/sandbox"
)

const (
	readAccess = ll.AccessFSReadFile | ll.AccessFSReadDir | ll.AccessFSExecute
	// Device nodes can be made nowhere.
	writeAccess = readAccess | ll.AccessFSWriteFile | ll.AccessFSRemoveDir | ll.AccessFSRemoveFile | ll.AccessFSMakeDir |
		ll.AccessFSMakeReg | ll.AccessFSMakeSock | ll.AccessFSMakeFifo | ll.AccessFSMakeSym | ll.AccessFSRefer | ll.AccessFSTruncate
	deviceAccess = ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSReadDir | ll.AccessFSIoctlDev
	// fileAccess are the rights that a rule about a file can carry.
	fileAccess = ll.AccessFSExecute | ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSIoctlDev
)

// rule permits access to a file or to what lies below a directory.
type rule struct {
	path     string
	access   uint64
	required bool // its absence is an error
}

// handledAccess are the rights that are refused unless a rule permits them: all
// that the kernel's ABI knows of.
func handledAccess(abi int) (files, network, scopes uint64) {
	files = readAccess | ll.AccessFSWriteFile | ll.AccessFSRemoveDir | ll.AccessFSRemoveFile | ll.AccessFSMakeChar |
		ll.AccessFSMakeDir | ll.AccessFSMakeReg | ll.AccessFSMakeSock | ll.AccessFSMakeFifo | ll.AccessFSMakeBlock | ll.AccessFSMakeSym
	if abi >= 2 {
		files |= ll.AccessFSRefer
	}
	if abi >= 3 {
		files |= ll.AccessFSTruncate
	}
	if abi >= 5 {
		files |= ll.AccessFSIoctlDev
	}
	if abi >= NetworkABI {
		network = ll.AccessNetBindTCP | ll.AccessNetConnectTCP
	}
	if abi >= 6 {
		scopes = ll.ScopeAbstractUnixSocket | ll.ScopeSignal
	}
	return files, network, scopes
}

// rules are the file rules of a tier. With namespaces they repeat what the
// private root shows, as a second wall; without, they are the wall.
func rules(p plan) []rule {
	var out []rule
	ro := func(required bool, paths ...string) {
		for _, path := range paths {
			out = append(out, rule{path, readAccess, required})
		}
	}
	rw := func(paths ...string) {
		for _, path := range paths {
			out = append(out, rule{path, writeAccess, true})
		}
	}
	devices := func(names ...string) {
		for _, name := range names {
			out = append(out, rule{filepath.Join("/dev", name), deviceAccess, false})
		}
	}
	ro(false, systemDirectories()...)
	devices("null", "zero", "full", "random", "urandom", "tty")
	if p.Tier == sandbox.TierNamespaces {
		// Listing is harmless in a root where everything was chosen.
		out = append(out, rule{"/", ll.AccessFSReadDir, true})
		ro(true, "/etc", "/opt", "/proc")
		rw(WorkspacePath, "/tmp", "/run", "/dev/shm")
		devices("pts")
		for _, g := range p.Grants {
			if g.Writable {
				rw(g.Path)
			} else {
				ro(true, g.Path)
			}
		}
		return out
	}
	ro(false, "/opt", "/proc")
	for _, name := range append(systemFiles(), "hosts", "resolv.conf", "nsswitch.conf", "passwd", "group", "host.conf", "gai.conf", "hostname") {
		ro(false, filepath.Join("/etc", name))
	}
	ro(true, p.Profile.Executable)
	rw(p.Profile.Workspace)
	for _, g := range p.Grants {
		if g.Writable {
			rw(g.Resolved)
		} else {
			ro(true, g.Resolved)
		}
	}
	return out
}

// ruleset makes the rules of a plan; the descriptor is the caller's. It never
// makes fewer than the tier needs.
func ruleset(p plan) (int, error) {
	abi, err := landlockABI()
	if err != nil {
		return -1, err
	}
	files, network, scopes := handledAccess(abi)
	if p.Tier == sandbox.TierNamespaces {
		// Network and processes are the namespaces' own there.
		network, scopes = 0, 0
	} else if abi < NetworkABI {
		return -1, fmt.Errorf("ABI %d cannot restrict the network", abi)
	}
	fd, err := ll.LandlockCreateRuleset(&ll.RulesetAttr{HandledAccessFS: files, HandledAccessNet: network, Scoped: scopes}, 0)
	if err != nil {
		return -1, fmt.Errorf("create: %w", err)
	}
	if err := fill(fd, p, files); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func fill(fd int, p plan, files uint64) error {
	for _, r := range rules(p) {
		if p.Tier != sandbox.TierNamespaces && !r.required {
			// Without mounts nothing can cover what lies inside a directory, so a
			// directory that holds something hidden is not shown as a whole.
			if skip := hides(r.path, p.Masks); skip {
				continue
			}
		}
		if err := addRule(fd, r, files); err != nil {
			return fmt.Errorf("rule for %s: %w", r.path, err)
		}
	}
	if p.Tier == sandbox.TierNamespaces {
		return nil
	}
	for _, n := range []ll.NetPortAttr{
		{AllowedAccess: ll.AccessNetConnectTCP, Port: uint64(p.Profile.RelayPort)},
		{AllowedAccess: ll.AccessNetBindTCP, Port: uint64(p.Profile.DashboardPort)},
	} {
		// Port 0 would permit binding any free port.
		if n.Port == 0 {
			continue
		}
		if err := ll.LandlockAddNetPortRule(fd, &n, 0); err != nil {
			return fmt.Errorf("rule for port %d: %w", n.Port, err)
		}
	}
	return nil
}

func hides(path string, masks []string) bool {
	for _, m := range masks {
		if within(m, path) {
			return true
		}
	}
	return false
}

func addRule(ruleset int, r rule, handled uint64) error {
	f, err := unix.Open(r.path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		if !r.required && (errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission)) {
			return nil
		}
		return err
	}
	defer func() { _ = unix.Close(f) }()
	var st unix.Stat_t
	if err := unix.Fstat(f, &st); err != nil {
		return err
	}
	access := r.access & handled
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= fileAccess
	}
	return ll.LandlockAddPathBeneathRule(ruleset, &ll.PathBeneathAttr{AllowedAccess: access, ParentFd: f}, 0)
}

func enforceRuleset(fd int) error { return ll.LandlockRestrictSelf(fd, 0) }

// landlockABI is the kernel's version of Landlock, at least 1.
func landlockABI() (int, error) {
	abi, err := ll.LandlockGetABIVersion()
	switch {
	case errors.Is(err, unix.ENOSYS):
		return 0, errors.New("the kernel is built without it or forbids asking")
	case errors.Is(err, unix.EOPNOTSUPP):
		return 0, errors.New("it is off: the kernel was booted without lsm=landlock")
	case err != nil:
		return 0, fmt.Errorf("ask for the ABI: %w", err)
	}
	return abi, nil
}
