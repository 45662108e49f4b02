package app

import (
	"context"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"creel/internal/advisory"
	"creel/internal/dashboard/probe"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/layer"
	"creel/internal/registration"
	"creel/internal/state"
)

// probeDashboard proves that a dashboard opens.
func probeDashboard(ctx context.Context, d gateway.Dashboard) (health.Verdict, string, string, []health.Evidence) {
	r := probe.Probe(ctx, probe.Target{Host: d.Forward.Bind, Port: d.Forward.Port, HealthPath: d.HealthPath,
		WebSocketPath: d.WebSocket, Token: d.Token})
	return r.Verdict, r.Reason, r.Message, r.Evidence
}

// openBrowser hands a URL to the desktop's opener.
func openBrowser(ctx context.Context, url string) error {
	opener := "xdg-open"
	if runtime.GOOS == "darwin" {
		opener = "open"
	}
	path, err := exec.LookPath(opener)
	if err != nil {
		return advisory.New("browser-missing", "no program to open a browser was found", err)
	}
	cmd := exec.CommandContext(ctx, path, url)
	// A session of its own: an interrupt in the shell is not for the browser.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Run()
}

// registrar keeps the record for OpenShell clients.
func registrar(paths state.Gateway, runtime gateway.Runtime) layer.Registrar {
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
