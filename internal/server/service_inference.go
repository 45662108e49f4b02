package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	inferencev1 "creel/api/openshell/inference/v1"
	"creel/internal/advisory"
	"creel/internal/health"
	"creel/internal/inference"
	"creel/internal/server/store"
)

const (
	// userRoute is the object name of the route that requests call "".
	userRoute = "user"
	// routeTimeout is a route's time-out in seconds when none is given.
	routeTimeout = 60
)

func routeObject(name string) string {
	if name == "" {
		return userRoute
	}
	return name
}

// inferenceService serves openshell.inference.v1.Inference.
type inferenceService struct {
	inferencev1.UnimplementedInferenceServer
	d *daemon
}

// resolved is a route with its provider, the key still sealed.
type resolved struct {
	route    store.Object[store.Route]
	provider store.Object[store.Provider]
}

// revision changes whenever the route or its provider does.
func (r resolved) revision() string {
	return fmt.Sprintf("%s.%d-%s.%d", r.route.ID, r.route.Version, r.provider.ID, r.provider.Version)
}

// resolve returns the user's route; its absence wraps store.ErrNotFound.
func (d *daemon) resolve(ctx context.Context) (resolved, error) {
	route, err := d.store.Routes.Get(ctx, "", userRoute)
	if err != nil {
		return resolved{}, err
	}
	provider, err := d.store.Providers.Get(ctx, "", route.Value.Provider)
	if err != nil {
		return resolved{}, err
	}
	return resolved{route, provider}, nil
}

// open makes the route usable: with the key.
func (d *daemon) open(r resolved) (inference.Route, error) {
	out := inference.Route{Provider: r.provider.Name, Type: r.provider.Value.Type, Model: r.route.Value.Model,
		BaseURL: baseURL(r.provider.Value)}
	if sealed, have := r.provider.Value.Credentials[apiKeyKey]; have {
		key, err := d.keyring.Open(sealed)
		if err != nil {
			return out, advisory.New("credential-key-unusable", "open the credential of provider "+r.provider.Name, err)
		}
		out.Key = key
	}
	return out, nil
}

// baseURL is the configured address, else the provider type's own.
func baseURL(p store.Provider) string {
	if u := p.Config[baseURLKey]; u != "" {
		return strings.TrimRight(u, "/")
	}
	if known, err := inference.Lookup(p.Type); err == nil {
		return known.BaseURL
	}
	return ""
}

func (s *inferenceService) SetInferenceRoute(ctx context.Context, r *inferencev1.SetInferenceRouteRequest) (*inferencev1.SetInferenceRouteResponse, error) {
	if err := checkWorkspace(r.GetWorkspace()); err != nil {
		return nil, err
	}
	if strings.TrimSpace(r.GetModelId()) == "" || strings.ContainsAny(r.GetModelId(), " \t\r\n\x00") {
		return nil, invalid(fmt.Errorf("model id %q is empty or holds white space", r.GetModelId()))
	}
	if r.GetVerify() && r.GetNoVerify() {
		return nil, invalid(errors.New("verify and no_verify contradict each other"))
	}
	provider, err := s.d.store.Providers.Get(ctx, "", r.GetProviderName())
	if errors.Is(err, store.ErrNotFound) {
		return nil, advisoryStatus(codes.FailedPrecondition, advisory.New("provider-missing",
			fmt.Sprintf("provider %q is not stored", r.GetProviderName()), nil))
	}
	if err != nil {
		return nil, err
	}
	value := store.Route{Provider: provider.Name, Model: r.GetModelId(), TimeoutSecs: r.GetTimeoutSecs()}
	if value.TimeoutSecs == 0 {
		value.TimeoutSecs = routeTimeout
	}
	answer := &inferencev1.SetInferenceRouteResponse{ProviderName: provider.Name, ModelId: value.Model, RouteName: r.GetRouteName(),
		TimeoutSecs: value.TimeoutSecs, Workspace: store.DefaultWorkspace}
	if !r.GetNoVerify() && s.d.cfg.Check != nil {
		endpoint, err := s.verify(ctx, resolved{store.Object[store.Route]{Value: value}, provider})
		if err != nil {
			return nil, err
		}
		answer.ValidationPerformed, answer.ValidatedEndpoints = true, []*inferencev1.ValidatedEndpoint{{Url: endpoint, Protocol: "openai"}}
	}
	o, err := s.put(ctx, routeObject(r.GetRouteName()), value)
	if err != nil {
		return nil, err
	}
	answer.Version = o.Version
	return answer, nil
}

