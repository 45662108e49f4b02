package state

import (
	"errors"
	"io/fs"
	"os"
	"strings"
)

// SetUp reports whether anything of the gateway is on disk: its desired state, or in
// its directory more than what is left by a command that found nothing (locks that
// nobody holds, logs). An error says that it could not be told.
func (g Gateway) SetUp() (bool, error) {
	if _, err := os.Lstat(g.Desired()); !errors.Is(err, fs.ErrNotExist) {
		return err == nil, err
	}
	entries, err := os.ReadDir(g.Dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case name == LockFile, strings.HasPrefix(name, GatewayLogFile):
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
