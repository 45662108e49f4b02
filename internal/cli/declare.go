package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"creel/internal/advisory"
	"creel/internal/dashboard"
	"creel/internal/desired"
	"creel/internal/layer"
	"creel/internal/onboard"
	"creel/internal/sandbox"
)

// declaration is a flag that says how a dashboard is reached.
type declaration struct {
	flag, meaning string
	example       string // a value that can be declared
	value         string
	set           func(board *desired.Dashboard, value string) error
}

func declarations() []declaration {
	return []declaration{
		{flag: "bind", meaning: "record where it is bound: 127.0.0.1, or 0.0.0.0 for every address; empty goes by the rest",
			example: dashboard.Loopback, set: (*desired.Dashboard).SetBind},
		{flag: "port", meaning: "record its port on this machine; 0 is any free one", example: strconv.Itoa(dashboard.DefaultPort), set: setPort},
		{flag: "public-url", meaning: "record the URL under which people open it, as behind a reverse proxy; empty takes it back",
			example: "https://agent.example", set: (*desired.Dashboard).SetPublicURL},
		{flag: "trusted-proxies", meaning: "record the networks of proxies whose X-Forwarded headers are believed, separated by commas; empty takes them back",
			example: dashboard.Loopback, set: (*desired.Dashboard).SetTrustedProxies},
	}
}

func setPort(board *desired.Dashboard, value string) error {
	port, err := strconv.Atoi(value)
	if value != "" && (err != nil || port < 0 || port > 65535) {
		return advisory.New("dashboard-port-invalid", noPort(value)+", nor 0 for any free one", nil)
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

// with is the dashboard with what was given declared.
func with(board desired.Dashboard, given []declaration) (desired.Dashboard, error) {
	for _, d := range given {
		if err := d.set(&board, d.value); err != nil {
			p, _ := advisory.Of(err)
			return board, advisory.New(p.ID, "--"+d.flag, err, "creel dashboard SANDBOX --"+d.flag+" "+d.example)
		}
	}
	return board, nil
}

// declareDashboard records how a sandbox's dashboard is reached and makes it so. A
// declaration that does not work leaves everything as it was. It returns the
// sandbox's name.
func (a *app) declareDashboard(cmd *cobra.Command, name string, given []declaration, yes bool) (string, error) {
	if _, err := with(desired.Dashboard{}, given); err != nil { // nobody need be asked
		if err := a.mean(name); err != nil {
			return "", err
		}
		return "", err
	}
	return name, a.changeForwards(cmd, name, func(c forwardChange) (err error) {
		name = c.was.Name
		now := c.was
		if now.Dashboard, err = with(now.Dashboard, given); err != nil {
			return err
		}
		doc := c.doc.With(now).WithDefaults()
		if err := doc.Validate(); err != nil {
			return usageCause("usage", err)
		}
		if doc.Equal(c.doc) {
			return nil
		}
		now, _ = doc.Sandbox(name)
		if err := a.declare(cmd.Context(), c, now, yes); err != nil {
			return err
		}
		for _, change := range onboard.Changes(&c.doc, doc) {
			a.Streams.Say("recorded: %s", change)
		}
		return nil
	})
}

// declare has the gateway listen as declared, and starts an agent again that has to
// be told of it, if the user agrees: before that nothing is changed.
func (a *app) declare(ctx context.Context, c forwardChange, now desired.Sandbox, yes bool) error {
	old, err := c.labelled(c.was)
	if err != nil {
		return err
	}
	want, err := c.labelled(now)
	if err != nil {
		return err
	}
	label := func(labels map[string]string) string { return labels[layer.SpecLabel] }
	told := label(old.Spec.Labels) != label(want.Spec.Labels)
	if have := label(c.have.Labels); told && have != "" && have != label(old.Spec.Labels) {
		return advisory.New("sandbox-differs", fmt.Sprintf("sandbox %s is not as recorded in other ways, which needs its agent restarted", now.Name), nil, "creel onboard --name "+now.Name)
	}
	restart := told && c.have.Wanted == sandbox.Running
	if restart {
		question := fmt.Sprintf("Start %s again? Its agent is told only at its start how its dashboard is reached: what runs in the sandbox ends, its workspace stays.", now.Name)
		if err := a.confirm(ctx, question, yes); err != nil {
			return err
		}
	}
	if _, err := c.become(ctx, now, which{dashboard: true}, "the dashboard stays as it was", "creel dashboard "+now.Name+" --port PORT"); err != nil || !told {
		return err
	}
	if err := c.updater.UpdateSandbox(ctx, now.Name, want.Spec); err != nil {
		_, back := c.set(context.WithoutCancel(ctx), c.was)
		return errors.Join(err, back, c.save(c.doc))
	}
	if !restart {
		return nil
	}
	return a.restartAgent(ctx, c.client, now.Name)
}

// labelled is what a sandbox should be, with its digest.
func (c forwardChange) labelled(s desired.Sandbox) (layer.WantedSandbox, error) {
	spec, err := s.Spec(c.wsl)
	if err != nil {
		return layer.WantedSandbox{}, err
	}
	return layer.NewWantedSandbox(s.Name, spec, s.Wanted)
}
