package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"time"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/budget"
	"creel/internal/dashboard"
	"creel/internal/dashboard/forward"
	"creel/internal/dashboard/preface"
	"creel/internal/sandbox"
	"creel/internal/server/relay"
	"creel/internal/server/store"
)

// concurrentOpenings is how many connections into one sandbox its listeners open at
// a time; others wait. It leaves places of the hub to everybody else.
const concurrentOpenings = 16

// slot names one of a sandbox's listeners, whatever it is bound to.
type slot struct {
	dashboard bool
	port      int // of a forward that has to be there
	target    int // of a forward that may be anywhere
}

// wish is a listener that should be.
type wish struct {
	slot     slot
	bind     string
	port     int
	explicit bool
	target   int
	// Of a dashboard: what its connections begin with, if the agent reads that.
	access dashboard.Access
}

// is reports whether both wish for the same.
func (w wish) is(o wish) bool {
	return w.port == o.port && w.explicit == o.explicit && w.alike(o)
}

// alike reports whether both wish for the same, wherever.
func (w wish) alike(o wish) bool {
	return w.slot == o.slot && w.bind == o.bind && w.target == o.target && w.access.Equal(o.access)
}

// dashboardWish is where the dashboard should listen; target 0 is nowhere.
func dashboardWish(d sandbox.Dashboard) wish {
	return wish{slot: slot{dashboard: true}, bind: d.Bind, port: d.Port, explicit: d.PortExplicit, target: d.TargetPort,
		access: d.Access}
}

func forwardWish(f sandbox.Forward) wish {
	w := wish{bind: cmp.Or(f.Bind, dashboard.Loopback), port: f.Port, explicit: f.Port != 0, target: f.TargetPort}
	if w.explicit {
		w.slot.port = f.Port
	} else {
		w.slot.target, w.port = f.TargetPort, f.TargetPort // the same number, if it is free
	}
	return w
}

// wishes are the listeners that a sandbox should have now.
func wishes(s store.Sandbox) []wish {
	if s.Deleting || s.Wanted != sandbox.Running {
		return nil
	}
	var all []wish
	if d := s.Spec.Dashboard; d.TargetPort != 0 && !d.Stopped && !s.TokenUntold {
		all = append(all, dashboardWish(d))
	}
	for _, f := range s.Spec.Forwards {
		all = append(all, forwardWish(f))
	}
	return all
}

// lastPort is the port that a listener had before; 0 without one.
func lastPort(s store.Sandbox, of slot) int {
	if of.dashboard {
		return s.DashboardPort
	}
	return s.ForwardPorts[of.target]
}

// listener is what came of a wish.
type listener struct {
	made    wish // what forward was made for
	forward *forward.Forward
	instead *forward.Taken // the port it would rather have; nil when it has that
	problem error          // why it is not, or not as wanted
	missed  wish           // what could not be made then
}

// serves reports that a listener is as wanted.
func (l listener) serves(w wish) bool {
	return l.forward != nil && l.made.alike(w) && !l.elsewhere(w)
}

// elsewhere reports that what there is listens on another port than w names. One
// that w would only rather have is asked for once.
func (l listener) elsewhere(w wish) bool {
	return w.port != l.forward.Port() && (w.explicit || w.slot.dashboard && w.port != 0 && w.port != l.made.port)
}

// lost is the port that a dashboard had before when another user's process has it;
// nil when not. A named port counts as had when the sandbox was up before and nobody
// has just asked for it.
func (l listener) lost(w wish, last int, how zeal, wasReady bool) *forward.Taken {
	had := last
	if w.explicit && wasReady && how != insist {
		had = w.port
	}
	taken := l.instead
	if taken == nil {
		errors.As(l.problem, &taken)
	}
	if !w.slot.dashboard || taken == nil || taken.Port != had || taken.Other == "" {
		return nil
	}
	return taken
}

// zeal is how far to go for a listener.
type zeal int

const (
	// reclaim binds only ports that somebody named or that were had before.
	reclaim zeal = iota
	// maintain gives up nothing that is there for what could not be had before.
	maintain
	// insist tries whatever is wanted.
	insist
)

