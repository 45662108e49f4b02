package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"creel/internal/advisory"
	"creel/internal/budget"
)

// Start starts a container that exists. One that runs is left as it is.
func (e *Engine) Start(ctx context.Context, name string) error {
	operation := "start container " + name
	c, err := e.connect(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	ctx, cancel := budget.Context(ctx, budget.Operation, operation)
	defer cancel()
	if _, err := c.client.ContainerStart(ctx, name, client.ContainerStartOptions{}); err != nil {
		return e.unchanged(ctx, c, name, operation, err)
	}
	return nil
}

// Stop asks a container's main program to end, has it killed when it has not after
// grace, and returns when it has ended. One that does not run is left as it is.
func (e *Engine) Stop(ctx context.Context, name string, grace time.Duration) error {
	operation := "stop container " + name
	c, err := e.connect(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	caller := ctx
	// The engine needs a while of its own after the kill.
	limit := grace + budget.Of(budget.Operation)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, &budget.Expired{Budget: budget.Operation, Limit: limit, Operation: operation})
	defer cancel()
	seconds := int(math.Ceil(grace.Seconds()))
	if _, err := c.client.ContainerStop(ctx, name, client.ContainerStopOptions{Timeout: &seconds}); err != nil {
		return e.unchanged(ctx, c, name, operation, err)
	}
	// Podman answers when the program has ended and its own records may lag.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		found, err := e.container(ctx, c, name)
		if err != nil {
			return err
		}
		if found.State == Missing || found.State == NotRunning && found.Status != "stopping" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", operation, cause(caller, context.Cause(ctx)))
		}
	}
}

// unchanged says why the engine did not start or stop a container.
func (e *Engine) unchanged(ctx context.Context, c *connection, name, operation string, err error) error {
	if ctx.Err() == nil && errdefs.IsNotFound(err) && noSuchContainer(err) {
		return advisory.New("container-missing", operation+": there is no such container at "+c.place.Host, nil,
			c.place.program()+" ps --all")
	}
	if ctx.Err() == nil && !client.IsErrConnectionFailed(err) {
		// The engine answered: it was able, and would not.
		return advisory.New("container-refused", operation, err, c.place.program()+" inspect "+name, c.place.program()+" logs --tail 50 "+name)
	}
	return e.failed(ctx, operation, err)
}

// Exited waits until a container's main program ends and returns its exit code. An
// error means that nobody was told: it may run or not.
func (e *Engine) Exited(ctx context.Context, id string) (code int, err error) {
	operation := "wait for the end of container " + id
	c, err := e.connect(ctx)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", operation, err)
	}
	w := c.client.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case r := <-w.Result:
		if r.Error != nil {
			return 0, e.failed(ctx, operation, errors.New(r.Error.Message))
		}
		return int(r.StatusCode), nil
	case err := <-w.Error:
		return 0, e.failed(ctx, operation, err)
	case <-ctx.Done():
		return 0, fmt.Errorf("%s: %w", operation, context.Cause(ctx))
	}
}
