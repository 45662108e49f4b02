package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/cli/ui"
	"creel/internal/credential"
	"creel/internal/gateway"
	"creel/internal/health"
)

// ServiceDocument is the unit of a service manager that keeps a gateway, as part of
// a GatewayDocument and as what `creel gateway install-service --json` prints.
type ServiceDocument struct {
	Verdict  health.Verdict    `json:"verdict"`
	Manager  string            `json:"manager"`
	Unit     string            `json:"unit"`
	Path     string            `json:"path"`
	Reason   string            `json:"reason"`
	Message  string            `json:"message"`
	Evidence []health.Evidence `json:"evidence"`
	Hints    []string          `json:"hints"`
}

// serviceDocument is nil where no service is installed.
func serviceDocument(s gateway.Service) *ServiceDocument {
	if !s.Installed {
		return nil
	}
	d := &ServiceDocument{Verdict: s.Verdict, Manager: s.Manager, Unit: s.Unit, Path: s.Path, Reason: s.Reason,
		Message: credential.Redact(s.Message), Evidence: evidenceOf(s.Evidence), Hints: []string{}}
	if s.Verdict != health.OK {
		d.Hints = hintsOf(s.Reason, s.Hints)
	}
	return d
}

func (a *app) installServiceCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "install-service",
		Short: "Have systemd start the gateway at boot and keep it running",
		Long: `Have systemd keep the gateway: start it at boot, start it again when it dies or
hangs. A unit creel-gateway-NAME.service is written and enabled: one of your own
manager, which is made to run from boot on (lingering), or as root one of the
system. A gateway that runs is handed over; sandboxes go on. From then on "creel
gateway start", "stop" and "restart" work through the unit.

It is said to be done only after all of it was read back: the unit file, that it is
loaded, enabled and active, that its main process is the gateway that answers, and
lingering. Otherwise it is taken back. Doing it again changes nothing.`,
		Example: "  creel gateway install-service\n  creel gateway install-service --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			l, g, err := a.lock(cmd)
			if err != nil {
				return err
			}
			defer unlock(l, &err)
			p := ui.NewProgress(a.Streams)
			defer p.Close()
			p.Wait("installing the service")
			s, changed, err := a.InstallService(cmd.Context(), g.Name, p.Report())
			if err != nil {
				return undetermined(fmt.Errorf("install the service: %w", err))
			}
			if asJSON {
				p.Close()
				return a.Streams.JSON(a.serviceAbout(g.Name, serviceDocument(s)))
			}
			done := s.Message
			if !changed {
				done += "; nothing was changed"
			}
			p.End(ui.MarkOK, done)
			a.renderEvidence(s.Evidence)
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) uninstallServiceCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "uninstall-service",
		Short: "Take back what install-service did",
		Long: `Remove the unit that "creel gateway install-service" wrote, and nothing else. A
gateway that runs goes on without systemd, and sandboxes go on in any case.
Lingering stays as it is. A unit that Creel did not write, or that was changed
since, is not touched. Doing it again changes nothing.`,
		Example: "  creel gateway uninstall-service",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			l, g, err := a.lockAny(cmd) // also of a gateway of which nothing but the unit is left
			if err != nil {
				return err
			}
			defer unlock(l, &err)
			p := ui.NewProgress(a.Streams)
			defer p.Close()
			p.Wait("removing the service")
			removed, err := a.UninstallService(cmd.Context(), g.Name, p.Report())
			if err != nil {
				return undetermined(fmt.Errorf("remove the service: %w", err))
			}
			if !removed {
				p.End(ui.MarkOK, fmt.Sprintf("no service keeps gateway %s; nothing was changed", g.Name))
				return nil
			}
			p.End(ui.MarkOK, fmt.Sprintf("the service of gateway %s is gone; it is no longer started at boot", g.Name))
			a.Streams.Say(`lingering, where it was on, stays on (loginctl disable-linger)`)
			return nil
		},
	}
}

// undetermined gives an error about what could not be told its exit code.
func undetermined(err error) error {
	if p, ok := advisory.Of(err); ok && p.ID == "service-unknown" {
		return &unknownError{err}
	}
	return err
}

// lookAtService looks at the service while somebody observes the gateway. A service
// manager that does not answer does not keep the gateway's own answer back: it gets
// the probe budget, from now on.
func (a *app) lookAtService(ctx context.Context, name string) func(gateway.Observation) gateway.Service {
	if a.Service == nil {
		return func(gateway.Observation) gateway.Service { return gateway.Service{} }
	}
	ctx, cancel := budget.Context(ctx, budget.Probe, "look at the service")
	judge := make(chan func(gateway.Observation) gateway.Service, 1)
	go func() { judge <- a.Service(ctx, name) }()
	return func(o gateway.Observation) gateway.Service {
		defer cancel()
		select {
		case judge := <-judge: // also when asking the gateway took all the time
			return judge(o)
		default:
		}
		select {
		case judge := <-judge:
			return judge(o)
		case <-ctx.Done():
			return gateway.Service{Installed: true, Verdict: health.Unknown, Reason: "service-manager-unreachable", Message: context.Cause(ctx).Error()}
		}
	}
}

// addService adds what is known of the service to a gateway's status: a gateway that
// works and is not kept as it should be is degraded.
func (doc *GatewayDocument) addService(s gateway.Service, o gateway.Observation) {
	doc.Service = serviceDocument(s)
	if doc.Service == nil || s.Verdict == health.OK || o.Verdict != health.OK {
		return
	}
	doc.Caveats = append(doc.Caveats, health.Caveat{Advisory: s.Reason, Message: s.Message})
	doc.Verdict = health.SummaryDegraded
	if len(doc.Hints) == 0 {
		doc.Hints = doc.Service.Hints
	}
}
