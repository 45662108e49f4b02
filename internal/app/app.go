// Package app is the composition root: the only place that names real runtimes,
// drivers and stores, and joins them to the commands. It decides nothing.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"creel/internal/advisory"
	"creel/internal/agent/console"
	"creel/internal/agent/openclaw"
	"creel/internal/bundle"
	"creel/internal/cli"
	"creel/internal/cli/ui"
	"creel/internal/credential"
	"creel/internal/dashboard"
	"creel/internal/desired"
	"creel/internal/gateway"
	"creel/internal/gateway/embedded"
	"creel/internal/gateway/external"
	"creel/internal/gateway/launch"
	"creel/internal/gateway/openshell"
	"creel/internal/host"
	"creel/internal/inference"
	"creel/internal/layer"
	"creel/internal/onboard/ladder"
	"creel/internal/registration"
	"creel/internal/sandbox"
	"creel/internal/sandbox/process"
	"creel/internal/server"
	"creel/internal/state"
	"creel/internal/supervisor"
	"creel/internal/supervisor/confine"
	"creel/internal/version"
)

// Options change the program for tests.
type Options struct {
	// AfterEntry is called when a journal entry is on disk.
	AfterEntry func(ladder.Entry)
	// AfterStep is called after each step of a gateway's upgrade.
	AfterStep func(name string)
}

// Main runs one command line on the process's own streams and environment and
// returns its exit code.
func Main(ctx context.Context, args []string, o Options) int {
	g := &graph{getenv: os.Getenv, afterStep: o.AfterStep}
	deps := cli.Deps{
		Streams: ui.NewStreams(os.Stdin, os.Stdout, os.Stderr, os.Getenv),
		Getenv:  os.Getenv,
		Build:   cli.Build{Version: version.Version(), ID: version.BuildID()},
		Roots:   g.findRoots,
		Runtime: func(name string) (gateway.Runtime, error) {
			if _, err := g.findRoots(); err != nil {
				return nil, err
			}
			return g.runtime(name)
		},
		Layers:         g.layers,
		AfterEntry:     o.AfterEntry,
		ProbeDashboard: probeDashboard,
		ProbePublicURL: probePublicURL,
		Machine:        func() dashboard.Machine { return machine(host.Sources{}) },
		OpenBrowser: func(ctx context.Context, url string) error {
			return openBrowser(ctx, g.wsl(), url)
		},
		Destroy:        g.destroy,
		SavedLog:       g.savedLog,
		ClusterSecrets: clusterSecrets,
		AttachRegistration: func(name string, c bundle.ClientFiles, belongs func([]byte) bool, force bool) (string, error) {
			if _, err := g.findRoots(); err != nil {
				return "", err
			}
			a, err := registration.Attach(g.roots.Gateway(name), c, belongs, force)
			return string(a), err
		},
		Service:          g.lookAtService,
		InstallService:   g.installService,
		UninstallService: g.uninstallService,
		Uninstall:        g.uninstall,
		Serve:            g.serve,
		Forward:          g.forward,
		Supervise: func(ctx context.Context, dir string) int {
			return supervisor.Main(ctx, dir, os.NewFile(3, "ready"))
		},
		Confine:  confine.Main,
		Console:  func(ctx context.Context) int { return console.Main(ctx, os.Getenv, os.Stderr) },
		OpenClaw: func(program []string) int { return openclaw.Main(program, openclaw.This(os.Stderr)) },
	}
	return cli.Main(ctx, args, deps)
}

// graph makes the parts when they are needed.
type graph struct {
	getenv    func(string) string
	afterStep func(string)
	roots     state.Roots
	found     bool
}

func (g *graph) findRoots() (state.Roots, error) {
	if g.found {
		return g.roots, nil
	}
	r, err := state.RootsFrom(g.getenv)
	if err != nil {
		return r, err
	}
	// Root executes what lies there. Whoever else owns it would be root.
	if uid := os.Geteuid(); uid == 0 {
		if err := trusted(r, uid); err != nil {
			return r, err
		}
	}
	g.roots, g.found = r, true
	return r, nil
}

// runtime is the runtime of a gateway as its desired state says.
func (g *graph) runtime(name string) (gateway.Runtime, error) {
	paths := g.roots.Gateway(name)
	doc, err := desired.Load(paths.Desired())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return g.embedded(paths, 0, false), nil
	case err != nil:
		return nil, err
	}
	return g.wanted(paths, doc), nil
}

// wanted is the runtime that a document asks for.
func (g *graph) wanted(paths state.Gateway, doc desired.Document) gateway.Runtime {
	port := doc.Gateway.Port
	switch doc.Runtime {
	case desired.OpenShell:
		return openshell.New(openshell.Config{Gateway: paths, Getenv: g.getenv, Port: port, PortExplicit: port != 0,
			Plaintext: doc.Gateway.TLS == desired.Plaintext, AfterStep: g.afterStep})
	case desired.K3s:
		return g.k3s(paths, doc)
	case desired.External:
		return external.New(external.Config{Gateway: paths, Endpoint: doc.Gateway.Endpoint})
	case desired.Kubernetes:
		return g.kubernetes(paths, doc)
	}
	return g.embedded(paths, port, port != 0)
}

func (g *graph) embedded(paths state.Gateway, port int, explicit bool) gateway.Runtime {
	return embedded.New(embedded.Config{Gateway: paths, Getenv: g.getenv, Port: port, PortExplicit: explicit, AfterStep: g.afterStep,
		Usable: func(ctx context.Context) error { return server.Usable(ctx, paths) }, Keeper: g.service(paths)})
}

