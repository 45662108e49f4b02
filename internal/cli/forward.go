package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/spf13/cobra"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/dashboard"
	"creel/internal/desired"
	"creel/internal/gateway"
	"creel/internal/sandbox"
)

func (a *app) forwardCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "forward",
		Short: "Reach ports inside a sandbox from this machine",
		Long: `A forward is a port of this machine that leads to one inside a sandbox. It is
recorded with the sandbox and kept by the gateway: it is there again after a restart
of either. A dashboard's listener is one of them.`,
		Example: "  creel forward list\n  creel forward start SANDBOX 8080:3000\n  creel forward stop SANDBOX PORT",
		GroupID: "use",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.forwardList(), a.forwardStart(), a.forwardStop())
	return cmd
}

func (a *app) forwardStart() *cobra.Command {
	var bind string
	cmd := &cobra.Command{
		Use:   "start [SANDBOX] [[BIND:]PORT[:TARGET]]",
		Short: "Forward a port into a sandbox, or have its dashboard listen again",
		Long: `Listen on PORT of this machine for port TARGET inside a sandbox; without TARGET it
is the same number. A PORT that is taken is an error that names who has it. Without
PORT, as in :TARGET, a free one is found and said.

It listens on this machine alone. BIND 0.0.0.0, or --bind 0.0.0.0, lets every
machine that reaches this one connect: what is inside has to protect itself.

The port of the dashboard, on either side, means the dashboard's own listener; so
does a sandbox without a port, which has it listen again as recorded. Without BIND a
dashboard is bound wide on WSL and with a public URL. The sandbox and its agent go on.`,
		Example: "  creel forward start SANDBOX 8080:3000\n  creel forward start SANDBOX :3000\n" +
			"  creel forward start SANDBOX 0.0.0.0:8080\n  creel forward start SANDBOX",
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, text, err := sandboxAndPort(args)
			if err != nil {
				return usageCause("forward-invalid", err)
			}
			w, err := parseForward(text)
			if err != nil {
				return err
			}
			if err := w.wide(bind); err != nil {
				return err
			}
			return a.changeForwards(cmd, name, func(c forwardChange) error { return a.startForward(cmd.Context(), c, w) })
		},
	}
	cmd.Flags().StringVar(&bind, "bind", "", "address to listen on: 127.0.0.1, or 0.0.0.0 for every machine that reaches this one")
	return cmd
}

func (a *app) forwardStop() *cobra.Command {
	return &cobra.Command{
		Use:   "stop [SANDBOX] PORT",
		Short: "No longer forward a port into a sandbox",
		Long: `Give PORT of this machine back and end the connections through it. The sandbox and
its agent go on. A dashboard that was stopped stays so until "creel forward start"
or "creel onboard".`,
		Example:           "  creel forward stop SANDBOX PORT",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeSandbox,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, text, err := sandboxAndPort(args)
			if err == nil && text == "" {
				err = errors.New("name the port that is no longer to be forwarded")
			}
			port, notNumber := strconv.Atoi(text)
			if err == nil && (notNumber != nil || port < 1 || port > 65535) {
				err = errors.New(noPort(text))
			}
			if err != nil {
				return usageCause("usage", err, "creel forward list", "creel help forward stop")
			}
			return a.changeForwards(cmd, name, func(c forwardChange) error { return a.stopForward(cmd.Context(), c, port) })
		},
	}
}

// forwardChange is what a change of a sandbox's forwards begins with.
type forwardChange struct {
	client  gateway.Client
	updater gateway.Updater // the same
	have    gateway.Inspection
	doc     desired.Document
	was     desired.Sandbox
	save    func(desired.Document) error
	wsl     bool
}

// changeForwards takes the gateway's lock and finds the sandbox, recorded and as the
// gateway has it.
func (a *app) changeForwards(cmd *cobra.Command, name string, change func(forwardChange) error) (err error) {
	l, g, err := a.lock(cmd)
	if err != nil {
		return err
	}
	defer unlock(l, &err)
	return a.withSandbox(cmd.Context(), name, func(c gateway.Client, have gateway.Inspection) error {
		doc, _, err := recorded(g)
		if err != nil {
			return err
		}
		was, known := doc.Sandbox(have.Name)
		if !known {
			return advisory.New("forward-unrecorded", fmt.Sprintf("sandbox %s is not recorded for gateway %s", have.Name, g.Name), nil)
		}
		updater, can := c.(gateway.Updater)
		if !can {
			return advisory.New("gateway-call-missing", fmt.Sprintf("gateway %s keeps no forwards", g.Name), nil, advisory.QuoteAll(dashboard.ForwardCommand("PORT", have.Name)))
		}
		return change(forwardChange{client: c, updater: updater, have: have, doc: doc, was: was,
			save: func(d desired.Document) error { return d.Save(g.Desired()) }, wsl: a.Machine().WSL})
	})
}

