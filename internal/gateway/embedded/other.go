//go:build !linux

package embedded

import "os"

// Creel's daemon runs on Linux only; this stand-in lets the command line build
// elsewhere.

func followStandardStreams(bool) func(*os.File) error { return nil }
