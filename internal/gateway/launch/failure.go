package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"creel/internal/budget"
	"creel/internal/credential"
	"creel/internal/health"
	"creel/internal/host"
)

// FailureLines is how many lines of the log a failure shows.
const FailureLines = 20

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
	if rest := f.rest(); len(rest) > 0 {
		fmt.Fprintf(&b, "\nlast lines of %s:", f.LogPath)
		for _, l := range rest {
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

// rest are the lines of the log that do not repeat what the daemon said itself.
func (f *StartFailure) rest() []string {
	said, _, _ := strings.Cut(f.Said, "\n")
	if said == "" {
		return f.Log
	}
	quoted := strings.Trim(strconv.Quote(said), `"`)
	return slices.DeleteFunc(slices.Clone(f.Log), func(l string) bool { return strings.Contains(l, said) || strings.Contains(l, quoted) })
}

// Ended describes how a process ended before it became ready.
func Ended(ps *os.ProcessState) string {
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
	{regexp.MustCompile(`(?i)database (?:is|was written by) .{0,40}newer|migration .{0,60}(?:is )?missing in the resolved migrations|schema version .{0,40}newer`), "database-newer"},
	{regexp.MustCompile(`(?i)cannot connect to the docker daemon|docker\.sock.{0,80}(?:no such file|refused|denied)|error trying to connect.{0,80}docker`), "gateway-docker-unreachable"},
	{regexp.MustCompile(`(?i)\bCDI\b.{0,120}(?:error|fail|unresolvable|invalid|not found)|(?:error|fail|unresolvable).{0,120}\bCDI\b`), "gateway-cdi"},
	{regexp.MustCompile(`(?i)no space left on device`), "disk-full"},
	{regexp.MustCompile(`(?i)read-only file system`), "disk-read-only"},
	{regexp.MustCompile(`(?i)exec format error`), "gateway-executable-broken"},
	{regexp.MustCompile(`(?i)permission denied`), "state-permission"},
	{regexp.MustCompile(`(?m)^(?:panic:|fatal error:)`), "gateway-crashed"},
}

// Diagnose chooses the advisory of a failed start by what was logged.
func Diagnose(log []string) string {
	text := strings.Join(log, "\n")
	for _, t := range tellTales {
		if t.shape.MatchString(text) {
			return t.id
		}
	}
	return StartFailed
}

// StartFailed is the advisory of a start that failed for no reason that shows.
const StartFailed = "gateway-start-failed"

func expired(err error) bool {
	var e *budget.Expired
	return errors.As(err, &e)
}

var glibcNeeded = regexp.MustCompile(`version .?GLIBC_([0-9.]+).? not found`)

// explainGLIBC says which C library the executable needs, and which is here.
func (f *StartFailure) explainGLIBC(written string) {
	var needed []string
	for _, m := range glibcNeeded.FindAllStringSubmatch(written, -1) {
		if !slices.Contains(needed, m[1]) {
			needed = append(needed, m[1])
		}
	}
	if len(needed) == 0 {
		return
	}
	f.Ended += "; it needs GLIBC " + strings.Join(needed, ", ")
	if have := host.GLIBC(); have != "" {
		f.Ended += ", this machine has " + have
	} else {
		f.Ended += ", which of it this machine has could not be told"
	}
}

// LastLines are the last n non-blank lines, printable, redacted and bounded in width.
func LastLines(content string, n int) []string {
	const width = 500
	var all []string
	for line := range strings.Lines(content) {
		line = strings.TrimRight(credential.Redact(line), " \t\n")
		if strings.TrimSpace(line) == "" {
			continue
		}
		if r := []rune(line); len(r) > width {
			line = string(r[:width]) + "…"
		}
		all = append(all, line)
	}
	return all[max(0, len(all)-n):]
}

// ReadFrom is what was written to the log since offset, at most its last part;
// a log that became shorter was rotated and is read whole.
func ReadFrom(path string, offset int64) string {
	const most = 256 << 10
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return ""
	}
	if fi.Size() < offset {
		offset = 0
	}
	b, _ := io.ReadAll(io.NewSectionReader(f, max(offset, fi.Size()-most), most))
	return string(b)
}
