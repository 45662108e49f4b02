package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	openshellv1 "creel/api/openshell/v1"
	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/inference"
	"creel/internal/sandbox"
)

// page is how many sandboxes one call lists; the API's own limit.
const page = 1000

// foreign is the client of a gateway that we did not write: it serves openshell.v1
// and nothing of creel.v1. What it cannot tell is refused in words or left out of
// an inspection, never made up.
type foreign struct {
	gateway.Client // the calls that are the same
	c              *client
	version        string
}

// DialOpenShell connects to a gateway of OpenShell, asks its version and refuses
// one whose sandbox API is another (advisory gateway-version-unsupported).
func DialOpenShell(ctx context.Context, endpoint gateway.Endpoint, access gateway.Access) (gateway.Client, error) {
	transport := insecure.NewCredentials()
	if access.TLS != nil {
		transport = credentials.NewTLS(access.TLS)
	}
	var options []grpc.DialOption
	if len(access.Headers) > 0 {
		options = append(options,
			grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, in, out any, cc *grpc.ClientConn, next grpc.UnaryInvoker, o ...grpc.CallOption) error {
				return next(attach(ctx, access.Headers), method, in, out, cc, o...)
			}),
			grpc.WithChainStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
				return next(attach(ctx, access.Headers), d, cc, method, o...)
			}))
	}
	c, err := dial(endpoint, transport, options...)
	if err != nil {
		return nil, err
	}
	version, err := c.health(ctx)
	if err == nil {
		err = CheckVersion(version)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &foreign{Client: c, c: c, version: version}, nil
}

// health returns the version of a gateway that calls itself healthy.
func (c *client) health(ctx context.Context) (string, error) {
	const operation = "ask the gateway's version"
	ctx, cancel := budget.Context(ctx, budget.Probe, operation)
	defer cancel()
	r, err := c.openshell.Health(ctx, &openshellv1.HealthRequest{})
	if err != nil {
		return "", c.problem(ctx, operation, err)
	}
	return r.GetVersion(), nil
}

// Identity implements gateway.Client: the version is all that is told.
func (f *foreign) Identity(ctx context.Context) (gateway.Identity, error) {
	version, err := f.c.health(ctx)
	return gateway.Identity{Version: version}, err
}

// Inspect implements gateway.Client. The gateway tells phases and messages; of
// the process inside, its policy and its health it says nothing (Partial).
func (f *foreign) Inspect(ctx context.Context, _ bool, names ...string) ([]gateway.Inspection, error) {
	const operation = "inspect sandboxes"
	ctx, cancel := budget.Context(ctx, budget.Operation, operation)
	defer cancel()
	var all []gateway.Inspection
	for _, name := range names {
		s, err := f.c.get(ctx, operation, name)
		switch {
		case errors.Is(err, gateway.ErrNotFound):
		case err != nil:
			return nil, err
		case s.GetMetadata().GetName() != name:
			return nil, fmt.Errorf("%s: asked for %s, the gateway told of %s", operation, name, nameFrom(s.GetMetadata().GetName()))
		default:
			all = append(all, partial(s))
		}
	}
	for offset := uint32(0); len(names) == 0; offset += page {
		r, err := f.c.openshell.ListSandboxes(ctx, &openshellv1.ListSandboxesRequest{Limit: page, Offset: offset})
		if err != nil {
			return nil, f.c.problem(ctx, operation, err)
		}
		for _, s := range r.GetSandboxes() {
			all = append(all, partial(s))
		}
		if len(r.GetSandboxes()) < page {
			break
		}
	}
	return all, nil
}

// partial is what an OpenShell gateway tells of a sandbox.
func partial(s *openshellv1.Sandbox) gateway.Inspection {
	i := shown(s)
	i.Partial = true
	i.Wanted = sandbox.Running
	if i.Phase == sandbox.Stopped || i.Phase == sandbox.Stopping {
		i.Wanted = sandbox.NotRunning
	}
	i.Labels = s.GetMetadata().GetLabels()
	// The gateway calls a sandbox ready while its supervisor's session stands.
	i.Connected = i.Phase == sandbox.Ready
	return i
}

// CreateSandbox implements gateway.Client. What only Creel's driver reads is left
// out: another gateway has no use for it.
func (f *foreign) CreateSandbox(ctx context.Context, name string, spec sandbox.Spec) (gateway.Inspection, error) {
	operation := "create sandbox " + name
	ctx, cancel := budget.Context(ctx, budget.Operation, operation)
	defer cancel()
	r, err := f.c.openshell.CreateSandbox(ctx, &openshellv1.CreateSandboxRequest{Name: name, Labels: spec.Labels,
		Spec: &openshellv1.SandboxSpec{LogLevel: spec.LogLevel, Environment: spec.Environment, Providers: spec.Providers,
			Command: spec.Command, Tty: spec.TTY}})
	if err != nil {
		return gateway.Inspection{}, f.c.problem(ctx, operation, err)
	}
	return partial(r.GetSandbox()), nil
}

// WaitSandbox implements gateway.Client.
func (f *foreign) WaitSandbox(ctx context.Context, name string, report gateway.Progress) (gateway.Inspection, error) {
	last, err := f.c.await(ctx, name, report)
	last.Partial = true
	return last, err
}

// lacking is the refusal of what only a gateway of Creel serves.
func (f *foreign) lacking(what string) error {
	return advisory.New("gateway-call-missing", fmt.Sprintf("a gateway of OpenShell (version %s) %s", f.version, what), nil)
}

// Dashboard implements gateway.Client.
func (f *foreign) Dashboard(context.Context, string, bool) (gateway.Dashboard, error) {
	return gateway.Dashboard{}, f.lacking("keeps no dashboard listeners")
}

// CheckInference implements gateway.Client.
func (f *foreign) CheckInference(context.Context, time.Duration) (inference.Check, error) {
	return inference.Check{}, f.lacking("does not ask model providers on request")
}

// attach adds the headers of an access to a call.
func attach(ctx context.Context, headers []gateway.Header) context.Context {
	for _, h := range headers {
		ctx = metadata.AppendToOutgoingContext(ctx, h.Name, h.Value.Reveal())
	}
	return ctx
}
