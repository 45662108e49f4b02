package client

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"creel/internal/advisory"
	"creel/internal/gateway"
)

// errorDomain marks the ErrorInfo detail in which a gateway of ours sends an
// advisory.
const errorDomain = "creel"

// clockSlack is how much earlier than here a call's own deadline can end at the
// gateway.
const clockSlack = time.Second

// wrapping is what gRPC puts around the error of a connection, layer by layer.
var wrapping = regexp.MustCompile(`^(?:rpc error: code = \w+ desc = |connection error: desc = |transport: |[Ee]rror while dialing: |authentication handshake failed: |last (?:connection )?error: )`)

// plain is a message of gRPC without the words that only gRPC's authors understand.
func plain(message string) string {
	for {
		inner := message[len(wrapping.FindString(message)):]
		if unquoted, err := strconv.Unquote(inner); err == nil {
			inner = unquoted
		}
		if inner == message {
			return message
		}
		message = inner
	}
}

// problem turns what gRPC returned into what gateway.Client promises. A call that
// ended with its context returns the context's cause, a budget for one.
func (c *client) problem(ctx context.Context, operation string, err error) error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	cause := fmt.Errorf("%s: %s", operation, plain(s.Message()))
	// A deadline travels with the call, and the gateway's clock may strike first.
	if deadline, ok := ctx.Deadline(); ok && s.Code() == codes.DeadlineExceeded && time.Until(deadline) < clockSlack {
		<-ctx.Done()
	}
	if ctx.Err() != nil && (s.Code() == codes.Canceled || s.Code() == codes.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", operation, context.Cause(ctx))
	}
	switch s.Code() {
	case codes.NotFound:
		return fmt.Errorf("%w: %w", cause, gateway.ErrNotFound)
	case codes.AlreadyExists:
		return fmt.Errorf("%w: %w", cause, gateway.ErrAlreadyExists)
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			var hints []string
			if h := info.GetMetadata()["hints"]; h != "" {
				hints = strings.Split(h, "\n")
			}
			return advisory.New(info.GetReason(), cause.Error(), nil, hints...)
		}
	}
	switch s.Code() {
	case codes.Unavailable:
		return advisory.New("gateway-unreachable", "gateway at "+c.endpoint+" does not answer", cause)
	case codes.Unauthenticated, codes.PermissionDenied:
		return advisory.New("gateway-certificate-refused", "gateway at "+c.endpoint+" refused the call", cause)
	case codes.Unimplemented:
		return advisory.New("gateway-call-missing", "the gateway does not know this call; it may be of another version", cause, "creel gateway status", "creel gateway restart")
	}
	return cause
}
