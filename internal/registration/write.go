package registration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"creel/internal/advisory"
	"creel/internal/state"
)

// Write registers a gateway with OpenShell clients. Another gateway's
// registration is never overwritten: the error then carries the advisory
// "registration-foreign" and nothing has changed. The gateway becomes the
// active one when none is, or when setActive asks for it. Writing what is
// already so changes nothing. The caller holds the gateway's lock.
func Write(g state.Gateway, e Endpoint, c Credentials, setActive bool) error {
	if e.Port <= 0 || e.Port > 65535 || len(c.CA) == 0 || len(c.Cert) == 0 || len(c.Key) == 0 {
		return fmt.Errorf("write registration: endpoint %s or its credentials are incomplete", e.URL())
	}
	rec, f, err := lookAt(g)
	if err != nil {
		return err
	}
	dir := g.Registration()
	if !f.empty && !rec.ours(dir, f) {
		return foreign(g, endpointOf(f.files[state.MetadataFile]), nil)
	}
	active, err := readActive(activePath(g))
	if err != nil {
		return advisory.New("registration-unknown", "read the active gateway", err)
	}
	want, err := contents(g, e, c)
	if err != nil {
		return err
	}
	if err := write(g, rec, f, want, active == "" || setActive && active != g.Name); err != nil {
		return advisory.New("registration-write", "write the registration", err)
	}
	return nil
}

func write(g state.Gateway, rec record, f found, want map[string][]byte, setActive bool) error {
	dir := g.Registration()
	if rec.Directory != dir {
		// The user's configuration moved; what is ours in the old place is dead.
		if err := removeFiles(rec); err != nil {
			return err
		}
		rec = record{}
	}
	intended := record{Directory: dir, Files: map[string][]string{}, Active: rec.Active || setActive,
		Made: union(rec.Made, missingDirectories(filepath.Join(dir, state.MTLSDir)))}
	settled := intended
	settled.Files = map[string][]string{}
	for name, content := range want {
		settled.Files[name] = []string{digest(content)}
		intended.Files[name] = union(rec.Files[name], settled.Files[name])
	}
	// The note comes first: interrupted after it, the next run still knows its own.
	if err := writeRecord(g, intended); err != nil {
		return err
	}
	if err := keepStrange(g, rec, f, want); err != nil {
		return err
	}
	if err := state.MkdirAll(filepath.Join(dir, state.MTLSDir)); err != nil {
		return err
	}
	sweep(dir)
	for _, name := range names() {
		path := filepath.Join(dir, name)
		if same(path, f.files[name], want[name]) {
			continue
		}
		if err := state.WriteFile(path, want[name], state.FileMode); err != nil {
			return err
		}
	}
	if setActive {
		if err := state.WriteFile(activePath(g), []byte(g.Name), state.FileMode); err != nil {
			return err
		}
	}
	return writeRecord(g, settled)
}

// same reports whether a file already is as it would be written.
func same(path string, have, want []byte) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().Perm() == state.FileMode && bytes.Equal(have, want)
}

// keepStrange keeps a copy of what somebody else wrote into a registration of
// ours, before it is mended.
func keepStrange(g state.Gateway, rec record, f found, want map[string][]byte) error {
	dir := filepath.Join(g.File(state.BackupDir), time.Now().UTC().Format("20060102T150405.000000000Z")+"-registration")
	for _, name := range names() {
		content, ok := f.files[name]
		if !ok || len(content) == 0 || rec.knows(name, content) || bytes.Equal(content, want[name]) {
			continue
		}
		path := filepath.Join(dir, filepath.Base(name))
		if err := state.MkdirAll(dir); err != nil {
			return err
		}
		if err := state.CreateFile(path, content, state.FileMode); err != nil {
			return err
		}
	}
	return nil
}

// sweep removes temporary files that an interrupted write left. What it cannot
// remove does no harm to the registration.
func sweep(dir string) {
	for _, name := range names() {
		_ = state.Sweep(filepath.Join(dir, name))
	}
}

func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// Ours lists what Remove would remove: the registration's directory and the note of the
// active gateway. What cannot be told is not among it.
func Ours(g state.Gateway) []string {
	rec, err := readRecord(g)
	if err != nil || rec.Version == 0 {
		return nil
	}
	var ours []string
	if f, err := look(rec.Directory); err == nil && f.exists && rec.ours(rec.Directory, f) {
		ours = append(ours, rec.Directory)
	}
	if active, err := readActive(activePath(g)); rec.Active && err == nil && active == g.Name {
		ours = append(ours, activePath(g))
	}
	return ours
}

// Remove takes back what Write did and nothing else: the files that are ours,
// the active gateway if it names this one and Creel set it, and directories
// that Creel made and that are empty. Removing what is gone changes nothing. A
// registration that turns out to be another gateway's stays as it is.
func Remove(g state.Gateway) error {
	rec, err := readRecord(g)
	if err != nil {
		return err
	}
	if rec.Version == 0 {
		return nil // nothing was ever registered
	}
	if err := remove(g, rec); err != nil {
		return advisory.New("registration-write", "remove the registration", err)
	}
	return nil
}

func remove(g state.Gateway, rec record) error {
	if rec.Active {
		path := activePath(g)
		if active, err := readActive(path); err == nil && active == g.Name {
			if err := state.RemoveIfExists(path); err != nil {
				return err
			}
		}
	}
	if err := removeFiles(rec); err != nil {
		return err
	}
	return state.RemoveIfExists(g.File(state.RegistrationFile))
}

// removeFiles removes the registration that a record describes, if it still is
// ours, and then the directories that Creel made.
func removeFiles(rec record) error {
	if rec.Directory == "" {
		return nil
	}
	f, err := look(rec.Directory)
	if err != nil && !errors.Is(err, errOther) {
		return err
	}
	if err == nil && f.exists && rec.ours(rec.Directory, f) {
		// Backwards: a registration without metadata is none, however far this gets.
		for _, name := range slices.Backward(names()) {
			if err := state.RemoveIfExists(filepath.Join(rec.Directory, name)); err != nil {
				return err
			}
		}
		sweep(rec.Directory)
		// rmdir and not os.Remove, which would also take a link or a file that
		// somebody put there. A directory that holds something stays.
		for _, dir := range []string{filepath.Join(rec.Directory, state.MTLSDir), rec.Directory} {
			_ = syscall.Rmdir(dir)
		}
	}
	for _, dir := range slices.Backward(rec.Made) {
		_ = syscall.Rmdir(dir) // likewise
	}
	return nil
}