// keepListeners has a sandbox's listeners be as its record says: those that are
// stay, others go or come. A listener that is to move stays until it can.
func (d *daemon) keepListeners(ctx context.Context, e *entry, how zeal) {
	e.binding.Lock()
	defer e.binding.Unlock()
	// Read here, so that who comes after a change never binds what was before it.
	o, err := d.store.Sandboxes.ByID(ctx, e.id)
	if err != nil {
		return // the reconciler reads it again, and says so
	}
	wanted := wishes(o.Value)
	for s := range e.bound() {
		if !slices.ContainsFunc(wanted, func(w wish) bool { return w.slot == s }) {
			d.end(e, s)
		}
	}
	ports := map[slot]int{}
	for _, w := range wanted {
		l, last := e.listener(w.slot), lastPort(o.Value, w.slot)
		switch {
		case l.serves(w):
			l.problem = nil
		case how == reclaim && !w.explicit && last == 0:
			continue
		default:
			l = d.bind(ctx, e, w, l, last, how)
			if taken := l.lost(w, last, how, o.Value.WasReady); taken != nil {
				d.lostPort(ctx, e, taken.Port, taken.Other)
			}
		}
		e.set(w.slot, l)
		if w.slot.dashboard && l.forward != nil && ownPage(o.Value.Spec) {
			d.notePage(ctx, e.id, l.forward.Port())
		}
		if l.forward != nil && !w.explicit && l.forward.Port() != last {
			ports[w.slot] = l.forward.Port()
		}
	}
	d.remember(ctx, e, ports)
}

// bind makes a listener as wanted in the place of had, which may have none.
func (d *daemon) bind(ctx context.Context, e *entry, w wish, had listener, last int, how zeal) listener {
	if had.forward == nil {
		return d.try(ctx, e, w, last, how == reclaim)
	}
	at := had.forward.Port()
	var rather *forward.Taken
	if had.elsewhere(w) {
		l := d.try(ctx, e, w, w.port, true)
		if l.forward != nil {
			d.close(e, had.forward)
			return l
		}
		if w.explicit { // it stays where it is
			had.problem, had.missed = l.problem, w
			return had
		}
		errors.As(l.problem, &rather)
		had.made.port, had.made.explicit = w.port, false
	}
	if had.serves(w) {
		had.instead, had.problem = rather, nil
		return had
	}
	if how != insist && had.problem != nil && had.missed.is(w) {
		return had
	}
	// The same port in another way: the old one has to go first.
	d.close(e, had.forward)
	l := d.try(ctx, e, w, at, false)
	if l.forward != nil {
		l.instead = cmp.Or(l.instead, rather)
		return l
	}
	again := d.try(ctx, e, had.made, at, true)
	again.problem, again.missed = l.problem, w
	return again
}

// try listens as wanted. last is the port that it had before; with exact it is that
// one or none.
func (d *daemon) try(ctx context.Context, e *entry, w wish, last int, exact bool) listener {
	wanted := forward.Wanted{Bind: w.bind, Port: w.port, Explicit: w.explicit, Last: last,
		Shared: w.slot.dashboard, Trusted: w.access.Trusted()}
	if w.slot.dashboard {
		wanted.Avoid = d.othersPages(ctx, e.id)
	}
	if exact && !w.explicit {
		wanted.Port, wanted.Explicit = last, true
	}
	f, err := forward.Listen(ctx, wanted, d.into(e, w), d.log)
	var taken *forward.Taken
	switch {
	case errors.As(err, &taken):
		return listener{made: w, problem: d.naming(taken)}
	case err != nil:
		return listener{made: w, problem: err}
	}
	l := listener{made: w, forward: f}
	if f.Taken() != nil {
		l.instead = d.naming(f.Taken())
	}
	d.announce(e, l)
	return l
}

// into opens connections to what a listener leads to. Where an agent listens, and
// whether it reads a preface, its supervisor says: the port may differ from the one
// asked for when there is no network namespace.
func (d *daemon) into(e *entry, w wish) forward.Dial {
	return func(ctx context.Context, outside net.Conn) (net.Conn, error) {
		waiting, cancel := budget.Context(ctx, budget.RelayOpen, "wait for other connections into the sandbox to be opened")
		defer cancel()
		select {
		case e.openings <- struct{}{}:
			defer func() { <-e.openings }()
		case <-waiting.Done():
			return nil, context.Cause(waiting)
		}
		if !w.slot.dashboard {
			return d.hub.Open(ctx, e.id, relay.Target{Port: w.target})
		}
		asking, done := budget.Context(ctx, budget.SessionWait, "wait for the supervisor to say how its agent is reached")
		defer done()
		report, err := e.awaitReport(asking)
		if err != nil {
			return nil, err
		}
		inside, err := d.hub.Open(ctx, e.id, relay.Target{Port: cmp.Or(report.AgentPort, w.target)})
		if err != nil || !report.ReadsPreface {
			return inside, err
		}
		if err := introduce(ctx, inside, outside, w.access); err != nil {
			return nil, errors.Join(err, inside.Close())
		}
		return inside, nil
	}
}

