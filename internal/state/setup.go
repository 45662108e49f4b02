package state

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// SetUp reports whether anything of the gateway is on disk: its desired state, or in
// its directory more than what is left by a command that found nothing (locks that
// nobody holds, logs). An error says that it could not be told.
func (g Gateway) SetUp() (bool, error) {
	if _, err := os.Lstat(g.Desired()); !errors.Is(err, fs.ErrNotExist) {
		return err == nil, err
	}
	return g.holdsMoreThan()
}

// Begun reports whether the gateway has come to be: whether its directory holds more
// than what is prepared for one of any runtime (bootstrap secrets, the journal). An
// error says that it could not be told.
func (g Gateway) Begun() (bool, error) {
	return g.holdsMoreThan(JournalFile, TLSDir, JWTDir, BackupDir)
}

// holdsMoreThan reports whether the gateway's directory holds anything else than these
// entries, logs, and locks that nobody holds.
func (g Gateway) holdsMoreThan(these ...string) (bool, error) {
	entries, err := os.ReadDir(g.Dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case name == LockFile, strings.HasPrefix(name, GatewayLogFile), slices.Contains(these, name):
		case name == DaemonLockFile:
			if held, _, err := Held(g.File(name)); held || err != nil {
				return held, err
			}
		default:
			return true, nil
		}
	}
	return false, nil
}