// verify asks the provider before the route is stored.
func (s *inferenceService) verify(ctx context.Context, r resolved) (string, error) {
	route, err := s.d.open(r)
	if err != nil {
		return "", err
	}
	c := s.d.cfg.Check(ctx, route)
	if c.Verdict == health.OK {
		return c.Endpoint, nil
	}
	id, code := "provider-endpoint", codes.FailedPrecondition
	switch c.Class {
	case inference.ClassTransport:
		id, code = "provider-unreachable", codes.Unavailable
	case inference.ClassCredential:
		id = "provider-credential"
	case inference.ClassModel:
		id = "provider-model"
	}
	return "", advisoryStatus(code, advisory.New(id, c.Message, nil))
}

func (s *inferenceService) put(ctx context.Context, name string, value store.Route) (store.Object[store.Route], error) {
	o, err := s.d.store.Routes.Get(ctx, "", name)
	if errors.Is(err, store.ErrNotFound) {
		return s.d.store.Routes.Create(ctx, store.Object[store.Route]{ID: uuid.NewString(), Name: name, Value: value})
	}
	if err != nil {
		return o, err
	}
	return s.d.store.Routes.Change(ctx, o.ID, func(o *store.Object[store.Route]) error {
		o.Value = value
		return nil
	})
}

func (s *inferenceService) GetInferenceRoute(ctx context.Context, r *inferencev1.GetInferenceRouteRequest) (*inferencev1.GetInferenceRouteResponse, error) {
	o, err := s.d.store.Routes.Get(ctx, r.GetWorkspace(), routeObject(r.GetRouteName()))
	if err != nil {
		return nil, err
	}
	return &inferencev1.GetInferenceRouteResponse{ProviderName: o.Value.Provider, ModelId: o.Value.Model, Version: o.Version,
		RouteName: r.GetRouteName(), TimeoutSecs: o.Value.TimeoutSecs, Workspace: o.Workspace}, nil
}

func (s *inferenceService) DeleteInferenceRoute(ctx context.Context, r *inferencev1.DeleteInferenceRouteRequest) (*inferencev1.DeleteInferenceRouteResponse, error) {
	o, err := s.d.store.Routes.Get(ctx, r.GetWorkspace(), routeObject(r.GetRouteName()))
	if errors.Is(err, store.ErrNotFound) {
		return &inferencev1.DeleteInferenceRouteResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	deleted, err := s.d.store.Routes.Delete(ctx, o.ID)
	return &inferencev1.DeleteInferenceRouteResponse{Deleted: deleted}, err
}

// GetInferenceBundle gives a supervisor what its relay needs, the key too. It
// travels over the Unix socket only.
func (s *inferenceService) GetInferenceBundle(ctx context.Context, _ *inferencev1.GetInferenceBundleRequest) (*inferencev1.GetInferenceBundleResponse, error) {
	if err := s.d.served(ctx, caller(ctx).SandboxID); err != nil {
		return nil, err
	}
	out := &inferencev1.GetInferenceBundleResponse{Revision: "none", GeneratedAtMs: s.d.cfg.Now().UnixMilli()}
	r, err := s.d.resolve(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	route, err := s.d.open(r)
	if err != nil {
		return nil, err
	}
	out.Revision = r.revision()
	out.Routes = []*inferencev1.ResolvedRoute{{Name: "inference.local", BaseUrl: route.BaseURL,
		Protocols: []string{"openai_chat_completions", "openai_completions", "openai_responses", "model_discovery"},
		ApiKey:    route.Key.Reveal(), ModelId: route.Model, ProviderType: route.Type, TimeoutSecs: r.route.Value.TimeoutSecs}}
	return out, nil
}

// checkInference asks the provider, or returns what it answered within maxAge.
func (d *daemon) checkInference(ctx context.Context, maxAge time.Duration) (inference.Check, inference.Route, error) {
	r, err := d.resolve(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return inference.Check{Class: inference.ClassNone, Verdict: health.OK, Message: "no model is set", At: d.cfg.Now()}, inference.Route{}, nil
	}
	if err != nil {
		return inference.Check{}, inference.Route{}, err
	}
	route, err := d.open(r)
	if err != nil {
		return inference.Check{}, route, err
	}
	if d.cfg.Check == nil {
		return inference.Check{Class: inference.ClassTransport, Message: "this gateway cannot ask providers", At: d.cfg.Now()}, route, nil
	}
	d.checking.Lock() // who comes second shares the first one's answer
	defer d.checking.Unlock()
	age := d.cfg.Now().Sub(d.lastCheck.At)
	if d.checked == r.revision() && age >= 0 && age <= maxAge {
		return d.lastCheck, route, nil
	}
	c := d.cfg.Check(ctx, route)
	if ctx.Err() != nil { // the question was given up: that says nothing about the provider
		return c, route, ctx.Err()
	}
	d.lastCheck, d.checked = c, r.revision()
	return c, route, nil
}

// advisoryStatus is a status of a given code that carries an advisory.
func advisoryStatus(code codes.Code, p *advisory.Problem) error {
	carried := status.Convert(toStatus(p)).Proto()
	carried.Code = int32(code)
	return status.FromProto(carried).Err()
}
