package confine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"creel/internal/advisory"
	"creel/internal/sandbox"
)

// stageVariable tells a "confine" process which part it plays. It is the only
// variable such a process is started with beside PATH.
const stageVariable = "CREEL_CONFINE_STAGE"

const (
	stagePrepare = "prepare" // inside new namespaces, not yet confined
	stageServe   = "serve"   // the confined first process
	stageProbe   = "probe"   // tries what works and says so
)

// Descriptors that a "confine" process inherits.
const (
	controlFD = 3
	planFD    = 4
)

// plan is what a Box's first process is told, on planFD.
type plan struct {
	Profile Profile      `json:"profile"`
	Tier    sandbox.Tier `json:"tier"` // chosen: never TierAuto
	Grants  []grant      `json:"grants"`
	Masks   []string     `json:"masks"` // directories to cover with nothing
	// DropTo is set when the programs are another user outside than the caller.
	DropTo bool `json:"drop_to"`
}

// Main is the "confine" subcommand: the stages of a Box's first process. It is
// only ever started by Start and Probe.
func Main(ctx context.Context) int {
	switch os.Getenv(stageVariable) {
	case stagePrepare:
		return prepare()
	case stageServe:
		return serve(ctx)
	case stageProbe:
		return probeStage()
	}
	fmt.Fprintln(os.Stderr, "creel confine is started by a sandbox's supervisor, not by hand")
	return 2
}

// prepare builds the private root, gives up every privilege on one thread, and
// executes this program again from that thread: execve keeps the credentials,
// Landlock domain and seccomp filter of the calling thread and ends all others.
func prepare() int {
	runtime.LockOSThread()
	err := prepareAndExec()
	var errno unix.Errno
	errors.As(err, &errno)
	id := "confinement-failed"
	if p, ok := advisory.Of(err); ok {
		id = p.ID
	}
	if b, jsonErr := json.Marshal(event{Error: err.Error(), Errno: errno, Advisory: id}); jsonErr == nil {
		// Without the socket nobody waits for the reason.
		_, _ = unix.SendmsgN(controlFD, b, nil, nil, 0)
	}
	return 1
}

func prepareAndExec() error {
	p, err := readPlan()
	if err != nil {
		return err
	}
	// Nothing but the five descriptors survives the exec, whatever was inherited.
	if err := unix.CloseRange(planFD+1, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("mark inherited descriptors: %w", err)
	}
	executable := ExecutablePath
	switch p.Tier {
	case sandbox.TierNamespaces:
		if err := buildRoot(p); err != nil {
			return fmt.Errorf("build the private root: %w", err)
		}
	default:
		// The path may be closed to the user this becomes; the link is not.
		executable = "/proc/self/exe"
	}
	if err := restrict(p); err != nil {
		return err
	}
	return fmt.Errorf("execute %s: %w", executable,
		unix.Exec(executable, []string{"creel", "confine"}, []string{"PATH=" + defaultPath, stageVariable + "=" + stageServe}))
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// readPlan reads planFD from its beginning: both stages read it.
func readPlan() (plan, error) {
	b, err := io.ReadAll(io.NewSectionReader(descriptor(planFD), 0, 1<<24))
	if err != nil {
		return plan{}, fmt.Errorf("read the plan: %w", err)
	}
	return decodePlan(b)
}

// descriptor reads an open file by its number. Unlike an *os.File that nobody
// holds any more it is never closed by the garbage collector: the next stage
// inherits the number, and must not find another file under it.
type descriptor int

func (d descriptor) ReadAt(p []byte, offset int64) (int, error) {
	n, err := unix.Pread(int(d), p, offset)
	switch {
	case err != nil:
		return 0, err
	case n < len(p):
		return n, io.EOF
	}
	return n, nil
}

func decodePlan(b []byte) (plan, error) {
	var p plan
	if err := json.Unmarshal(b, &p); err != nil {
		return plan{}, fmt.Errorf("parse the plan: %w", err)
	}
	return p, nil
}