// introduce tells an agent who connected, before the first byte of theirs.
func introduce(ctx context.Context, inside, outside net.Conn, access dashboard.Access) error {
	defer context.AfterFunc(ctx, func() { _ = inside.Close() })()
	return preface.Write(inside, outside.RemoteAddr(), outside.LocalAddr(), access)
}

// naming names the sandbox behind a port that this daemon holds itself.
func (d *daemon) naming(t *forward.Taken) *forward.Taken {
	if t.PID != os.Getpid() {
		return t
	}
	d.mu.Lock()
	entries := maps.Clone(d.entries)
	d.mu.Unlock()
	for _, e := range entries {
		for _, l := range e.bound() {
			if l.forward != nil && l.forward.Port() == t.Port {
				named := *t
				named.Holder += ", for sandbox " + e.name
				return &named
			}
		}
	}
	return t
}

// announce says where something listens, once it does.
func (d *daemon) announce(e *entry, l listener) {
	port := l.forward.Port()
	reason, message := "forward-bound", fmt.Sprintf("port %d leads to port %d inside", port, l.made.target)
	if l.made.slot.dashboard {
		reason, message = "dashboard-bound", fmt.Sprintf("dashboard is bound to port %d", port)
	}
	if l.instead != nil {
		message = fmt.Sprintf("Port %d is taken by %s. Using port %d instead.", l.instead.Port, l.instead.Holder, port)
	}
	e.feed.AppendEvent(&openshellv1.PlatformEvent{TimestampMs: time.Now().UnixMilli(), Source: "gateway", Type: "Normal", Reason: reason, Message: message})
}

// lostPort records that another user's process has the port that a dashboard had:
// an open page that connects again shows its token there.
func (d *daemon) lostPort(ctx context.Context, e *entry, port int, to string) {
	news := false
	_, err := d.store.Sandboxes.Change(ctx, e.id, func(o *store.Object[store.Sandbox]) error {
		news = o.Value.LostPort != port || o.Value.LostTo != to
		o.Value.LostPort, o.Value.LostTo = port, to
		return nil
	})
	if err != nil {
		d.log.Warn("record that another user has a dashboard's port", slog.String("sandbox", e.name), slog.Any("error", err))
	}
	if !news {
		return
	}
	d.log.Warn("another user has the port of a dashboard", slog.String("sandbox", e.name), slog.Int("port", port), slog.String("user", to))
	e.feed.AppendEvent(&openshellv1.PlatformEvent{TimestampMs: time.Now().UnixMilli(), Source: "gateway", Type: "Warning",
		Reason: "dashboard-port-lost", Message: fmt.Sprintf("a process of user %s has port %d, which was the dashboard's", to, port)})
}

// remember records the ports that nobody named, so that they are the same after a
// restart.
func (d *daemon) remember(ctx context.Context, e *entry, ports map[slot]int) {
	if len(ports) == 0 {
		return
	}
	_, err := d.store.Sandboxes.Change(ctx, e.id, func(o *store.Object[store.Sandbox]) error {
		kept := map[int]int{}
		for _, f := range o.Value.Spec.Forwards {
			if last := o.Value.ForwardPorts[f.TargetPort]; f.Port == 0 && last != 0 {
				kept[f.TargetPort] = last
			}
		}
		for s, port := range ports {
			if s.dashboard {
				o.Value.DashboardPort = port
			} else {
				kept[s.target] = port
			}
		}
		o.Value.ForwardPorts = kept
		return nil
	})
	if err != nil {
		d.log.Warn("record ports of listeners", slog.String("sandbox", e.name), slog.Any("error", err))
	}
}

// endDashboard ends every connection through a sandbox's dashboard, and its listener.
func (d *daemon) endDashboard(e *entry) {
	e.binding.Lock()
	defer e.binding.Unlock()
	d.end(e, slot{dashboard: true})
}

// closeListeners ends all listeners of a sandbox with their connections.
func (d *daemon) closeListeners(e *entry) {
	e.binding.Lock()
	defer e.binding.Unlock()
	for s := range e.bound() {
		d.end(e, s)
	}
}

func (d *daemon) end(e *entry, s slot) {
	l := e.listener(s)
	e.drop(s)
	if l.forward != nil {
		d.close(e, l.forward)
	}
}

func (d *daemon) close(e *entry, f *forward.Forward) {
	if err := f.Close(); err != nil {
		d.log.Warn("close listener", slog.String("sandbox", e.name), slog.Any("error", err))
	}
}
