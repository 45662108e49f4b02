package launch

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"creel/internal/advisory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDiagnose(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"creel: /lib/libc.so.6: version `GLIBC_2.39' not found", "gateway-glibc"},
		{"creel: error while loading shared libraries: libfoo.so.1", "gateway-library-missing"},
		{"listen tcp 127.0.0.1:1: bind: address already in use", "port-in-use"},
		{"write gateway.db: no space left on device", "disk-full"},
		{"open gateway.db: read-only file system", "disk-read-only"},
		{"fork/exec creel: exec format error", "gateway-executable-broken"},
		{"open /x: permission denied", "state-permission"},
		{"Error: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", "gateway-docker-unreachable"},
		{"dial unix /var/run/docker.sock: connect: permission denied", "gateway-docker-unreachable"},
		{"could not select device driver: CDI spec: unresolvable device nvidia.com/gpu=all", "gateway-cdi"},
		{"Error: migration 5 was previously applied but is missing in the resolved migrations", "database-newer"},
		{"panic: runtime error", "gateway-crashed"},
		{"level=INFO msg=\"recovered from panic: x\"", "gateway-start-failed"},
		{"", "gateway-start-failed"},
	} {
		got := Diagnose([]string{"gateway starts", c.line})
		if got != c.want {
			t.Errorf("Diagnose(%q) = %s, want %s", c.line, got, c.want)
		}
		if _, known := advisory.Lookup(got); !known {
			t.Errorf("advisory %s is not in the registry", got)
		}
	}
}

// What a process wrote neither drives the terminal of who reads why it failed, nor
// hides a secret from the redaction.
func TestLastLinesArePrintable(t *testing.T) {
	got := LastLines("\x1b[31m\x1b[0m\n\x1b]0;title\x07no\x08 pass\x1b[1mword=hunter2hunter2\n", 5)
	if len(got) != 1 || !strings.HasPrefix(got[0], "no\uFFFD password=") || strings.Contains(got[0], "hunter2") {
		t.Errorf("%q", got)
	}
}

func TestLastLines(t *testing.T) {
	var content string
	for i := range 30 {
		content += fmt.Sprintf("line %d  \r\n \n", i)
	}
	got := LastLines(content+strings.Repeat("x", 1000)+"\xff", FailureLines)
	if len(got) != FailureLines || got[0] != "line 11" || len([]rune(got[FailureLines-1])) != 501 {
		t.Errorf("lastLines = %d lines, first %q, last %.20q", len(got), got[0], got[len(got)-1])
	}
}

// What the daemon said is not said again by what it wrote.
func TestFailureSaysItOnce(t *testing.T) {
	f := &StartFailure{Ended: "exited with code 1", Said: `open "x": no`, LogPath: "gateway.log",
		Log: []string{"gateway starts", `level=ERROR error="open \"x\": no"`, `error: open "x": no`}}
	if got, want := f.Error(), "exited with code 1: open \"x\": no\nlast lines of gateway.log:\n  | gateway starts"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
