//go:build !unix

package cli

import "os"

// watchSize never reports: this system has no signal for it.
func watchSize(*os.File) (<-chan [2]int, func()) { return nil, func() {} }
