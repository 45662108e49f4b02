package server

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"time"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/host"
	"creel/internal/sandbox"
	"creel/internal/server/reconcile"
	"creel/internal/server/store"
	"creel/internal/server/token"
)

const (
	// concurrentStarts is how many sandboxes start at a time when they can; none
	// waits longer than startQueue for its turn.
	concurrentStarts = 16
	startQueue       = 2 * time.Second
	// tokenRenewal is how old a sandbox's token gets before it is replaced, and
	// looseRenewal the same for a supervisor that cannot connect: its token may be
	// why.
	tokenRenewal = 6 * time.Hour
	looseRenewal = time.Minute
	// stable is how long a supervisor must live for its earlier failures to be
	// forgotten.
	stable = 30 * time.Second
	// storeRetry is the wait after the store could not be asked.
	storeRetry = 5 * time.Second
)

// effort is what the reconciler remembers of one sandbox between looks.
type effort struct {
	handle    *sandbox.Handle
	failures  int
	notBefore time.Time
	lastError string
	// lastReason is the advisory of lastError; empty without one.
	lastReason string
	// begun is when the last start succeeded; zero when it was judged already.
	begun time.Time
	// unprepared: the last look found it without a directory or a record to use.
	unprepared bool
	minted     time.Time // wall clock: a token ages while the machine sleeps, too
}

