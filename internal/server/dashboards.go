package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/dashboard/forward"
	"creel/internal/dashboard/preface"
	"creel/internal/sandbox"
	"creel/internal/server/relay"
	"creel/internal/server/store"
)

// keepForward binds the dashboard's listener when it should be and is not, and
// records the port so that it is the same after a restart.
func (d *daemon) keepForward(ctx context.Context, e *entry) {
	e.binding.Lock()
	defer e.binding.Unlock()
	e.mu.Lock()
	bound := e.forward != nil
	e.mu.Unlock()
	if bound {
		return
	}
	// Read here, so that who comes after a change never binds what was before it.
	o, err := d.store.Sandboxes.ByID(ctx, e.id)
	if err != nil {
		return // the reconciler reads it again, and says so
	}
	want := o.Value.Spec.Dashboard
	if want.TargetPort == 0 || o.Value.Deleting || o.Value.Wanted != sandbox.Running {
		return
	}
	f, err := forward.Listen(ctx, forward.Wanted{Bind: want.Bind, Port: want.Port, Explicit: want.PortExplicit,
		Last: o.Value.DashboardPort}, func(ctx context.Context, outside net.Conn) (net.Conn, error) {
		return d.openDashboard(ctx, e, want, outside)
	}, d.log)
	e.mu.Lock()
	if err != nil {
		e.unbound = err.Error()
		e.mu.Unlock()
		return
	}
	e.forward, e.unbound = f, ""
	e.mu.Unlock()
	if f.Port() != o.Value.DashboardPort {
		_, err := d.store.Sandboxes.Change(ctx, e.id, func(o *store.Object[store.Sandbox]) error {
			o.Value.DashboardPort = f.Port()
			return nil
		})
		if err != nil {
			d.log.Warn("record dashboard port", slog.String("sandbox", e.name), slog.Any("error", err))
		}
	}
	e.feed.AppendEvent(&openshellv1.PlatformEvent{TimestampMs: time.Now().UnixMilli(), Source: "gateway", Type: "Normal",
		Reason: "dashboard-bound", Message: fmt.Sprintf("dashboard is bound to port %d", f.Port())})
}

// openDashboard reaches the agent for a connection from outside, and introduces it
// to an agent that listens to that.
func (d *daemon) openDashboard(ctx context.Context, e *entry, want sandbox.Dashboard, outside net.Conn) (net.Conn, error) {
	inside, err := d.hub.Open(ctx, e.id, relay.Target{Port: e.agentPort(want.TargetPort)})
	if err != nil || !want.Preface {
		return inside, err
	}
	if err := preface.Write(inside, outside.RemoteAddr(), outside.LocalAddr(), want.Access); err != nil {
		return nil, errors.Join(err, inside.Close())
	}
	return inside, nil
}

func (d *daemon) closeForward(e *entry) {
	e.binding.Lock()
	defer e.binding.Unlock()
	e.mu.Lock()
	f := e.forward
	e.forward, e.unbound = nil, ""
	e.mu.Unlock()
	if f != nil {
		if err := f.Close(); err != nil {
			d.log.Warn("close dashboard listener", slog.String("sandbox", e.name), slog.Any("error", err))
		}
	}
}

// agentPort is where the agent listens inside: as its supervisor says, which may
// differ from what was asked for when there is no network namespace.
func (e *entry) agentPort(wanted int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.report != nil && e.report.AgentPort > 0 {
		return e.report.AgentPort
	}
	return wanted
}