func (g *graph) driver(paths state.Gateway) sandbox.Driver {
	return process.New(paths, func() (string, error) { return embedded.Self(paths.Roots) }, process.Options{})
}

// savedLog reads what a sandbox's agent wrote, from disk.
func (g *graph) savedLog(ctx context.Context, gatewayName, name string, w io.Writer, lines int, follow bool) error {
	paths := g.roots.Gateway(gatewayName)
	handles, err := g.driver(paths).Handles(ctx)
	i := slices.IndexFunc(handles, func(h sandbox.Handle) bool { return h.Name == name })
	if i < 0 {
		return errors.Join(gateway.ErrNotFound, err)
	}
	return launch.ReadLog(ctx, w, paths.Sandbox(handles[i].ID).Log(state.AgentLogFile), lines, follow)
}

// serve is the daemon.
func (g *graph) serve(ctx context.Context, name string) error {
	if _, err := g.findRoots(); err != nil {
		return err
	}
	paths := g.roots.Gateway(name)
	port := 0
	if doc, err := desired.Load(paths.Desired()); err == nil {
		if doc.Runtime != desired.Embedded {
			return advisory.New("runtime-changed", fmt.Sprintf("gateway %s is of runtime %s and is not served by Creel", name, doc.Runtime), nil, "creel gateway start", "creel gateway status")
		}
		port = doc.Gateway.Port
	}
	return embedded.Serve(ctx, embedded.ServeConfig{
		Gateway:      paths,
		Driver:       g.driver(paths),
		Port:         port,
		PortExplicit: port != 0,
		Server: func(ctx context.Context, in embedded.ServerInput, ready func(embedded.Ready)) error {
			return server.Run(ctx, server.Config{
				Gateway: in.Gateway, Material: in.Material, Certificate: in.Certificate, Port: in.Port, PortExplicit: in.PortExplicit, Driver: in.Driver,
				Version: in.Version, BuildID: in.BuildID, Log: in.Log, Check: inference.CheckRoute,
			}, func(r server.Ready) {
				ready(embedded.Ready{InstanceID: r.InstanceID, Host: r.Host, Port: r.Port})
			})
		},
	})
}

// wsl reports whether this is a Linux inside Windows.
func (g *graph) wsl() bool { return dashboard.DetectWSL(g.getenv, host.Collect().Kernel) }

// layers builds the layers of what is wanted, lowest first.
func (g *graph) layers(_ context.Context, doc desired.Document, scope cli.Scope) (cli.Stack, error) {
	if _, err := g.findRoots(); err != nil {
		return cli.Stack{}, err
	}
	paths := g.roots.Gateway(doc.Name)
	runtime := g.wanted(paths, doc)
	session := layer.NewSession(runtime)
	key := scope.Key
	if key == nil {
		key = func() credential.Secret { return credential.Secret{} }
	}
	options := []layer.GatewayOption{layer.OnPort(doc.Gateway.Port)}
	switch doc.Runtime {
	case desired.K3s:
		options = nil // its port was decided when its container was made
	case desired.OpenShell:
		options = append(options, layer.InPlaintext(doc.Gateway.TLS == desired.Plaintext))
	}
	all := []layer.Layer{
		layer.NewHost(g.hostChecks(paths, doc)),
		layer.NewSecrets(runtime),
		layer.NewGateway(doc.Name, runtime, session, options...),
		layer.NewRegistration(registrar(paths, runtime)),
		layer.NewInference(session, layer.WantedInference{
			Provider: doc.Inference.Provider, BaseURL: doc.Inference.EndpointURL, Model: doc.Inference.Model,
			Key: key, Check: inference.CheckRoute,
		}),
	}
	if _, inside := runtime.(gateway.Housing); inside {
		all[1], all[2] = all[2], all[1] // its secrets can be asked only while it runs
	}
	wsl := g.wsl()
	for _, s := range doc.Sandboxes {
		if scope.Sandbox != "" && s.Name != scope.Sandbox {
			continue
		}
		spec, err := s.Spec(wsl)
		if err != nil {
			return cli.Stack{}, fmt.Errorf("sandbox %s: %w", s.Name, err)
		}
		want, err := layer.NewWantedSandbox(s.Name, spec, s.Wanted)
		if err != nil {
			return cli.Stack{}, err
		}
		var examine []layer.Examination
		if e := layer.WebSearch(spec); scope.Deep && e != nil {
			examine = append(examine, e)
		}
		all = append(all, layer.NewSandbox(session, want), layer.NewAgent(session, want, examine...), layer.NewDashboard(session, want, probeDashboard))
	}
	if doc.Runtime == desired.External {
		// Both are its owner's; the gateway's own layer reads the registration.
		all = slices.DeleteFunc(all, func(l layer.Layer) bool { return l.ID() == layer.Secrets || l.ID() == layer.Registration })
	}
	if doc.Runtime != desired.Embedded && doc.GatewayOnly() && !slices.Contains(scope.Only, layer.Inference) {
		// Its model routes are its owner's affair, and gateways up to 0.0.36 cannot be
		// asked for them; who names this layer means it.
		all = slices.DeleteFunc(all, func(l layer.Layer) bool { return l.ID() == layer.Inference })
	}
	if len(scope.Only) > 0 {
		all = slices.DeleteFunc(all, func(l layer.Layer) bool { return !slices.Contains(scope.Only, l.ID()) })
	}
	return cli.Stack{Layers: all, Close: session.Close}, nil
}
