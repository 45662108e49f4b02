package evidence

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	creelv1 "creel/api/creel/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/gateway"
	"creel/internal/health"
)

// application asks Health and identity over the connection that the TLS link
// made, so that nothing is asked of one listener and believed of another.
func (a *asker) application(ctx context.Context, conn net.Conn) gateway.Identity {
	c, t, start := a.chain, a.target, time.Now()
	first := make(chan net.Conn, 1)
	first <- conn
	cc, err := grpc.NewClient("passthrough:///gateway",
		// The connection is TLS already.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case c := <-first:
				return c, nil
			default:
				return nil, errors.New("the gateway closed the connection")
			}
		}))
	if err != nil {
		c.Break(Health, Health, health.Unknown, "gateway-unhealthy", "the question could not be asked: "+err.Error(), time.Since(start))
		c.Skip(Identity)
		return gateway.Identity{}
	}
	defer cc.Close()

	hr, err := openshellv1.NewOpenShellClient(cc).Health(ctx, &openshellv1.HealthRequest{})
	switch {
	case err != nil:
		a.breakCall(ctx, Health, err, time.Since(start))
	case hr.GetStatus() != openshellv1.ServiceStatus_SERVICE_STATUS_HEALTHY:
		c.Break(Health, Health, health.Failed, "gateway-unhealthy", "the gateway says of itself: "+hr.GetStatus().String(), time.Since(start))
	default:
		c.Hold(Health, "healthy, version "+hr.GetVersion(), time.Since(start))
	}
	if c.Broken() {
		c.Skip(Identity)
		return gateway.Identity{}
	}

	start = time.Now()
	id, err := creelv1.NewCreelClient(cc).GetIdentity(ctx, &creelv1.GetIdentityRequest{})
	switch {
	case err != nil:
		a.breakCall(ctx, Identity, err, time.Since(start))
		return gateway.Identity{}
	case t.InstanceID != "" && id.GetInstanceId() != t.InstanceID:
		c.Break(Identity, Identity, health.Failed, "gateway-not-ours",
			fmt.Sprintf("instance %s of gateway %q answers, the marker names %s", id.GetInstanceId(), id.GetGateway(), t.InstanceID), time.Since(start))
		return gateway.Identity{}
	}
	c.Hold(Identity, "instance "+id.GetInstanceId(), time.Since(start))
	return gateway.Identity{
		Gateway:    id.GetGateway(),
		InstanceID: id.GetInstanceId(),
		PID:        int(id.GetPid()),
		StartedAt:  time.UnixMilli(id.GetStartedAtMs()).UTC(),
		Version:    id.GetVersion(),
		BuildID:    id.GetBuildId(),
	}
}

// breakCall says what a call that failed means.
func (a *asker) breakCall(ctx context.Context, link string, err error, took time.Duration) {
	message := status.Convert(err).Message()
	reason := "gateway-unhealthy"
	switch code := status.Code(err); {
	case code == codes.DeadlineExceeded, ctx.Err() != nil:
		a.hang(link, link, "the gateway accepts calls and does not answer them", took)
		return
	case code == codes.PermissionDenied, code == codes.Unauthenticated:
		reason, message = "gateway-certificate-refused", "the gateway refuses our client certificate: "+message
	case code == codes.Unimplemented:
		reason, message = "gateway-not-ours", "what answers is no gateway of Creel: "+message
	default:
		message = "the gateway did not answer: " + message
	}
	a.chain.Break(link, link, health.Failed, reason, message, took)
}
