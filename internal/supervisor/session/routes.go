package session

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	inferencev1 "creel/api/openshell/inference/v1"
	"creel/internal/budget"
	"creel/internal/credential"
	"creel/internal/inference"
	"creel/internal/inference/relay"
)

// systemRoute is the route that OpenShell keeps for its own use.
const systemRoute = "sandbox-system"

// Routes is the inference route as the gateway last said it; a relay.Routes. It
// lives in memory only, and serves while the gateway is away.
type Routes struct {
	fresh time.Duration

	mu     sync.Mutex                  // held while the gateway is asked: those who come meanwhile get the same answer
	client inferencev1.InferenceClient // nil without a session
	asked  time.Time                   // when the gateway was last asked, whatever it said
	first  chan struct{}               // closed with the first answer
	known  bool                        // route and err are what it said
	route  inference.Route
	err    error // relay.ErrNoRoute or nil
}

var errUnknown = errors.New("the gateway has not said which model answers")

// Route implements relay.Routes. A request that comes before the first session
// waits for it, for a moment.
func (r *Routes) Route(ctx context.Context, renew bool) (inference.Route, error) {
	ctx, cancel := budget.Context(ctx, budget.Probe, "wait for the gateway's first session")
	defer cancel()
	route, err := r.now(ctx, renew)
	if !errors.Is(err, errUnknown) {
		return route, err
	}
	select {
	case <-r.first:
		return r.now(ctx, false)
	case <-ctx.Done():
		return inference.Route{}, errUnknown
	}
}

func (r *Routes) now(ctx context.Context, renew bool) (inference.Route, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client != nil && (renew || time.Since(r.asked) >= r.fresh) {
		r.ask(ctx)
	}
	if !r.known {
		return inference.Route{}, errUnknown
	}
	return r.route, r.err
}

// attach makes client the one to ask; nil is none.
func (r *Routes) attach(client inferencev1.InferenceClient) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.client = client
}

// keep asks at once and then from time to time until ctx ends.
func (r *Routes) keep(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		_, _ = r.now(ctx, true)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// ask replaces what is known by what the gateway says; when it says nothing,
// what is known stays.
func (r *Routes) ask(ctx context.Context) {
	ctx, cancel := budget.Context(ctx, budget.Probe, "ask the gateway for the inference route")
	defer cancel()
	bundle, err := r.client.GetInferenceBundle(ctx, &inferencev1.GetInferenceBundleRequest{})
	r.asked = time.Now()
	if err != nil {
		return
	}
	if !r.known {
		close(r.first)
	}
	r.known, r.route, r.err = true, inference.Route{}, relay.ErrNoRoute
	for _, resolved := range bundle.GetRoutes() {
		if resolved.GetName() == systemRoute || resolved.GetBaseUrl() == "" || resolved.GetModelId() == "" {
			continue
		}
		provider := resolved.GetProviderType()
		if provider == "" {
			provider = "custom"
		}
		r.route, r.err = inference.Route{Provider: provider, Type: provider, BaseURL: strings.TrimRight(resolved.GetBaseUrl(), "/"),
			Model: resolved.GetModelId(), Key: credential.NewSecret(resolved.GetApiKey())}, nil
		return
	}
}
