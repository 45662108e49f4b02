package k3s

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/credential"
	"creel/internal/gateway"
	"creel/internal/host/engine"
)

// Stop stops the container, with everything that runs in it, and returns when it
// has ended. A container that is missing or does not run is left as it is, one that
// cannot be seen is an error, and so is one that is missing here while its gateway
// answers: another engine runs it.
func (r *Runtime) Stop(ctx context.Context, report gateway.Progress) error {
	if report == nil {
		report = func(string) {}
	}
	box, there, err := r.look(ctx)
	switch there {
	case unseen:
		return fmt.Errorf("stop gateway %s: %w", r.cfg.Gateway.Name, err)
	case missing:
		if o := r.observe(ctx, nil); o.decision == reuseWarned {
			return r.elsewhere("stop gateway "+r.cfg.Gateway.Name, o.Endpoint)
		}
		report("gateway " + r.cfg.Gateway.Name + " is not running")
		return nil
	case stopped:
		report("gateway " + r.cfg.Gateway.Name + " is not running")
		return nil
	}
	message := "stopping container " + box.Name
	if names, err := r.Housed(ctx); err == nil && len(names) > 0 {
		message += ", and with it sandbox " + strings.Join(names, ", sandbox ")
	}
	report(message)
	if err := r.cfg.Engine.Stop(ctx, box.Name, budget.Of(budget.GatewayStop)); err != nil {
		if _, known := advisory.Of(err); known || ctx.Err() != nil {
			return fmt.Errorf("stop gateway %s: %w", r.cfg.Gateway.Name, err)
		}
		return advisory.New("gateway-stop-failed", "stop gateway "+r.cfg.Gateway.Name, err)
	}
	return nil
}

// Logs writes the last lines of what the container's main program wrote.
func (r *Runtime) Logs(ctx context.Context, w io.Writer, lines int, follow bool) error {
	clean := &redacting{w: w}
	err := r.cfg.Engine.Logs(ctx, r.cfg.Container, engine.LogOptions{Lines: lines, Follow: follow}, clean)
	if flushed := clean.flush(); err == nil {
		err = flushed
	}
	if p, ok := advisory.Of(err); ok && p.ID == "container-missing" {
		return r.whyNot(missing, nil)
	}
	return err
}

// longest is how much of a line without an end is kept before it is written.
const longest = 64 << 10

// redacting takes what looks like a secret out of whole lines.
type redacting struct {
	w    io.Writer
	line bytes.Buffer
}

// Write implements io.Writer.
func (r *redacting) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		r.line.Write(line)
		if rest = after; ended {
			r.line.WriteByte('\n')
		}
		if ended || r.line.Len() > longest {
			if err := r.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

func (r *redacting) flush() error {
	if r.line.Len() == 0 {
		return nil
	}
	_, err := io.WriteString(r.w, credential.Redact(r.line.String()))
	r.line.Reset()
	return err
}
