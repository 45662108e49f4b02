//go:build !linux

package embedded

import (
	"errors"
	"os"
)

// Creel's daemon runs on Linux only; these stand-ins let the command line build
// elsewhere.

func reflink(*os.File, *os.File) error { return errors.ErrUnsupported }

func followStandardStreams(bool) func(*os.File) error { return nil }
