package k3s

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/host/engine"
)

// look asks the engine about the container. The error says why it is unseen.
func (r *Runtime) look(ctx context.Context) (engine.Container, presence, error) {
	ctx, cancel := budget.Context(ctx, budget.Probe, "ask the container engine about "+r.cfg.Container)
	defer cancel()
	box, err := r.cfg.Engine.Container(ctx, r.cfg.Container)
	if err != nil {
		return engine.Container{}, unseen, err
	}
	return box, presenceOf(box), nil
}

// lifeless are the engines' words for a container in which nothing runs and nothing
// is about to.
var lifeless = []string{"created", "configured", "initialized", "exited", "stopped", "dead"}

func presenceOf(box engine.Container) presence {
	switch {
	case box.State == engine.Missing:
		return missing
	case box.State == engine.Running:
		return running
	case slices.Contains(lifeless, box.Status):
		return stopped
	}
	return held
}

// how says how a container that does not run is, e.g. "exited (exit code 137,
// killed for want of memory)".
func how(box engine.Container) string {
	text := box.Status
	if box.StartedAt.IsZero() || box.Status == "paused" {
		return text
	}
	text += fmt.Sprintf(" (exit code %d", box.ExitCode)
	if box.OutOfMemory {
		text += ", killed for want of memory"
	}
	return text + ")"
}

// fault is why the gateway is not, or could not be seen to be, as it should be.
type fault struct {
	verdict health.Verdict
	reason  string // advisory id
	message string
	hints   []string
}

// problem is the fault as an error.
func (f *fault) problem(operation string) error {
	return advisory.New(f.reason, operation, errors.New(f.message), f.hints...)
}

// faultOf makes one of an error; reason is for an error without an advisory.
func faultOf(v health.Verdict, reason string, err error) *fault {
	f := &fault{verdict: v, reason: reason, message: err.Error()}
	if p, ok := advisory.Of(err); ok {
		f.reason, f.hints = p.ID, p.Commands()
	}
	return f
}

// whyNot is the error about a container that is missing or could not be seen.
func (r *Runtime) whyNot(there presence, err error) error {
	if there != missing {
		return err
	}
	return advisory.New("container-missing", fmt.Sprintf("there is no container %s, and Creel makes none", r.cfg.Container), nil,
		r.cfg.Engine.Program()+" ps --all", "creel onboard --gateway OTHER --runtime embedded", "openshell gateway start --name "+advisory.Quote(r.cfg.Gateway.Name))
}

// elsewhere is the refusal to work with a gateway that answers although this engine
// has no container of it.
func (r *Runtime) elsewhere(operation string, e gateway.Endpoint) error {
	asked := r.cfg.Engine.Program()
	return advisory.New("container-missing", fmt.Sprintf("%s: %s knows no container %s, and the gateway answers at %s: another engine runs it, that of another DOCKER_HOST or of another user, or podman",
		operation, asked, r.cfg.Container, e.URL()), nil, "docker ps --all", "podman ps --all", "docker context ls")
}

// notRunning is the refusal to work with a container that does not run.
func (r *Runtime) notRunning(operation string, box engine.Container) error {
	next := []string{"creel gateway start"}
	if box.Status == "paused" {
		next = []string{r.cfg.Engine.Program() + " unpause " + box.Name}
	} else if presenceOf(box) == held {
		next = []string{"creel gateway status", r.cfg.Engine.Program() + " logs --tail 50 " + box.Name}
	}
	return advisory.New("container-not-running", fmt.Sprintf("%s: container %s is %s", operation, box.Name, how(box)), nil, next...)
}
