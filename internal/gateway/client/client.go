// Package client speaks the gateway's API (openshell.v1 and creel.v1) and shows
// it in the project's own terms. Generated types do not leave it.
package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"

	creelv1 "creel/api/creel/v1"
	inferencev1 "creel/api/openshell/inference/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/budget"
	"creel/internal/gateway"
)

// maxMessage is what one answer may hold: 1,000 inspections fit many times.
const maxMessage = 16 << 20

// client implements gateway.Client.
type client struct {
	conn      *grpc.ClientConn
	openshell openshellv1.OpenShellClient
	inference inferencev1.InferenceClient
	creel     creelv1.CreelClient
	endpoint  string
}

var (
	_ gateway.Client  = (*client)(nil)
	_ gateway.Updater = (*client)(nil)
	_ gateway.Client  = (*foreign)(nil)
)

// Dial returns a client of the gateway at endpoint. It connects with the first
// call, not here; tlsConfig carries the client certificate and the pinned CA. A
// call to a gateway that does not answer fails at once, it does not wait for one.
// ctx is not kept.
func Dial(_ context.Context, endpoint gateway.Endpoint, tlsConfig *tls.Config) (gateway.Client, error) {
	if tlsConfig == nil {
		return nil, fmt.Errorf("dial gateway: no client certificate")
	}
	c, err := dial(endpoint, credentials.NewTLS(tlsConfig))
	if err != nil {
		return nil, err
	}
	return c, nil
}

func dial(endpoint gateway.Endpoint, transport credentials.TransportCredentials, more ...grpc.DialOption) (*client, error) {
	if endpoint.Host == "" || endpoint.Port < 1 || endpoint.Port > 65535 {
		return nil, fmt.Errorf("dial gateway: endpoint %s:%d is not known", endpoint.Host, endpoint.Port)
	}
	address := net.JoinHostPort(endpoint.Host, strconv.Itoa(endpoint.Port))
	options := append([]grpc.DialOption{grpc.WithTransportCredentials(transport),
		// What was named is dialled: no proxy, no service configuration from DNS.
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: budget.Of(budget.Probe),
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}})}, more...)
	conn, err := grpc.NewClient("passthrough:///"+address, options...)
	if err != nil {
		return nil, fmt.Errorf("dial gateway: %w", err)
	}
	return &client{conn: conn, openshell: openshellv1.NewOpenShellClient(conn), inference: inferencev1.NewInferenceClient(conn),
		creel: creelv1.NewCreelClient(conn), endpoint: address}, nil
}

// Close ends the connection.
func (c *client) Close() error { return c.conn.Close() }

// Identity implements gateway.Client.
func (c *client) Identity(ctx context.Context) (gateway.Identity, error) {
	const operation = "ask gateway's identity"
	ctx, cancel := budget.Context(ctx, budget.Operation, operation)
	defer cancel()
	r, err := c.creel.GetIdentity(ctx, &creelv1.GetIdentityRequest{})
	if err != nil {
		return gateway.Identity{}, c.problem(ctx, operation, err)
	}
	return gateway.Identity{Gateway: r.GetGateway(), InstanceID: r.GetInstanceId(), PID: int(r.GetPid()),
		StartedAt: time.UnixMilli(r.GetStartedAtMs()).UTC(), Version: r.GetVersion(), BuildID: r.GetBuildId()}, nil
}
