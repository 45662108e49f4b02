package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"creel/internal/agent/websearch"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/sandbox"
)

// WebSearch examines whether the web search that the agent of spec is configured
// with will be used. It returns nil for an agent of which that is not known.
func WebSearch(spec sandbox.Spec) Examination {
	name := spec.Agent
	if _, known := websearch.Path(name); !known && len(spec.Command) > 0 {
		name = path.Base(spec.Command[0])
	}
	file, known := websearch.Path(name)
	if !known {
		return nil
	}
	return func(ctx context.Context, c gateway.Client, in gateway.Inspection) []health.Evidence {
		began := time.Now()
		content, err := readInside(ctx, c, in.ID, file)
		f := websearch.Check(name, content, err)
		e := health.Evidence{Probe: "web search, as ~/" + file + " says", Answer: f.Message, Took: health.Micros(time.Since(began))}
		switch f.State {
		case websearch.Enabled, websearch.NotConfigured:
			e.Verdict = health.OK
		case websearch.NotEnabled:
			e.Verdict = health.Failed
		}
		return []health.Evidence{e}
	}
}

// readInside reads a file of the sandbox's home directory.
func readInside(ctx context.Context, c gateway.Client, id, file string) ([]byte, error) {
	ctx, cancel := budget.Context(ctx, budget.Probe, "read ~/"+file)
	defer cancel()
	out, said := &capped{limit: websearch.MaxSize + 1}, &capped{limit: 4 << 10}
	code, err := c.Exec(ctx, gateway.Exec{SandboxID: id, Command: []string{"/bin/sh", "-c", `exec cat -- "$HOME/$1"`, "sh", file},
		Timeout: budget.Of(budget.Probe), Stdout: out, Stderr: said})
	switch {
	case err != nil:
		return nil, err
	case code != 0:
		line, _, _ := strings.Cut(strings.TrimSpace(said.kept.String()), "\n")
		return nil, errors.New(orElse(line, fmt.Sprintf("cat exited with code %d", code)))
	}
	return out.kept.Bytes(), nil
}

// capped keeps the first bytes of what is written and drops the rest, so that
// nothing inside a sandbox can make this process grow.
type capped struct {
	kept  bytes.Buffer
	limit int
}

func (c *capped) Write(p []byte) (int, error) {
	if room := c.limit - c.kept.Len(); room > 0 {
		c.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
