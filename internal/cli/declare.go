package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"creel/internal/advisory"
	"creel/internal/desired"
	"creel/internal/gateway"
	"creel/internal/host"
	"creel/internal/layer"
	"creel/internal/onboard"
	"creel/internal/sandbox"
	"creel/internal/state"
)

// declaration is a flag that says how a dashboard is reached.
type declaration struct {
	flag, meaning string
	value         string
	set           func(board *desired.Dashboard, value string) error
}

func declarations() []declaration {
	return []declaration{
		{flag: "bind", meaning: "record where it is bound: 127.0.0.1, or 0.0.0.0 for every address; empty goes by the rest",
			set: (*desired.Dashboard).SetBind},
		{flag: "port", meaning: "record its port on this machine; 0 is any free one", set: setPort},
		{flag: "public-url", meaning: "record the URL under which people open it, as behind a reverse proxy; empty takes it back",
			set: (*desired.Dashboard).SetPublicURL},
		{flag: "trusted-proxies", meaning: "record the networks of proxies whose X-Forwarded headers are believed, separated by commas; empty takes them back",
			set: (*desired.Dashboard).SetTrustedProxies},
	}
}

func setPort(board *desired.Dashboard, value string) error {
	port, err := strconv.Atoi(value)
	if value != "" && (err != nil || port < 0 || port > 65535) {
		return advisory.New("dashboard-url-invalid", fmt.Sprintf("%q is no port number between 1 and 65535", value), nil)
	}
	board.Port = port
	return nil
}

// givenDeclarations are the declarations whose flags were given.
func givenDeclarations(f *pflag.FlagSet) []declaration {
	var given []declaration
	for _, d := range declarations() {
		if flag := f.Lookup(d.flag); flag.Changed {
			d.value = flag.Value.String()
			given = append(given, d)
		}
	}
	return given
}

// declareDashboard records how a sandbox's dashboard is reached and makes it so. The
// wish is recorded first, as it is what everything else works towards; one that does
// not work is taken back, so that nothing is left that no longer opens. It returns
// the sandbox's name.
func (a *app) declareDashboard(cmd *cobra.Command, name string, given []declaration) (_ string, err error) {
	l, g, err := a.lock(cmd)
	if err != nil {
		return "", err
	}
	defer unlock(l, &err)
	doc, _, err := recorded(g)
	if err != nil {
		return "", err
	}
	if name, err = wantedSandbox(doc, name); err != nil {
		return "", err
	}
	before, known := doc.Sandbox(name)
	if !known {
		return "", noSandbox(name)
	}
	after := before
	for _, d := range given {
		if err := d.set(&after.Dashboard, d.value); err != nil {
			p, _ := advisory.Of(err)
			return "", advisory.New(p.ID, "--"+d.flag, err)
		}
	}
	now := doc.With(after).WithDefaults()
	if err := now.Validate(); err != nil {
		return "", usageCause("usage", err)
	}
	if now.Equal(doc) {
		return name, nil
	}
	if err := a.applyDashboard(cmd.Context(), g, doc, now, name); err != nil {
		return "", err
	}
	for _, c := range onboard.Changes(&doc, now) {
		a.Streams.Say("recorded: %s", c)
	}
	return name, nil
}

// applyDashboard saves the document and changes the running sandbox; where that
// fails both are as before.
func (a *app) applyDashboard(ctx context.Context, g state.Gateway, before, now desired.Document, name string) error {
	old, err := a.wantedOf(before, name)
	if err != nil {
		return err
	}
	want, err := a.wantedOf(now, name)
	if err != nil {
		return err
	}
	return a.withSandbox(ctx, name, func(c gateway.Client, s gateway.Inspection) error {
		updater, can := c.(gateway.Updater)
		if have := s.Labels[layer.SpecLabel]; !can || have != "" && have != old.Spec.Labels[layer.SpecLabel] {
			return advisory.New("sandbox-differs", fmt.Sprintf("sandbox %s is not as recorded in other ways, which needs its agent restarted", name), nil, "creel onboard --name "+name)
		}
		if err := now.Save(g.Desired()); err != nil {
			return err
		}
		err := updater.UpdateSandbox(ctx, name, want.Spec)
		if err == nil && s.Wanted == sandbox.Running {
			err = bound(ctx, c, name, want.Spec.Dashboard)
		}
		if err == nil && s.Wanted == sandbox.Running && old.Spec.Labels[layer.SpecLabel] != want.Spec.Labels[layer.SpecLabel] {
			return a.restartAgent(ctx, c, name)
		}
		if err == nil {
			return nil
		}
		// The interruption must not keep what was there from coming back.
		back := context.WithoutCancel(ctx)
		return errors.Join(err, before.Save(g.Desired()), updater.UpdateSandbox(back, name, old.Spec))
	})
}

// wantedOf is what a document wants of a sandbox on this machine.
func (a *app) wantedOf(d desired.Document, name string) (layer.WantedSandbox, error) {
	s, _ := d.Sandbox(name)
	spec, err := s.Spec(a.Machine().WSL)
	if err != nil {
		return layer.WantedSandbox{}, err
	}
	return layer.NewWantedSandbox(name, spec, s.Wanted)
}

// bound reports why the dashboard has no listener where it is wanted.
func bound(ctx context.Context, c gateway.Client, name string, want sandbox.Dashboard) error {
	d, err := c.Dashboard(ctx, name, false)
	switch {
	case err != nil:
		return fmt.Errorf("ask the gateway for the dashboard of %s: %w", name, err)
	case d.Forward.TargetPort == 0 || d.Forward.Bound:
		return nil
	}
	id := "dashboard-not-bound"
	if want.PortExplicit && errors.Is(host.CheckPort(ctx, want.Bind, want.Port).Err, syscall.EADDRINUSE) {
		id = "dashboard-port-taken"
	}
	return advisory.New(id, "the dashboard stays as it was: "+d.Forward.Error, nil, "creel dashboard "+name+" --port PORT")
}
