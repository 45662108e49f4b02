//go:build !linux

package supervisor

// releaseProgram does nothing here: supervisors run on Linux.
func releaseProgram() error { return nil }
