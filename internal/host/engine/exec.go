package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"creel/internal/advisory"
)

// defaultLimit is more than a program that is asked a question says.
const defaultLimit = 1 << 20

// Command is a program to be run in a container.
type Command struct {
	// Args is the program and its arguments. Engines log them and everybody on the
	// machine can read them: they hold no secret.
	Args []string
	// Stdin is what the program reads; it sees the end of it.
	Stdin []byte
	// Limit is how many bytes of standard output, and of standard error, may come;
	// 0 is 1 MiB.
	Limit int
}

// Result is what a program did that ran to its end.
type Result struct {
	Stdout, Stderr []byte
	ExitCode       int
}

// ErrTooMuch is in the chain of the error about a program that said more than
// its limit. What it did is not known.
var ErrTooMuch = errors.New("its output is larger than allowed")

// Exec runs a program in a container and waits for its end. An error means that
// it is not known whether it ran, except for those with the advisories
// container-missing, container-not-running and container-program-missing: then
// it did not. A context that ends does not end the program, which no engine
// allows; give the program a limit of its own.
func (e *Engine) Exec(ctx context.Context, name string, c Command) (Result, error) {
	operation := fmt.Sprintf("run %s in container %s", c.Args[0], name)
	conn, err := e.connect(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", operation, err)
	}
	created, err := conn.client.ExecCreate(ctx, name, client.ExecCreateOptions{
		AttachStdin: c.Stdin != nil, AttachStdout: true, AttachStderr: true, Cmd: c.Args})
	if err != nil {
		return Result{}, e.refused(ctx, conn, name, operation, err)
	}
	attached, err := conn.client.ExecAttach(ctx, created.ID, client.ExecAttachOptions{})
	if err != nil {
		return Result{}, e.refused(ctx, conn, name, operation, err)
	}
	result, err := converse(ctx, attached.HijackedResponse, c)
	if err != nil {
		if errors.Is(err, ErrTooMuch) {
			return Result{}, fmt.Errorf("%s: %w", operation, err)
		}
		return Result{}, e.refused(ctx, conn, name, operation, err)
	}
	ended, err := e.ended(ctx, conn, created.ID)
	if err != nil {
		return Result{}, e.refused(ctx, conn, name, operation, err)
	}
	result.ExitCode = ended.ExitCode
	if neverStarted(ended, result) {
		return Result{}, advisory.New("container-program-missing", operation+": "+firstLine(result), nil,
			conn.place.program()+" inspect "+name)
	}
	return result, nil
}

// converse writes the input, reads both outputs and returns when the engine has
// closed the connection, which it does when the program has ended.
func converse(ctx context.Context, h client.HijackedResponse, c Command) (Result, error) {
	stop := context.AfterFunc(ctx, h.Close)
	written := make(chan struct{})
	defer func() {
		stop()
		h.Close()
		<-written
	}()
	go func() {
		defer close(written)
		// A program that ends without having read everything says why itself.
		if _, err := h.Conn.Write(c.Stdin); err == nil {
			_ = h.CloseWrite()
		}
	}()
	limit := c.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	stdout, stderr := bounded{left: limit}, bounded{left: limit}
	_, err := stdcopy.StdCopy(&stdout, &stderr, h.Reader)
	// An engine that closes without having read all of the input resets the
	// connection, after what was on its way. Whether the program came to its end
	// is asked separately.
	if errors.Is(err, syscall.ECONNRESET) {
		err = nil
	}
	if err = cause(ctx, err); err != nil {
		return Result{}, err
	}
	return Result{Stdout: stdout.b.Bytes(), Stderr: stderr.b.Bytes()}, nil
}

type bounded struct {
	b    bytes.Buffer
	left int
}

func (w *bounded) Write(p []byte) (int, error) {
	if len(p) > w.left {
		return 0, ErrTooMuch
	}
	w.left -= len(p)
	return w.b.Write(p)
}

// ended waits until the engine has taken note of a program's end: the connection
// is closed a moment before.
func (e *Engine) ended(ctx context.Context, c *connection, id string) (client.ExecInspectResult, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := c.client.ExecInspect(ctx, id, client.ExecInspectOptions{})
		if err != nil || !r.Running {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// neverStarted: engines report a program that cannot be run like one that ended
// with a shell's code for that, and with the runtime's words for its output.
// Podman forgets the process id of what has run, so that alone says nothing.
func neverStarted(ended client.ExecInspectResult, r Result) bool {
	said := func(b []byte) bool { return bytes.Contains(b, []byte("OCI ")) }
	return (ended.ExitCode == 126 || ended.ExitCode == 127) && ended.PID == 0 && (said(r.Stdout) || said(r.Stderr))
}

func firstLine(r Result) string {
	text := strings.TrimSpace(string(r.Stdout) + "\n" + string(r.Stderr))
	line, _, _ := strings.Cut(text, "\n")
	if line == "" {
		return "it cannot be run there"
	}
	return strings.TrimSpace(line)
}

// refused finds out why the engine did not run a program: mostly because of the
// container.
func (e *Engine) refused(ctx context.Context, c *connection, name, operation string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", operation, context.Cause(ctx))
	}
	if client.IsErrConnectionFailed(err) {
		return e.failed(ctx, operation, err)
	}
	found, inspected := e.container(ctx, c, name)
	switch {
	case inspected != nil:
		return e.failed(ctx, operation, errors.Join(err, inspected))
	case found.State == Missing:
		return advisory.New("container-missing", operation+": there is no such container at "+c.place.Host, nil,
			c.place.program()+" ps --all")
	case found.State == NotRunning:
		next := "start"
		if found.Status == "paused" {
			next = "unpause"
		}
		return advisory.New("container-not-running", operation+": the container is "+found.Status, nil,
			c.place.program()+" ps --all", c.place.program()+" "+next+" "+name)
	case errdefs.IsNotFound(err), errors.Is(err, io.EOF):
		// The container was started again in between, and the program went with it.
		return fmt.Errorf("%s: the container was restarted: %w", operation, err)
	}
	return e.failed(ctx, operation, err)
}
