package gateway

import (
	"context"
	"fmt"

	"creel/internal/health"
)

// Program is one build of a gateway.
type Program struct {
	Version    string // empty when it is not known
	BuildID    string // empty where the runtime has none
	Executable string
}

// Upgrade is what would be replaced by what.
type Upgrade struct {
	From Program // what runs or, when nothing does, ran last; zero when that is not known
	To   Program // what would be started now
	// Differs says why; empty when there is nothing to upgrade.
	Differs []string
	// Disturbs are the subjects that notice, e.g. "sandbox/demo".
	Disturbs []string
	// Notes are worth knowing beforehand.
	Notes []string
}

// UpgradeOptions are what only a person can decide.
type UpgradeOptions struct {
	// AllowDowngrade lets an older gateway at the database of a newer one.
	AllowDowngrade bool
}

// Upgrader is a Runtime that replaces its gateway so that there is a way back.
type Upgrader interface {
	Runtime
	// PlanUpgrade looks and changes nothing. The error is why it could not take place.
	PlanUpgrade(ctx context.Context, o UpgradeOptions) (Upgrade, error)
	// Upgrade replaces the gateway by what would be started now and returns when that
	// has proven healthy. When it does not, the old one is back with everything that
	// it had, which is an error of advisory gateway-upgrade-failed. Where nothing
	// differs nothing is done. Sandboxes of the embedded gateway go on.
	Upgrade(ctx context.Context, o UpgradeOptions, report Progress) error
}

// Disturber is a Runtime whose sandboxes notice that the gateway is stopped.
type Disturber interface {
	Runtime
	// Disturbed are the subjects that would notice now, e.g. "sandbox/demo".
	Disturbed(ctx context.Context) []string
}

// Disturbed are the subjects that notice when the gateway is stopped.
func Disturbed(ctx context.Context, r Runtime) []string {
	if d, ok := r.(Disturber); ok {
		return d.Disturbed(ctx)
	}
	return nil
}

// Startable is a Runtime that knows beforehand what a start would fail for.
type Startable interface {
	Runtime
	// Startable says why the gateway that would be started now could not come up, as far
	// as that shows while another one still runs; nil where nothing does. It may make
	// ready what a start needs; what runs is left alone.
	Startable(ctx context.Context) error
}

// Restart stops and starts a gateway, unless its runtime has another way. One that works and would be started otherwise
// than it runs is upgraded, so that there is a way back.
func Restart(ctx context.Context, r Runtime, report Progress) error {
	if own, ok := r.(Restarter); ok {
		return own.Restart(ctx, report)
	}
	if u, ok := r.(Upgrader); ok {
		if o := r.Observe(ctx); o.Verdict == health.OK && len(o.Drift) > 0 {
			return u.Upgrade(ctx, UpgradeOptions{}, report)
		}
	}
	if s, ok := r.(Startable); ok {
		if err := s.Startable(ctx); err != nil {
			return fmt.Errorf("nothing was stopped, because nothing could be started: %w", err)
		}
	}
	if err := r.Stop(ctx, report); err != nil {
		return err
	}
	return r.Start(ctx, report)
}
