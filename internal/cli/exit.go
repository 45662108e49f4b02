package cli

import (
	"context"
	"errors"
	"fmt"

	"creel/internal/advisory"
	"creel/internal/health"
	"creel/internal/state"
)

// Exit codes of every command. exec and connect return the command's own.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitDegraded    = 3
	ExitUnknown     = 4
	ExitBusy        = 5
	ExitInterrupted = 130
)

// exitCode is an error that only carries an exit code: what there was to say has
// been said.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// unknownError is a question that could not be answered: neither yes nor no.
type unknownError struct{ cause error }

func (e *unknownError) Error() string { return e.cause.Error() }
func (e *unknownError) Unwrap() error { return e.cause }

// codeOf maps an error to the exit code. ctx is the command's context: only when
// it was cancelled is a cancelled call an interruption.
func codeOf(ctx context.Context, err error) int {
	var code exitCode
	var busy *state.Busy
	var unknown *unknownError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &busy):
		return ExitBusy
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return ExitInterrupted
	case errors.As(err, &unknown):
		return ExitUnknown
	case isUsage(err):
		return ExitUsage
	}
	return ExitFailed
}

// isUsage reports that the mistake is in what the user typed or set: an advisory
// of the layer "input" that is more than a remark.
func isUsage(err error) bool {
	p, ok := advisory.Of(err)
	if !ok {
		return false
	}
	a, known := advisory.Lookup(p.ID)
	return known && a.Layer == advisoryLayer && a.Severity != advisory.Info
}

const advisoryLayer = "input"

// usage makes an error of the user's input.
func usage(id, detail string, hints ...string) error {
	return advisory.New(id, detail, nil, hints...)
}

// usageCause is usage with an error as the detail.
func usageCause(id string, cause error, hints ...string) error {
	return advisory.New(id, "", cause, hints...)
}

// ofSummary is the exit code of an overall verdict.
func ofSummary(s health.Summary) int {
	switch s {
	case health.SummaryOK:
		return ExitOK
	case health.SummaryDegraded:
		return ExitDegraded
	case health.SummaryFailed:
		return ExitFailed
	}
	return ExitUnknown
}

// asError turns an exit code into the error that a command returns.
func asError(code int) error {
	if code == ExitOK {
		return nil
	}
	return exitCode(code)
}

// busyProblem explains a held lock.
func busyProblem(err error) error {
	var busy *state.Busy
	if !errors.As(err, &busy) {
		return err
	}
	if _, explained := advisory.Of(err); explained {
		return err
	}
	return advisory.New("gateway-busy", "another command is changing this gateway", err)
}
