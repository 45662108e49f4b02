package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"creel/internal/advisory"
)

// LogOptions say what of a container's log is wanted.
type LogOptions struct {
	// Lines is how many of the last ones; 0 is all.
	Lines int
	// Follow goes on until the context ends, which is no error, or the container
	// does.
	Follow bool
}

// Logs writes what a container's main program wrote, to both of its outputs, to w.
// It works for a container that has ended.
func (e *Engine) Logs(ctx context.Context, name string, o LogOptions, w io.Writer) error {
	operation := "read the log of container " + name
	c, err := e.connect(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	found, err := e.container(ctx, c, name)
	if err != nil {
		return err
	}
	if found.State == Missing {
		return advisory.New("container-missing", operation+": there is no such container at "+c.place.Host, nil, c.place.program()+" ps --all")
	}
	tail := "all"
	if o.Lines > 0 {
		tail = strconv.Itoa(o.Lines)
	}
	stream, err := c.client.ContainerLogs(ctx, name, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: o.Follow, Tail: tail})
	if err == nil {
		err = errors.Join(separate(w, stream, found.Terminal), stream.Close())
	}
	switch {
	case err == nil, o.Follow && ctx.Err() != nil:
		return nil
	case ctx.Err() == nil && (errdefs.IsNotImplemented(err) || errdefs.IsInvalidArgument(err)):
		// A container may be made with a log driver that nothing can be read from.
		return advisory.New("gateway-log-missing", operation, err)
	}
	return e.failed(ctx, operation, err)
}

// separate takes the frames away in which an engine sends two outputs over one
// connection. A terminal has one output, and no frames.
func separate(w io.Writer, stream io.Reader, terminal bool) error {
	if terminal {
		_, err := io.Copy(w, stream)
		return err
	}
	_, err := stdcopy.StdCopy(w, w, stream)
	return err
}
