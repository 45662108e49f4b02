package evidence

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
func (c *Chain) application(ctx context.Context, conn *tls.Conn, t Target) gateway.Identity {
	start := time.Now()
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
		reason, message := judgeCall(ctx, err)
		c.Break(Health, Health, health.Failed, reason, message, time.Since(start))
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
		reason, message := judgeCall(ctx, err)
		c.Break(Identity, Identity, health.Failed, reason, message, time.Since(start))
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

func judgeCall(ctx context.Context, err error) (reason, message string) {
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		return "gateway-hung", "the gateway accepts calls and does not answer them"
	case codes.Unimplemented:
		return "gateway-not-ours", "what answers is no gateway of Creel: " + status.Convert(err).Message()
	case codes.PermissionDenied, codes.Unauthenticated:
		return "gateway-certificate-refused", "the gateway refuses our client certificate: " + status.Convert(err).Message()
	}
	if ctx.Err() != nil {
		return "gateway-hung", "the gateway accepts calls and does not answer them"
	}
	var alert tls.AlertError
	if errors.As(err, &alert) {
		return "gateway-certificate-refused", "the gateway refuses our client certificate: " + alert.Error()
	}
	return "gateway-unhealthy", "the gateway did not answer: " + status.Convert(err).Message()
}

func isExpired(err error) bool {
	var invalid x509.CertificateInvalidError
	return errors.As(err, &invalid) && invalid.Reason == x509.Expired
}