// reconcile looks after one sandbox until it is gone or the daemon ends. It is
// level-triggered: a nudge says "look", never what to do.
func (d *daemon) reconcile(ctx context.Context, e *entry) {
	var own effort
	for {
		again, gone := d.pass(ctx, e, &own)
		if gone {
			return
		}
		timer := time.NewTimer(again)
		select {
		case <-e.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// pass observes, decides and acts once.
func (d *daemon) pass(ctx context.Context, e *entry, own *effort) (again time.Duration, gone bool) {
	// Before the record is read: a wish that comes later is news to this look.
	asked, wish := e.takeAsked()
	o, err := d.store.Sandboxes.ByID(ctx, e.id)
	if errors.Is(err, store.ErrNotFound) {
		d.bereave(e)
		return 0, true
	}
	if err != nil {
		d.log.Error("read sandbox record", slog.String("sandbox", e.name), slog.Any("error", err))
		return storeRetry, false
	}
	if asked {
		own.forgive()
	}
	if err := d.prepare(ctx, own, o); err != nil {
		return d.unprepared(ctx, e, own, o, wish, err), false
	}
	if own.unprepared {
		own.forgive()
	}
	live := d.observe(ctx, own)
	if live.Known && !live.Alive {
		e.setReport(nil)
		if o.Value.TokenUntold && !o.Value.Deleting {
			d.forgetOldToken(ctx, own, &o)
		}
	}
	session := d.hub.Session(e.id)
	view := e.view()
	seen := reconcile.Observed{Wanted: o.Value.Wanted, Deleting: o.Value.Deleting, WasReady: o.Value.WasReady, Liveness: live, Outdated: o.Value.TokenUntold,
		Connected: session != nil, Unconnected: e.connection(live.Alive, session != nil, time.Now()), Report: view.Report,
		RetryIn: time.Until(own.notBefore), LastError: own.lastError}
	decision := reconcile.Decide(seen)
	if ctx.Err() != nil { // the observation may only say that this daemon is ending
		return 0, false
	}
	reason := ""
	if decision.Phase == sandbox.Error && !live.Alive {
		reason = own.lastReason
	}
	if !d.note(ctx, e, wish, decision.Phase, decision.Message, reason) {
		return 0, false // somebody wants something else by now
	}
	d.keepListeners(ctx, e, maintain)
	if live.Alive && !own.begun.IsZero() && time.Since(own.begun) >= stable {
		own.forgive()
	}
	if live.Alive && decision.Act == reconcile.Wait {
		d.renew(ctx, e, own, session == nil)
	}
	return d.act(ctx, e, own, o, decision)
}

// prepare makes the sandbox's directories, or finds them.
func (d *daemon) prepare(ctx context.Context, own *effort, o store.Object[store.Sandbox]) error {
	if own.handle == nil {
		own.handle = d.handleOnDisk(o.ID)
	}
	if own.handle != nil && (o.Value.Deleting || reflect.DeepEqual(own.handle.Spec, o.Value.Spec)) {
		return nil
	}
	if o.Value.Deleting { // what was removed is not made again to be removed
		own.handle = d.bareHandle(o)
		handles, _ := d.cfg.Driver.Handles(ctx) // one that cannot be read has to go all the same
		for _, h := range handles {
			if h.ID == o.ID {
				own.handle = &h
			}
		}
		return nil
	}
	ctx, cancel := budget.Context(ctx, budget.Operation, "prepare sandbox")
	defer cancel()
	h, err := d.cfg.Driver.Prepare(ctx, o.ID, o.Name, d.cfg.Gateway.Name, o.Value.Spec)
	if err != nil {
		return host.Explain(err, d.cfg.Gateway.Sandbox(o.ID).Dir())
	}
	own.handle = &h
	return nil
}

// bareHandle names a sandbox whose own handle is not there or cannot be read: what
// is needed to look at it, stop it and remove it.
func (d *daemon) bareHandle(o store.Object[store.Sandbox]) *sandbox.Handle {
	return &sandbox.Handle{Version: 1, ID: o.ID, Name: o.Name, Gateway: d.cfg.Gateway.Name, Driver: d.cfg.Driver.Name(), Spec: o.Value.Spec}
}

// unprepared looks after a sandbox whose directory cannot be made or whose record
// there cannot be read. Nothing of it is started; what runs goes on until it is to
// stop. It returns when to try again.
func (d *daemon) unprepared(ctx context.Context, e *entry, own *effort, o store.Object[store.Sandbox], wish uint64, why error) time.Duration {
	own.unprepared, own.handle = true, nil
	own.fail(why, time.Now())
	again := reconcile.Backoff(own.failures)
	handle := d.bareHandle(o)
	live := d.observe(ctx, &effort{handle: handle})
	message := "did not start: " + why.Error()
	if live.Known && live.Alive {
		message = "it runs, but could not be started again: " + why.Error()
	}
	switch {
	case ctx.Err() != nil: // the observation may only say that this daemon is ending
	case o.Value.Wanted == sandbox.Running || !live.Known:
		d.note(ctx, e, wish, sandbox.Error, message, reasonOf(why))
	case !live.Alive:
		d.note(ctx, e, wish, sandbox.Stopped, "stopped", "")
	default:
		d.note(ctx, e, wish, sandbox.Stopping, "stopping", "")
		acting, done := e.acting(ctx)
		defer done()
		if err := d.bounded(acting, budget.Operation, "stop sandbox", func(ctx context.Context) error { return d.cfg.Driver.Stop(ctx, *handle) }); err != nil {
			d.log.Warn("stop sandbox", slog.String("sandbox", e.name), slog.Any("error", err))
			return again
		}
		return 0
	}
	return again
}

func (d *daemon) observe(ctx context.Context, own *effort) sandbox.Liveness {
	if own.handle == nil {
		return sandbox.Liveness{Reason: "its directory could not be read"}
	}
	ctx, cancel := budget.Context(ctx, budget.Probe, "observe sandbox")
	defer cancel()
	return d.cfg.Driver.Observe(ctx, *own.handle)
}

func (own *effort) fail(err error, now time.Time) {
	own.failures++
	own.lastError, own.lastReason = err.Error(), reasonOf(err)
	own.notBefore = now.Add(reconcile.Backoff(own.failures))
}

func (own *effort) forgive() {
	*own = effort{handle: own.handle, minted: own.minted}
}

func (d *daemon) act(ctx context.Context, e *entry, own *effort, o store.Object[store.Sandbox], decision reconcile.Decision) (time.Duration, bool) {
	ctx, done := e.acting(ctx)
	defer done()
	switch decision.Act {
	case reconcile.Start:
		if !own.begun.IsZero() && time.Since(own.begun) < stable {
			own.begun = time.Time{}
			own.fail(errors.New("its supervisor ended soon after it had started"), time.Now())
			return 0, false
		}
		err := d.start(ctx, e, own, o)
		if ctx.Err() != nil { // overruled: look at once what is wanted now
			return 0, false
		}
		if err != nil {
			own.fail(err, time.Now())
			d.log.Warn("start sandbox", slog.String("sandbox", e.name), slog.Any("error", err))
		} else {
			own.begun = time.Now()
			if o.Value.TokenUntold {
				d.tokenTold(ctx, &o)
			}
		}
		return 0, false
	case reconcile.Stop:
		own.forgive() // a later start begins without a grudge
		if err := d.bounded(ctx, budget.Operation, "stop sandbox", func(ctx context.Context) error {
			return d.cfg.Driver.Stop(ctx, *own.handle)
		}); err != nil {
			d.log.Warn("stop sandbox", slog.String("sandbox", e.name), slog.Any("error", err))
			return decision.Again, false
		}
		return 0, false
	case reconcile.Destroy:
		return d.destroy(ctx, e, own, decision)
	}
	return decision.Again, false
}

func (d *daemon) destroy(ctx context.Context, e *entry, own *effort, decision reconcile.Decision) (time.Duration, bool) {
	err := errors.New("its directory could not be read")
	if own.handle != nil {
		err = d.bounded(ctx, budget.Heavy, "destroy sandbox", func(ctx context.Context) error {
			return d.cfg.Driver.Destroy(ctx, *own.handle)
		})
	}
	if err == nil {
		_, err = d.store.Sandboxes.Delete(ctx, e.id)
	}
	if err != nil {
		if ctx.Err() == nil {
			d.setPhase(ctx, e, sandbox.Deleting, "could not be removed yet: "+err.Error())
			d.log.Warn("destroy sandbox", slog.String("sandbox", e.name), slog.Any("error", err))
		}
		return decision.Again, false
	}
	d.bereave(e)
	return 0, true
}

func (d *daemon) bounded(ctx context.Context, name budget.Name, operation string, do func(context.Context) error) error {
	ctx, cancel := budget.Context(ctx, name, operation)
	defer cancel()
	return do(ctx)
}

// bereave forgets a sandbox that is gone.
func (d *daemon) bereave(e *entry) {
	d.closeListeners(e)
	d.hub.Drop(e.id, "sandbox was deleted")
	d.runner.Drop(e.id)
	d.revokeSessions(e.id)
	d.mu.Lock()
	delete(d.entries, e.id)
	d.mu.Unlock()
	e.feed.Close()
}

func (d *daemon) start(ctx context.Context, e *entry, own *effort, o store.Object[store.Sandbox]) error {
	queue := time.NewTimer(startQueue)
	defer queue.Stop()
	select {
	case d.starts <- struct{}{}:
		defer func() { <-d.starts }()
	case <-queue.C: // those before it are stuck; that must not become its problem
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	dashboard, relayToken, err := d.tokens(o.Value)
	if err != nil {
		return err
	}
	now := d.cfg.Now()
	bearer, err := token.Mint(d.cfg.Material, d.cfg.Gateway.Name, e.id, now, token.Life)
	if err != nil {
		return err
	}
	own.minted = now.Round(0)
	return d.bounded(ctx, budget.SandboxReady, "start sandbox", func(ctx context.Context) error {
		return host.Explain(d.cfg.Driver.Start(ctx, *own.handle, bearer, dashboard, relayToken), d.cfg.Gateway.Sandbox(e.id).Dir())
	})
}

// renew replaces a sandbox's token when it is old, when it is not of this daemon,
// or when the clock went back behind its making.
func (d *daemon) renew(ctx context.Context, e *entry, own *effort, loose bool) {
	now := d.cfg.Now().Round(0)
	age := now.Sub(own.minted)
	if !own.minted.IsZero() && age >= 0 && age < tokenRenewal && (!loose || age < looseRenewal) {
		return
	}
	bearer, err := token.Mint(d.cfg.Material, d.cfg.Gateway.Name, e.id, now, token.Life)
	if err == nil {
		err = d.bounded(ctx, budget.Operation, "renew sandbox token", func(ctx context.Context) error {
			return d.cfg.Driver.Renew(ctx, *own.handle, bearer)
		})
	}
	if err != nil {
		d.log.Warn("renew sandbox token", slog.String("sandbox", e.name), slog.Any("error", err))
		return
	}
	own.minted = now
}

// reasonOf is the advisory that explains an error, empty without one.
func reasonOf(err error) string {
	if p, ok := advisory.Of(err); ok {
		return p.ID
	}
	return ""
}

// setPhase notes what was decided, stores it and tells who watches.
func (d *daemon) setPhase(ctx context.Context, e *entry, phase sandbox.Phase, message string) {
	d.note(ctx, e, 0, phase, message, "")
}

// note is setPhase with an advisory, for what was decided when wish was the newest
// (0 is any). When a newer one has come nothing is noted: a client that asked for
// it must not be told of what was wanted before. It returns false then.
func (d *daemon) note(ctx context.Context, e *entry, wish uint64, phase sandbox.Phase, message, reason string) bool {
	e.mu.Lock()
	if wish != 0 && wish != e.wishes {
		e.mu.Unlock()
		return false
	}
	same := e.phase == phase && e.message == message
	e.phase, e.message, e.reason = phase, message, reason
	if !same {
		e.changed = time.Now()
	}
	if phase == sandbox.Ready && !e.up {
		e.up = true
		close(e.risen)
	}
	e.mu.Unlock()
	if same {
		return true
	}
	_, err := d.store.Sandboxes.Change(ctx, e.id, func(o *store.Object[store.Sandbox]) error {
		o.Value.Phase, o.Value.Message = phase, message
		o.Value.WasReady = o.Value.WasReady || phase == sandbox.Ready
		return nil
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
		d.log.Error("store sandbox phase", slog.String("sandbox", e.name), slog.Any("error", err))
	}
	e.feed.AppendEvent(&openshellv1.PlatformEvent{TimestampMs: time.Now().UnixMilli(), Source: "gateway", Type: eventType(phase),
		Reason: string(phase), Message: message, Metadata: map[string]string{"openshell.progress.step": string(phase)}})
	e.feed.StatusChanged()
	return true
}

func eventType(p sandbox.Phase) string {
	if p == sandbox.Error || p == sandbox.UnknownPhase {
		return "Warning"
	}
	return "Normal"
}
