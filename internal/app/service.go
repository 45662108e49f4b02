package app

import (
	"context"
	"fmt"
	"os"

	"creel/internal/advisory"
	"creel/internal/bundle"
	"creel/internal/bundle/dirstore"
	"creel/internal/desired"
	"creel/internal/gateway"
	"creel/internal/gateway/embedded"
	"creel/internal/gateway/service"
	"creel/internal/server"
	"creel/internal/state"
	"creel/internal/systemd"
)

// service is what may keep a gateway: the service manager of whoever runs this.
func (g *graph) service(paths state.Gateway) *service.Service {
	return service.New(service.Config{
		Gateway: paths, Manager: systemd.New(g.getenv), Environment: embedded.ServiceEnvironment(g.getenv),
		Executable: func() (string, error) { return embedded.Self(paths.Roots) },
		Usable: func(ctx context.Context) error {
			store := dirstore.New(paths).Target()
			_, snapshot, err := bundle.Survey(ctx, store)
			if err == nil {
				_, err = bundle.Open(snapshot)
			}
			if err != nil {
				return err
			}
			return server.Usable(ctx, paths)
		},
	})
}

func (g *graph) lookAtService(ctx context.Context, name string) func(gateway.Observation) gateway.Service {
	return g.service(g.roots.Gateway(name)).Look(ctx)
}

// keepable is the runtime of a gateway that a service can keep.
func (g *graph) keepable(name string) (gateway.Runtime, *service.Service, error) {
	if _, err := g.findRoots(); err != nil {
		return nil, nil, err
	}
	r, err := g.runtime(name)
	if err != nil {
		return nil, nil, err
	}
	if r.Name() != desired.Embedded {
		return nil, nil, advisory.New("service-runtime", fmt.Sprintf("gateway %s is of runtime %s", name, r.Name()), nil)
	}
	return r, g.service(g.roots.Gateway(name)), nil
}

func (g *graph) installService(ctx context.Context, name string, report gateway.Progress) (gateway.Service, bool, error) {
	r, s, err := g.keepable(name)
	if err == nil {
		err = trusted(g.roots, os.Geteuid()) // a unit starts at every boot what lies there
	}
	if err != nil {
		return gateway.Service{}, false, err
	}
	return s.Install(ctx, r, report)
}

func (g *graph) uninstallService(ctx context.Context, name string, report gateway.Progress) (bool, error) {
	r, s, err := g.keepable(name)
	if err != nil {
		return false, err
	}
	return s.Uninstall(ctx, r, report)
}
