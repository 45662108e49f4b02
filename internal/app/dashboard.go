package app

import (
	"context"
	"os"
	"time"

	"creel/internal/agent"
	"creel/internal/dashboard"
	"creel/internal/dashboard/probe"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/host"
	"creel/internal/layer"
	"creel/internal/registration"
	"creel/internal/state"
)

// probeDashboard proves that a dashboard opens.
func probeDashboard(ctx context.Context, d gateway.Dashboard) health.Result {
	target := targetOf(d)
	if f := d.Forward; f.Exposed() && agent.ToldAtStart(d.Agent) {
		// What cannot be judged was declared wrongly, which the rest of the proof shows.
		target.Origins, _ = dashboard.Origins(machine(host.Sources{}), dashboard.Access{}, dashboard.Listener{Bind: f.Bind, Port: f.Port})
		target.Origins = target.Origins[min(1, len(target.Origins)):] // the first is its own
	}
	return resultOf(probe.Probe(ctx, target))
}

// probePublicURL proves that it opens at its public URL.
func probePublicURL(ctx context.Context, d gateway.Dashboard) health.Result {
	return resultOf(probe.Public(ctx, targetOf(d)))
}

func targetOf(d gateway.Dashboard) probe.Target {
	m, _ := agent.Lookup(d.Agent) // of an agent that is not known nothing more is known
	return probe.Target{Host: d.Forward.Bind, Port: d.Forward.Port, HealthPath: d.HealthPath, WebSocketPath: d.WebSocket,
		Protocol: m.Protocol, Token: d.Token, Access: d.Access}
}

func resultOf(r probe.Report) health.Result {
	return health.Result{Verdict: r.Verdict, Reason: r.Reason, Message: r.Message, Evidence: r.Evidence, Caveats: r.Caveats}
}

// machine is what package dashboard judges by, as it is now.
func machine(sources host.Sources) dashboard.Machine {
	getenv := sources.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	seat := sources.Seat()
	wsl := dashboard.DetectWSL(getenv, seat.Kernel)
	_, noOpener := opener(wsl)
	return dashboard.Machine{WSL: wsl, Opener: noOpener == nil, SSH: dashboard.DetectSSH(getenv), Container: seat.Container,
		Addresses: seat.Addresses, User: seat.User, Hostname: seat.Hostname, Display: seat.Display}
}

// registrar keeps the record for OpenShell clients.
func registrar(paths state.Gateway, runtime gateway.Runtime) layer.Registrar {
	if own, does := runtime.(registers); does {
		return layer.Registrar{Inspect: own.InspectRegistration, Write: own.Register}
	}
	credentials := func(ctx context.Context) (registration.Credentials, error) {
		c, err := clientFiles(ctx, runtime)
		return registration.CredentialsOf(c), err
	}
	endpoint := func() registration.Endpoint {
		e := runtime.Endpoint()
		return registration.Endpoint{Host: e.Host, Port: e.Port, Plaintext: e.Plaintext}
	}
	return layer.Registrar{
		Inspect: func(ctx context.Context) health.Result {
			began := time.Now()
			c, err := credentials(ctx)
			if err != nil {
				return health.Result{Verdict: health.Unknown, Reason: "secrets-unknown", Message: err.Error()}
			}
			r := registration.Inspect(paths, endpoint(), c)
			if message, opens := registeredByOthers(paths, runtime, r, c); opens {
				return health.Result{Verdict: health.OK, Message: message,
					Evidence: []health.Evidence{{Probe: "registration " + r.Directory, Answer: message, Verdict: health.OK, Took: health.Micros(time.Since(began))}}}
			}
			out := health.Result{Reason: r.State.Advisory(), Message: r.String(), Absent: r.State == registration.Absent,
				Evidence: []health.Evidence{{Probe: "registration " + r.Directory, Answer: r.String(), Took: health.Micros(time.Since(began))}}}
			switch r.State {
			case registration.OK:
				out.Verdict = health.OK
			case registration.Absent, registration.Stale, registration.Foreign:
				out.Verdict = health.Failed
			}
			out.Evidence[0].Verdict = out.Verdict
			return out
		},
		Write: func(ctx context.Context) error {
			c, err := credentials(ctx)
			if err != nil {
				return err
			}
			return registration.Write(paths, endpoint(), c, false)
		},
	}
}
