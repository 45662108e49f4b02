package server

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"creel/internal/advisory"
	"creel/internal/budget"
	"creel/internal/server/relay"
	"creel/internal/server/store"
)

// errorDomain marks the ErrorInfo detail that carries an advisory: its reason is
// the advisory's id, its metadata "hints" the commands, one a line.
const errorDomain = "creel"

// toStatus gives an error the code of the API notes (§2.2) and takes its advisory
// along.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, is := status.FromError(err); is {
		return err
	}
	s := status.New(codeOf(err), err.Error())
	if p, ok := advisory.Of(err); ok {
		info := &errdetails.ErrorInfo{Reason: p.ID, Domain: errorDomain}
		if len(p.Hints) > 0 {
			info.Metadata = map[string]string{"hints": strings.Join(p.Hints, "\n")}
		}
		if with, failed := s.WithDetails(info); failed == nil {
			s = with
		}
	}
	return s.Err()
}

func codeOf(err error) codes.Code {
	var expired *budget.Expired
	switch {
	case errors.Is(err, store.ErrNotFound):
		return codes.NotFound
	case errors.Is(err, store.ErrExists):
		return codes.AlreadyExists
	case errors.Is(err, store.ErrConflict):
		return codes.Aborted
	case errors.Is(err, relay.ErrBusy):
		return codes.ResourceExhausted
	case errors.Is(err, relay.ErrNotConnected):
		return codes.Unavailable
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.As(err, &expired), errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	}
	return codes.Internal
}

func invalid(err error) error { return status.Error(codes.InvalidArgument, err.Error()) }