// set has the gateway listen as a sandbox should be.
func (c forwardChange) set(ctx context.Context, s desired.Sandbox) (gateway.Inspection, error) {
	spec, err := s.Spec(c.wsl)
	if err != nil {
		return gateway.Inspection{}, err
	}
	ctx, cancel := budget.Context(ctx, budget.Operation, "change the forwards of sandbox "+s.Name)
	defer cancel()
	return c.updater.UpdateForwards(ctx, s.Name, spec)
}

// become records a sandbox as it is now to be, once the gateway listens so: what
// cannot leaves everything as it was. what and hints are for the error.
func (c forwardChange) become(ctx context.Context, now desired.Sandbox, w which, what string, hints ...string) (gateway.Forward, error) {
	after, err := c.set(ctx, now)
	if err != nil {
		return gateway.Forward{}, err
	}
	f := w.in(after)
	switch doc := c.doc.With(now); {
	case f.Reason != "":
		err = advisory.New(f.Reason, what, errors.New(f.Error), hints...)
	case doc.Equal(c.doc):
		return f, nil
	default:
		err = c.save(doc)
	}
	if err != nil {
		// The interruption must not keep what was there from coming back.
		_, back := c.set(context.WithoutCancel(ctx), c.was)
		return f, errors.Join(err, back)
	}
	return f, nil
}

// startForward forwards a port, or has the dashboard listen again.
func (a *app) startForward(ctx context.Context, c forwardChange, w forwardWish) error {
	now, which, err := w.on(c.was, c.have.Dashboard)
	if err != nil {
		return err
	}
	if err := c.doc.With(now).Validate(); err != nil {
		return usageCause("forward-invalid", err, "creel forward list")
	}
	if c.have.State.Confinement.Tier == sandbox.TierLandlock && !which.dashboard {
		return advisory.New("forward-unreachable", fmt.Sprintf("sandbox %s has no network of its own", now.Name), nil, "creel doctor "+now.Name)
	}
	f, err := c.become(ctx, now, which, "forward into sandbox "+now.Name, which.hints(now.Name)...)
	if err != nil {
		return err
	}
	if !f.Bound {
		a.Streams.Say("port %d of sandbox %s is forwarded once the sandbox runs: %s", f.TargetPort, now.Name, f.Error)
		return nil
	}
	if displaced := displacement(which.in(c.have), f); displaced != "" {
		a.Streams.Say("%s", displaced)
	}
	a.Streams.Say("%s leads to port %d of sandbox %s", listenerAddress(f), f.TargetPort, now.Name)
	if f.Exposed() {
		a.Streams.Say("every machine that reaches this one can connect; what is inside has to protect itself")
	}
	a.Streams.Print("%s", listenerAddress(f))
	return nil
}

// displacement says why a forward is on another port than the first that was tried:
// what is true of who has that one depends on when it was tried.
func displacement(before, now gateway.Forward) string {
	if before.Bound && before.Port == now.Port {
		return now.Displaced()
	}
	return now.Instead()
}

// stopForward records first: what nobody wants any more must not come back.
func (a *app) stopForward(ctx context.Context, c forwardChange, port int) error {
	now, found := without(c.was, c.have, port)
	if !found {
		return advisory.New("forward-unknown", fmt.Sprintf("port %d is not forwarded into sandbox %s", port, c.was.Name), nil,
			"creel forward list "+c.was.Name)
	}
	if doc := c.doc.With(now); !doc.Equal(c.doc) {
		if err := c.save(doc); err != nil {
			return err
		}
	}
	if _, err := c.set(ctx, now); err != nil {
		return err
	}
	a.Streams.Say("port %d is no longer forwarded into sandbox %s", port, now.Name)
	return nil
}

func listenerAddress(f gateway.Forward) string {
	bind := f.Bind
	if bind == "" {
		bind = dashboard.Loopback
	}
	return net.JoinHostPort(bind, strconv.Itoa(f.Port))
}
