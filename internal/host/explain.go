package host

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"creel/internal/advisory"
	"creel/internal/state"
)

// Explain gives an error about a file its advisory: a full or read-only disk, a
// missing permission, a file where a directory should be, a socket path that is
// too long. Other errors, and those that carry an advisory already, stay as
// they are. path is named in the detail.
func Explain(err error, path string) error {
	if err == nil {
		return nil
	}
	if _, ok := advisory.Of(err); ok {
		return err
	}
	var notDirectory *state.NotDirectory
	switch {
	case errors.As(err, &notDirectory):
		return advisory.New("state-not-directory", fmt.Sprintf("%s cannot be used", notDirectory.What), err).At(path)
	case errors.Is(err, syscall.ENOTDIR):
		return advisory.New("state-not-directory", fmt.Sprintf("%s leads through a file", path), err).At(path)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return advisory.New("disk-full", fmt.Sprintf("no space is left for %s", path), err).At(path)
	case errors.Is(err, syscall.EROFS):
		return advisory.New("disk-read-only", fmt.Sprintf("%s is on a read-only file system", path), err).At(path)
	case errors.Is(err, fs.ErrPermission):
		return advisory.New("state-permission", fmt.Sprintf("%s may not be used by this user", path), err).At(path)
	}
	return err
}

// CheckSocketPath reports a Unix socket path that the kernel would refuse, with
// its advisory.
func CheckSocketPath(path string) error {
	if err := state.CheckSocketPath(path); err != nil {
		return advisory.New("socket-path-too-long", "the gateway's socket cannot be made", err)
	}
	return nil
}
