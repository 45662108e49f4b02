package layer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"creel/internal/advisory"
	"creel/internal/credential"
	"creel/internal/gateway"
	"creel/internal/health"
	"creel/internal/inference"
)

// checkFreshFor is how old a provider's answer may be that an inspection shows.
const checkFreshFor = 15 * time.Second

// WantedInference is the route that should be there.
type WantedInference struct {
	Provider string // "none" wants no route
	BaseURL  string // "" is the provider's default
	Model    string
	// Key returns the provider's key as the user supplies it in this run; empty
	// when there is none, which is fine when one is stored already.
	Key func() credential.Secret
	// Check asks a provider before anything of it is stored.
	Check func(ctx context.Context, r inference.Route) inference.Check
}

type inferenceLayer struct {
	session *Session
	want    WantedInference
}

// NewInference is the layer of the model provider and route.
func NewInference(s *Session, want WantedInference) Layer { return &inferenceLayer{s, want} }

func (i *inferenceLayer) ID() ID          { return Inference }
func (i *inferenceLayer) Subject() string { return "inference" }
func (i *inferenceLayer) Title() string   { return "Inference" }

func (i *inferenceLayer) none() bool { return i.want.Provider == inference.NoProvider }

func (i *inferenceLayer) Inspect(ctx context.Context) health.Result {
	c, err := i.session.Client(ctx)
	if err != nil {
		return unknown("gateway-unknown", err)
	}
	route, there, err := c.Route(ctx)
	if err != nil {
		return unknown("gateway-unknown", err)
	}
	if r := i.want.Compare(route, there); r.Verdict != health.OK || !there {
		return r
	}
	check, err := c.CheckInference(ctx, checkFreshFor)
	if err == nil && check.Verdict != health.OK && time.Since(check.At) > time.Second {
		check, err = c.CheckInference(ctx, 0) // an old failure may have been mended since
	}
	if p, known := advisory.Of(err); known && p.ID == "gateway-call-missing" {
		r := ok("%s is set, model %s", route.Provider, route.Model)
		r.Caveats = []health.Caveat{{Advisory: p.ID, Message: "whether the provider answers is not known: " + p.Detail}}
		return r
	}
	if err != nil {
		return unknown("gateway-unknown", err)
	}
	e := health.Evidence{Probe: "provider " + check.Endpoint, Answer: check.Message, Verdict: check.Verdict, Took: health.Micros(check.Took)}
	var r health.Result
	switch check.Verdict {
	case health.OK:
		r = ok("%s answers, model %s", route.Provider, route.Model)
	case health.Failed:
		r = failed(checkReason(check.Class), "%s", check.Message)
	default:
		r = unknown(checkReason(check.Class), advisory.New(checkReason(check.Class), check.Message, nil, i.start("creel inference get")...))
	}
	r.Evidence = []health.Evidence{e}
	return r
}

// start are the commands that start a provider of this machine, and then more; nil for
// others.
func (i *inferenceLayer) start(then ...string) []string {
	p, err := inference.Lookup(i.want.Provider)
	if err != nil || len(p.Start) == 0 || i.want.baseURL() != p.BaseURL {
		return nil
	}
	return append(p.Start, then...)
}

// Compare says whether the route that there is, or none, is the one wanted; it asks
// no provider.
func (w WantedInference) Compare(route inference.Route, there bool) health.Result {
	none := w.Provider == inference.NoProvider
	switch {
	case none && !there:
		r := ok("no model provider is wanted; agents run without a model")
		r.Hints = []string{"creel inference set --provider openai --model NAME"}
		return r
	case none:
		return failed("inference-differs", "%s with model %s is set, none is wanted", route.Provider, route.Model)
	case !there:
		r := failed("inference-absent", "no provider is set, %s with model %s is wanted", w.Provider, w.Model)
		r.Absent = true
		return r
	case route.Provider != w.Provider || route.Model != w.Model || route.BaseURL != w.baseURL():
		return failed("inference-differs", "%s with model %s is set, %s with model %s is wanted", route.Provider, route.Model, w.Provider, w.Model)
	}
	return ok("%s is set, model %s", route.Provider, route.Model)
}

func (w WantedInference) baseURL() string {
	base := w.BaseURL
	if base == "" {
		p, err := inference.Lookup(w.Provider)
		if err != nil {
			return ""
		}
		base = p.BaseURL
	}
	if normal, err := inference.NormalizeURL(base); err == nil {
		return normal
	}
	return base
}

const unreachable = "provider-unreachable"

func checkReason(c inference.Class) string {
	switch c {
	case inference.ClassCredential:
		return "provider-credential"
	case inference.ClassModel:
		return "provider-model"
	case inference.ClassEndpoint:
		return "provider-endpoint"
	}
	return unreachable
}

func (i *inferenceLayer) Plan(_ context.Context, found health.Result) []Action {
	switch {
	case found.Verdict == health.OK, found.Verdict == health.Unknown && !blocked(found):
		return nil
	case i.none() && blocked(found):
		return nil // most likely there is none; if there is one, the walk finds it
	case i.none():
		return []Action{{ID: "remove-route", Title: "remove the model route; agents run without a model"}}
	case found.Reason == "provider-model", found.Reason == "provider-endpoint":
		return nil // another model or endpoint is the user's to choose
	case found.Reason == "provider-credential" && i.key().Empty():
		return nil // the stored key was refused, and there is no other
	}
	return []Action{{ID: "set-route", Title: fmt.Sprintf("check provider %s, store its credential, and let model %s answer", i.want.Provider, i.want.Model)}}
}

func (i *inferenceLayer) key() credential.Secret {
	if i.want.Key == nil {
		return credential.Secret{}
	}
	return i.want.Key()
}

func (i *inferenceLayer) Mend(ctx context.Context, do Action, report Progress) error {
	c, err := i.session.Client(ctx)
	if err != nil {
		return err
	}
	switch do.ID {
	case "remove-route":
		return c.SetRoute(ctx, "", "")
	case "set-route":
	default:
		return noSuchAction(i, do)
	}
	r := inference.Route{Provider: i.want.Provider, Type: i.want.Provider, BaseURL: i.want.baseURL(), Model: i.want.Model, Key: i.key()}
	stored, there, err := c.Route(ctx)
	if err != nil {
		return err
	}
	if r.Key.Empty() && there && stored.Provider == r.Provider && stored.BaseURL == r.BaseURL {
		// The credential is stored already; the gateway checks the new model with it.
		report("the stored credential is used again")
		return c.SetRoute(ctx, r.Provider, r.Model)
	}
	if r.Key.Empty() && !there {
		// An earlier run may have stored the provider and ended before the route.
		err := c.SetRoute(ctx, r.Provider, r.Model)
		if p, _ := advisory.Of(err); err == nil || !errors.Is(err, gateway.ErrNotFound) && (p == nil || p.ID != "provider-missing") {
			return err
		}
	}
	report("asking " + r.Provider)
	if check := i.want.Check(ctx, r); check.Class != inference.ClassOK {
		var next []string
		if checkReason(check.Class) == unreachable {
			next = append(i.start(), "creel onboard", "creel onboard --provider none")
		}
		return advisory.New(checkReason(check.Class), check.Message+"; nothing was stored", nil, next...)
	}
	if err := c.SetProvider(ctx, r); err != nil {
		return err
	}
	return c.SetRoute(ctx, r.Provider, r.Model)
}
