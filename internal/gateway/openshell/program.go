package openshell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway/launch"
	"creel/internal/gateway/release"
)

// identity tells an executable from the one that was there before it, without
// reading it.
type identity struct {
	Path     string `json:"path"`
	Size     int64  `json:"size"`
	Modified int64  `json:"modified_ns"` // Unix time in nanoseconds
}

func identify(path string) (identity, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return identity{}, err
	}
	return identity{Path: path, Size: fi.Size(), Modified: fi.ModTime().UnixNano()}, nil
}

// mostOutput is what is read of a program that is asked for its version.
const mostOutput = 16 << 10

// askVersion asks the program for its version ("openshell-gateway 0.0.88"). A program
// that does not answer so is of no known version, "", which is no error. What cannot
// be run at all (another C library, another machine) is one: it would not start
// either, and this is found out before anything is stopped for it.
func askVersion(ctx context.Context, binary string, getenv func(string) string) (string, error) {
	ctx, cancel := budget.Context(ctx, budget.Probe, "ask "+binary+" for its version")
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "--version")
	cmd.Dir = "/"
	cmd.SysProcAttr = launch.OwnSession()
	for _, name := range []string{"PATH", "HOME"} {
		cmd.Env = append(cmd.Env, name+"="+getenv(name))
	}
	var out, said limited
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.WaitDelay = time.Second // for what it may have left behind with its output
	switch err := cmd.Run(); {
	case errors.Is(err, syscall.ENOEXEC):
		return "", advisory.New("gateway-executable-broken", binary+" cannot be run", err)
	case err != nil && cmd.Process == nil:
		return "", fmt.Errorf("run %s: %w", binary, err)
	case err != nil && ctx.Err() == nil:
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		switch id := launch.Diagnose(lines); id {
		case "gateway-glibc", "gateway-library-missing", "gateway-executable-broken":
			return "", advisory.New(id, binary+" cannot be run", errors.New(lines[0]))
		}
		return "", nil
	case err != nil:
		return "", nil
	}
	line, _, _ := strings.Cut(out.String(), "\n")
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != program {
		return "", nil
	}
	r, _ := release.Parse(words[1])
	return r.String(), nil
}

// limited keeps the beginning of what is written to it.
type limited struct{ b bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.b.Write(p[:min(len(p), mostOutput-l.b.Len())])
	return len(p), nil
}

func (l *limited) String() string { return l.b.String() }

var _ io.Writer = (*limited)(nil)
