package layer

import (
	"context"

	"creel/internal/health"
)

// Registrar keeps the record by which OpenShell clients find the gateway.
type Registrar struct {
	// Inspect reports the record; found.Layer and Subject are filled in later.
	Inspect func(ctx context.Context) health.Result
	Write   func(ctx context.Context) error
}

type registrationLayer struct{ registrar Registrar }

// NewRegistration is the layer of the client-side record.
func NewRegistration(r Registrar) Layer { return &registrationLayer{r} }

func (r *registrationLayer) ID() ID          { return Registration }
func (r *registrationLayer) Subject() string { return "registration" }
func (r *registrationLayer) Title() string   { return "Registration" }

func (r *registrationLayer) Inspect(ctx context.Context) health.Result {
	found := r.registrar.Inspect(ctx)
	if found.Verdict == health.OK {
		return found
	}
	return withHints(found)
}

func (r *registrationLayer) Plan(_ context.Context, found health.Result) []Action {
	if found.Verdict == health.OK || found.Reason == "registration-foreign" ||
		found.Verdict == health.Unknown && !blocked(found) {
		return nil
	}
	return []Action{{ID: "write-registration", Title: "register the gateway for OpenShell clients"}}
}

func (r *registrationLayer) Mend(ctx context.Context, do Action, _ Progress) error {
	if do.ID != "write-registration" {
		return noSuchAction(r, do)
	}
	return r.registrar.Write(ctx)
}
