package client

import (
	"context"
	"errors"
	"time"

	creelv1 "creel/api/creel/v1"
	datamodelv1 "creel/api/openshell/datamodel/v1"
	inferencev1 "creel/api/openshell/inference/v1"
	openshellv1 "creel/api/openshell/v1"
	"creel/internal/budget"
	"creel/internal/gateway"
	"creel/internal/inference"
)

// The keys under which a gateway keeps a provider's address and key.
const (
	baseURLKey = "OPENAI_BASE_URL"
	apiKeyKey  = "OPENAI_API_KEY"
)

// SetProvider implements gateway.Client. An empty key removes a stored one.
func (c *client) SetProvider(ctx context.Context, r inference.Route) error {
	operation := "store provider " + r.Provider
	ctx, cancel := budget.Context(ctx, budget.Operation, operation)
	defer cancel()
	provider := &datamodelv1.Provider{Metadata: &datamodelv1.ObjectMeta{Name: r.Provider}, Type: r.Type,
		Config: map[string]string{baseURLKey: r.BaseURL}, Credentials: map[string]string{apiKeyKey: r.Key.Reveal()}}
	if provider.Type == "" {
		provider.Type = r.Provider
	}
	_, err := c.openshell.CreateProvider(ctx, &openshellv1.CreateProviderRequest{Provider: provider})
	if err = c.problem(ctx, operation, err); !errors.Is(err, gateway.ErrAlreadyExists) {
		return err
	}
	_, err = c.openshell.UpdateProvider(ctx, &openshellv1.UpdateProviderRequest{Provider: provider})
	return c.problem(ctx, operation, err)
}

// SetRoute implements gateway.Client. The provider is not asked: whoever stores
// its key has asked it before.
func (c *client) SetRoute(ctx context.Context, provider, model string) error {
	const operation = "set inference route"
	ctx, cancel := budget.Context(ctx, budget.Operation, operation)
	defer cancel()
	if provider == "" && model == "" {
		_, err := c.inference.DeleteInferenceRoute(ctx, &inferencev1.DeleteInferenceRouteRequest{})
		return c.problem(ctx, operation, err)
	}
	_, err := c.inference.SetInferenceRoute(ctx, &inferencev1.SetInferenceRouteRequest{ProviderName: provider, ModelId: model, NoVerify: true})
	return c.problem(ctx, operation, err)
}

// Route implements gateway.Client.
func (c *client) Route(ctx context.Context) (inference.Route, bool, error) {
	const operation = "ask for the inference route"
	ctx, cancel := budget.Context(ctx, budget.Operation, operation)
	defer cancel()
	r, err := c.inference.GetInferenceRoute(ctx, &inferencev1.GetInferenceRouteRequest{})
	if err = c.problem(ctx, operation, err); errors.Is(err, gateway.ErrNotFound) {
		return inference.Route{}, false, nil
	}
	if err != nil {
		return inference.Route{}, false, err
	}
	p, err := c.openshell.GetProvider(ctx, &openshellv1.GetProviderRequest{Name: r.GetProviderName()})
	if err = c.problem(ctx, operation, err); err != nil {
		return inference.Route{}, false, err
	}
	return inference.Route{Provider: r.GetProviderName(), Type: p.GetProvider().GetType(), Model: r.GetModelId(),
		BaseURL: p.GetProvider().GetConfig()[baseURLKey]}, true, nil
}

// CheckInference implements gateway.Client.
func (c *client) CheckInference(ctx context.Context, maxAge time.Duration) (inference.Check, error) {
	const operation = "ask the model provider"
	ctx, cancel := budget.Context(ctx, budget.Operation, operation)
	defer cancel()
	r, err := c.creel.CheckInference(ctx, &creelv1.CheckInferenceRequest{MaxAgeMs: maxAge.Milliseconds()})
	if err != nil {
		return inference.Check{}, c.problem(ctx, operation, err)
	}
	return inference.Check{Class: inference.Class(r.GetClass()), Verdict: verdictFrom(r.GetVerdict()), Message: r.GetMessage(),
		Endpoint: r.GetEndpoint(), Took: time.Duration(r.GetTookUs()) * time.Microsecond, At: at(r.GetCheckedAtMs())}, nil
}
