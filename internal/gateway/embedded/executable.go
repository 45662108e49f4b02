package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"creel/internal/host"
	"creel/internal/state"
	"creel/internal/version"
)

// ExecutableName is the file in each directory of state/versions.
const ExecutableName = "creel"

// executableMode lets the owner run the copy; so does root's agent inside a
// sandbox, which sees it through a mount of its own.
const executableMode = 0o755

// pruneAge is how long an unused version is kept: long enough for whoever has
// just made it to start something from it.
const pruneAge = 10 * time.Minute

// Self returns a copy of the running executable that nothing will replace or
// remove while something runs from it: state/versions/BUILDID/creel. The copy is
// made when it is missing or cut short.
func Self(roots state.Roots) (string, error) {
	id, err := version.Identify()
	if err != nil {
		return "", err
	}
	path := filepath.Join(roots.Versions(), id, ExecutableName)
	if err := installCopy(version.Executable(), path); err != nil {
		return "", host.Explain(fmt.Errorf("copy the executable to %s: %w", path, err), path)
	}
	return path, nil
}

func installCopy(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	want, err := src.Stat()
	if err != nil {
		return err
	}
	if have, err := os.Lstat(to); err == nil && have.Mode().IsRegular() && have.Size() == want.Size() && have.Mode().Perm()&0o100 != 0 && isOurs(have) {
		_ = state.Sweep(to) // beside what another copier left
		now := time.Now()
		return os.Chtimes(filepath.Dir(to), now, now) // in use again: not to be pruned
	}
	if err := state.MkdirAll(filepath.Dir(to)); err != nil {
		return err
	}
	// A child that another goroutine forks now would hold the copy open for writing
	// until it executes its own program, and "text file busy" would be the answer
	// to whoever executes the copy first.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	tmp, err := state.NewDraft(to, executableMode)
	if err != nil {
		return err
	}
	if err := state.Fill(tmp.File, src); err != nil {
		tmp.Discard()
		return err
	}
	// It closes the copy before the rename: a file open for writing cannot be
	// executed.
	return tmp.Commit()
}

// isOurs reports a file of this user's that nobody else may change. Another's in the
// place of our copy is no copy of ours.
func isOurs(fi os.FileInfo) bool {
	s, known := fi.Sys().(*syscall.Stat_t)
	return known && int(s.Uid) == os.Geteuid() && fi.Mode().Perm()&0o022 == 0
}

// prune tidies up after a start from an executable. A failure to is no failure to
// start; it is tried next time.
func (r *Runtime) prune(executable string) { _, _ = Prune(r.cfg.Gateway.Roots, executable) }

// Prune removes copies that no process runs from, no sandbox, gateway, service or
// upgrade names and nobody made recently. keep is the path of a copy that stays in any
// case.
func Prune(roots state.Roots, keep string) (removed []string, err error) {
	entries, err := os.ReadDir(roots.Versions())
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("list versions: %w", err)
	}
	if len(entries) < 2 {
		return nil, nil
	}
	running, err := host.Executables()
	if err != nil {
		return nil, err
	}
	named, err := namedExecutables(roots)
	if err != nil {
		return nil, err
	}
	kept, err := keptExecutables(roots)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{keep: true}
	for _, exe := range slices.Concat(running, named, kept) {
		used[strings.TrimSuffix(exe, " (deleted)")] = true
	}
	for _, e := range entries {
		dir := filepath.Join(roots.Versions(), e.Name())
		fi, err := e.Info()
		if err != nil || !e.IsDir() || used[filepath.Join(dir, ExecutableName)] || time.Since(fi.ModTime()) < pruneAge {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return removed, fmt.Errorf("remove version: %w", err)
		}
		removed = append(removed, e.Name())
	}
	return removed, nil
}

// namedExecutables reads which copies sandboxes were started with (a confined
// process hides its executable from /proc, and a supervisor starts its agent again
// from the same copy), and which a gateway may have to go back to. A record that
// cannot be read stops the pruning.
func namedExecutables(roots state.Roots) ([]string, error) {
	gateways := globQuote(filepath.Join(roots.State, state.GatewaysDir))
	var named []string
	for _, pattern := range []string{filepath.Join("*", state.SandboxesDir, "*", state.LaunchFile), filepath.Join("*", state.UpgradeFile), filepath.Join("*", state.ServedFile)} {
		files, err := filepath.Glob(filepath.Join(gateways, pattern))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			type program struct {
				Executable string `json:"executable"`
			}
			var record struct {
				program
				From   program `json:"from"`
				To     program `json:"to"`
				Served program `json:"served"`
			}
			if err == nil {
				err = json.Unmarshal(b, &record)
			}
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", f, err)
			}
			named = append(named, record.Executable, record.From.Executable, record.To.Executable, record.Served.Executable)
		}
	}
	return named, nil
}

// keptExecutables reads which copies services run at the next boot.
func keptExecutables(roots state.Roots) ([]string, error) {
	links, err := filepath.Glob(filepath.Join(globQuote(filepath.Join(roots.State, state.GatewaysDir)), "*", state.ServiceProgram))
	if err != nil {
		return nil, err
	}
	var kept []string
	for _, link := range links {
		exe, err := os.Readlink(link)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("read which executable a service runs: %w", err)
		}
		kept = append(kept, exe)
	}
	return kept, nil
}

// globQuote makes a path mean itself in a pattern.
func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
