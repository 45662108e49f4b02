package embedded

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"

	"creel/internal/credential"
	"creel/internal/health"
)

// failureLines is how many lines of the log a failure shows.
const failureLines = 20

// StartFailure is why a launched daemon did not come up: how it ended, what it
// left in the log and what was probed. It is the cause of the advisory that
// Start returns.
type StartFailure struct {
	Ended    string            // "exited with code 127 before becoming ready", or why it was ended
	Said     string            // its own error, empty when it said nothing
	Log      []string          // last non-blank lines it wrote, redacted
	LogPath  string            //
	Evidence []health.Evidence // empty when it never said that it was ready
	Cause    error             // may be nil
}

// Unwrap returns the cause.
func (f *StartFailure) Unwrap() error { return f.Cause }

// Error is the report in the order a reader needs it.
func (f *StartFailure) Error() string {
	var b strings.Builder
	b.WriteString(f.Ended)
	if f.Said != "" {
		b.WriteString(": " + f.Said)
	}
	if len(f.Log) > 0 {
		fmt.Fprintf(&b, "\nlast lines of %s:", f.LogPath)
		for _, l := range f.Log {
			b.WriteString("\n  | " + l)
		}
	}
	if len(f.Evidence) > 0 {
		b.WriteString("\nasked:")
		for _, e := range f.Evidence {
			fmt.Fprintf(&b, "\n  %-7s %s: %s", e.Verdict, e.Probe, e.Answer)
		}
	}
	return b.String()
}

// ended describes how a process ended before it became ready.
func ended(ps *os.ProcessState) string {
	if ps == nil {
		return "its end could not be observed"
	}
	if ws, ok := ps.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return fmt.Sprintf("killed by signal %d (%s) before becoming ready", int(ws.Signal()), ws.Signal())
	}
	return fmt.Sprintf("exited with code %d before becoming ready", ps.ExitCode())
}

// tellTales are log contents that name the cause of a start that failed.
var tellTales = []struct {
	shape *regexp.Regexp
	id    string
}{
	{regexp.MustCompile(`version .?GLIBC_[0-9.]+.? not found`), "gateway-glibc"},
	{regexp.MustCompile(`error while loading shared libraries`), "gateway-library-missing"},
	{regexp.MustCompile(`(?i)address already in use`), "port-in-use"},
	{regexp.MustCompile(`(?i)no space left on device`), "disk-full"},
	{regexp.MustCompile(`(?i)read-only file system`), "disk-read-only"},
	{regexp.MustCompile(`(?i)exec format error`), "gateway-executable-broken"},
	{regexp.MustCompile(`(?i)permission denied`), "state-permission"},
	{regexp.MustCompile(`(?m)^(?:panic:|fatal error:)`), "gateway-crashed"},
}

// diagnose chooses the advisory of a failed start by what was logged.
func diagnose(log []string) string {
	text := strings.Join(log, "\n")
	for _, t := range tellTales {
		if t.shape.MatchString(text) {
			return t.id
		}
	}
	return "gateway-start-failed"
}

// lastLines are the last n non-blank lines, redacted and bounded in width.
func lastLines(content string, n int) []string {
	const width = 500
	var all []string
	for line := range strings.Lines(content) {
		line = strings.TrimRight(line, " \t\r\n")
		if strings.TrimSpace(line) == "" {
			continue
		}
		line = strings.ToValidUTF8(credential.Redact(line), "?")
		if r := []rune(line); len(r) > width {
			line = string(r[:width]) + "…"
		}
		all = append(all, line)
	}
	return all[max(0, len(all)-n):]
}
